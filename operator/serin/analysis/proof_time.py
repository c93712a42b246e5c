"""How long a proof takes: estimates for people, from the arithmetic of the proof and the traffic. They decide nothing.

Called by `serin.analysis.verdict` for the requests that are still missing, and by `serin.reporting.caveats` at the
start of a trial. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serin.analysis.measurement import How
from serin.api.names import FULL_WEIGHT
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Totals

if TYPE_CHECKING:
    from serin.analysis.trial_state import TrialState

MINUTES_BELOW, HOURS_BELOW = 100 * 60, 48 * 3600
"""Seconds below which a duration is written in minutes, and in hours."""
RATE_AFTER_SECONDS = 60
"""After this time the trial's own traffic is taken, before it the traffic before the rollout."""
ASSUMED_BAD_RATE = 0.01
"""Bad rate of both sides before the stable has shown its own."""
KNOWN_FROM = 200
"""Requests of the stable from which on its own bad rate is taken."""


@dataclass(frozen=True)
class ProofTime:
    """What a proof takes if the canary is as good as the stable."""

    seconds: float
    canary_requests: int
    requests_per_second: float
    """Of both sides."""
    bad_rate: float
    """Of both sides."""
    assumed: bool
    """Whether that is `ASSUMED_BAD_RATE`."""


def proof_time(state: TrialState, weight: int) -> ProofTime | None:
    """The time for the proof of the Required ratio that takes longest; None if nothing is known about it.

    Args:
        state: the trial.
        weight: the highest weight of its ramp, in parts of 10,000.
    """
    rate = requests_per_second(state)
    if not rate or not 0 < weight < FULL_WEIGHT:
        return None
    found = []
    for metric in state.metrics:
        measurement, parameters = metric.measurement, metric.measurement.parameters
        if not measurement.required or measurement.how is How.ABOVE or parameters.ceiling is not None:
            continue
        stable = metric.tests.totals[0].stable
        assumed = stable.requests < KNOWN_FROM
        bad = ASSUMED_BAD_RATE if assumed else (stable.bad + 0.5) / (stable.requests + 1)
        n = round(1e6 / min(bad, 1 - bad))  # so many that rounding changes nothing
        sides = n * weight // FULL_WEIGHT, n - n * weight // FULL_WEIGHT
        alike = Totals(sides[0], round(sides[0] * bad), sides[1], round(sides[1] * bad))
        needed = NonInferiority(rho=parameters.ratio, delta=parameters.absolute).still_needed(alike)
        if needed is not None:
            found.append(ProofTime(needed / (rate * weight / FULL_WEIGHT), round(needed), rate, bad, assumed))
    return max(found, key=lambda each: each.seconds, default=None)


def requests_per_second(state: TrialState) -> float:
    """Requests per second of both sides, estimated; 0.0 if unknown."""
    elapsed = (state.until - state.since).total_seconds()
    counted = state.canary_requests + state.stable_requests
    return counted / elapsed if counted and elapsed >= RATE_AFTER_SECONDS else state.requests_per_second


def canary_rate(state: TrialState) -> float | None:
    """Requests per second of the canary at its present weight, estimated; None if that is not known."""
    newest = state.epochs.get(state.newest) if state.newest is not None else None
    return requests_per_second(state) * newest.weight / FULL_WEIGHT or None if newest else None


def significant(value: float, digits: int) -> str:
    """A number for people with so many significant digits, without an exponent: `0.0046`, `160`, `1200`."""
    return f"{float(f'{value:.{digits}g}'):.12g}"


def about(seconds: float) -> str:
    """A duration for people, rounded: `12 min`, `18 h`, `3 days`."""
    if seconds < MINUTES_BELOW:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < HOURS_BELOW:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86_400)} days"
