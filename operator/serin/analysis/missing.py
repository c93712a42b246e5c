"""Requests of the canary that are missing: those that did not arrive at its pods, and those that have not ended.

Neither is ever counted as an answer, so no metric sees them. The guard `canary_requests_are_missing` holds the
canary meanwhile; the adaptive ramp and `serin.reporting.caveats` read the same. Only the model server counts arrivals:
where the gateway counts, nothing is known here. `serin.analysis.update` updates the numbers. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from serin.analysis.trial_state import Epoch, TrialState
from serin.api.names import FULL_WEIGHT
from serin.evidence.share import log_e

BEYOND_DOUBT = math.log(1000)
"""ln of the evidence from which on requests are said to be missing."""
TOLERANCE = 0.1
"""By how much the odds that a request reaches the canary may differ from the weight's; retries, for example."""
TOLERANCE_OVER_EPOCHS = 0.2
"""The least over several epochs: the canary's pod may have restarted in the one in which its weight was highest."""
UNSEEN_SCRAPES = 4.0
"""So many scrapes one side may be behind the other: a phase of one, the reading of one, and two that failed."""
TIMES_IN_PROGRESS = 4.0
"""How many times more requests than its weight explains a canary may have in progress.

Its pods may have twice the load of the stable's, its caches may be cold, and its answers may be longer.
"""


@dataclass(frozen=True)
class Arrivals:
    """Requests that arrived during a trial, as far as both sides have shown theirs."""

    canary: int
    stable: int
    weight: float
    """The canary's, 0..1; the mean over the requests where it has changed."""
    allowance: float
    """By how much the odds may differ from the weight's."""

    @property
    def share(self) -> float:
        """Of all requests, those that reached the canary, 0..1."""
        return self.canary / (self.canary + self.stable)


def off_weight(state: TrialState | None) -> Arrivals | None:
    """The arrivals of a trial where their share differs from the weight beyond doubt; else None.

    The newest epoch is judged alone and with those before it; while much of it may be hidden, those before it alone.
    """
    if state is None:
        return None
    before, newest, hidden = _settled(state), _newest(state), _hidden(state)
    whole = _arrivals(state, before | newest, hidden, TOLERANCE_OVER_EPOCHS)
    found = [_arrivals(state, newest, hidden), whole]
    if whole is None or whole.allowance > TOLERANCE_OVER_EPOCHS:
        found.append(_arrivals(state, before, 0, TOLERANCE_OVER_EPOCHS))
    return next((arrivals for arrivals in found if arrivals and _differs(arrivals)), None)


def _differs(arrivals: Arrivals) -> bool:
    return log_e(arrivals.canary, arrivals.stable, arrivals.weight, arrivals.allowance) >= BEYOND_DOUBT


def _settled(state: TrialState) -> dict[int, tuple[int, int]]:
    """The arrivals of the epochs that ended so long ago that both sides have shown all of theirs."""
    begun = sorted(state.epochs, key=lambda epoch: state.epochs[epoch].began)
    return {
        epoch: state.arrived_before.get(epoch, (0, 0))
        for epoch, following in pairwise(begun)
        if (state.until - state.epochs[following].began).total_seconds() >= UNSEEN_SCRAPES * state.slice_seconds
    }


def _newest(state: TrialState) -> dict[int, tuple[int, int]]:
    """The arrivals of the newest epoch, once all pods of both sides can have been scraped in it."""
    return {state.newest: state.arrived} if state.newest is not None and _scrapes(state) > UNSEEN_SCRAPES else {}


def _scrapes(state: TrialState) -> float:
    """How many scrapes the newest epoch has lasted."""
    began = state.epochs[state.newest].began if state.newest is not None else state.until
    return (state.until - began).total_seconds() / state.slice_seconds


def _hidden(state: TrialState) -> int:
    """As many arrivals of the newest epoch one side may not have shown: pods are not scraped at one moment.

    By time and by requests, since traffic may have come just now.
    """
    if not _newest(state):
        return 0
    by_time = sum(state.arrived) * UNSEEN_SCRAPES / _scrapes(state)
    return max(sum(came for _, came in state.lately), math.ceil(by_time))


def _arrivals(
    state: TrialState, by_epoch: Mapping[int, tuple[int, int]], hidden: int, tolerance: float = TOLERANCE
) -> Arrivals | None:
    """The sum over epochs in which both sides had a weight; None where all of it may be hidden."""
    compared = {epoch: sides for epoch, sides in by_epoch.items() if 0 < state.epochs[epoch].weight < FULL_WEIGHT}
    canary, stable = (sum(sides[side] for sides in compared.values()) for side in (0, 1))
    if canary + stable <= hidden:
        return None
    promised = sum(sum(sides) * state.epochs[epoch].weight for epoch, sides in compared.items())
    allowance = max(tolerance, TOLERANCE + hidden / (canary + stable - hidden))
    return Arrivals(canary, stable, promised / FULL_WEIGHT / (canary + stable), allowance)


def too_many_in_progress(in_progress: Mapping[int, tuple[int, int]], epochs: Mapping[int, Epoch]) -> bool:
    """Whether the canary has more requests in progress than TIMES_IN_PROGRESS explains, beyond doubt, at one moment.

    Of the requests of one epoch that are in progress the canary has the share that its weight is, however slow answers
    are and however young the epoch, as long as both sides answer alike. By Little's law a share above it means that the
    canary's requests take longer, without an end where they hang. `in_progress` is by epoch, canary and stable.
    """
    canary, stable = (sum(sides[side] for sides in in_progress.values()) for side in (0, 1))
    expected = sum((n1 + n0) * epochs[epoch].weight / FULL_WEIGHT for epoch, (n1, n0) in in_progress.items())
    if not 0 < expected < canary:
        return False
    weight = expected / (canary + stable)
    return log_e(canary, stable, weight, TIMES_IN_PROGRESS - 1) >= BEYOND_DOUBT


def missing(state: TrialState | None) -> str | None:
    """The sentences that tell which requests of the canary are missing, and what to check; None where none is.

    Requests in progress must have been too many for UNSEEN_SCRAPES scrapes: for less, one side is only seen later.
    """
    if state is None:
        return None
    arrivals = off_weight(state)
    if arrivals and arrivals.share < arrivals.weight:
        lost = arrivals.stable * arrivals.weight / (1 - arrivals.weight) - arrivals.canary
        return (
            f"About {lost:.0f} requests did not arrive at the canary: of {arrivals.canary + arrivals.stable} requests "
            f"{100 * arrivals.share:.3g} % arrived there, and its weight was {100 * arrivals.weight:.3g} %. Check the "
            "gateway's errors and retries of the canary's Service."
        )
    since = state.crowded_since
    if since is None or state.until - since < timedelta(seconds=UNSEEN_SCRAPES * state.slice_seconds):
        return None
    canary, stable = (sum(sides[side] for sides in state.in_progress.values()) for side in (0, 1))
    return (
        f"{canary} requests arrived at the canary and have not ended, against {stable} at the stable: more than "
        f"{TIMES_IN_PROGRESS:g} times what its weight explains. Check the canary's pods for requests that hang, and "
        "their logs."
    )
