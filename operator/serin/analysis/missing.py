"""Requests of the canary that are missing: those that did not arrive, have not ended, or whose clients left.

No comparison contains them. A promotion needs the proof that few do not arrive (`serin.analysis.arrivals_proof`); many
that do not arrive take the canary's weight (`lost_beyond_doubt`); the others hold it (`missing`), and
`serin.reporting.caveats` warns. Only the model server counts arrivals, so without it nothing is found here.
`serin.analysis.update` updates the numbers. Specification: docs/reference/decision-engine.md, section 6. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from serin.analysis.trial_state import Epoch, TrialState
from serin.api.names import FULL_WEIGHT
from serin.evidence.share import log_e
from serin.evidence.slices import NO_REQUESTS, RequestsBySide

BEYOND_DOUBT = math.log(1000)
"""ln of the smallest evidence for which requests count as missing."""
TOLERANCE = 0.1
"""By how much the odds that a request reaches the canary may differ from the weight's; retries, for example."""
TOLERANCE_OVER_EPOCHS = 0.2
"""Lowest tolerance over several epochs: the canary's pod may have restarted in the one with its highest weight."""
SCRAPES_BEHIND = 4.0
"""How many scrapes one side can be behind the other: one for the phase, one for the reading, and two that failed."""
TIMES_IN_PROGRESS = 4.0
"""How many times more requests than its weight explains a canary may have in progress.

Its pods may have twice the load of the stable's, its caches may be cold, and its answers may be longer.
"""


@dataclass(frozen=True)
class Arrivals:
    """Requests that arrived during a trial and are known of both sides."""

    canary: int
    stable: int
    weight: float
    """The canary's weight, 0 to 1; the mean over the requests if it has changed."""
    allowance: float
    """By how much the odds may differ from the weight's."""

    @property
    def share(self) -> float:
        """The share of the requests that reached the canary, 0 to 1."""
        return self.canary / (self.canary + self.stable)


def off_weight(state: TrialState | None) -> Arrivals | None:
    """The arrivals of a trial if their share differs from the weight beyond doubt; else None.

    The newest epoch is judged alone and together with the earlier ones. While much of it may be unknown, the earlier
    ones are judged alone as well.
    """
    if state is None:
        return None
    before, newest, hidden = settled_arrivals(state), _newest(state), _hidden(state)
    whole = _arrivals(state, before | newest, hidden, TOLERANCE_OVER_EPOCHS)
    found = [_arrivals(state, newest, hidden), whole]
    if whole is None or whole.allowance > TOLERANCE_OVER_EPOCHS:
        found.append(_arrivals(state, before, 0, TOLERANCE_OVER_EPOCHS))
    return next((arrivals for arrivals in found if arrivals and _differs(arrivals)), None)


def _differs(arrivals: Arrivals) -> bool:
    return log_e(arrivals.canary, arrivals.stable, arrivals.weight, arrivals.allowance) >= BEYOND_DOUBT


def settled_arrivals(state: TrialState) -> dict[int, RequestsBySide]:
    """The arrivals of the epochs that ended so long ago that every pod has been scraped since."""
    return {
        epoch: state.arrived_before.get(epoch, NO_REQUESTS)
        for epoch, end in ended_epochs(state).items()
        if (state.until - end).total_seconds() >= SCRAPES_BEHIND * state.slice_seconds
    }


def ended_epochs(state: TrialState) -> dict[int, datetime]:
    """When each epoch but the newest ended."""
    begun = sorted(state.epochs, key=lambda epoch: state.epochs[epoch].began)
    return {epoch: state.epochs[following].began for epoch, following in pairwise(begun)}


def _newest(state: TrialState) -> dict[int, RequestsBySide]:
    """The arrivals of the newest epoch, once all pods of both sides can have been scraped in it."""
    return {state.newest: state.arrived} if state.newest is not None and _scrapes(state) > SCRAPES_BEHIND else {}


def _scrapes(state: TrialState) -> float:
    """How many scrapes the newest epoch has lasted."""
    began = state.epochs[state.newest].began if state.newest is not None else state.until
    return (state.until - began).total_seconds() / state.slice_seconds


def _hidden(state: TrialState) -> int:
    """How many arrivals of the newest epoch may be unknown, because pods are scraped at different times.

    By time and by requests: the traffic may have started just now.
    """
    if not _newest(state):
        return 0
    by_time = state.arrived.both * SCRAPES_BEHIND / _scrapes(state)
    since = state.until - timedelta(seconds=SCRAPES_BEHIND * state.slice_seconds)
    return max(sum(each.requests for each in state.newest_arrivals if each.end > since), math.ceil(by_time))


def _arrivals(
    state: TrialState, by_epoch: Mapping[int, RequestsBySide], hidden: int, tolerance: float = TOLERANCE
) -> Arrivals | None:
    """The sum over epochs in which both sides had a weight; None if all of it may be unknown of one side."""
    compared = {epoch: arrived for epoch, arrived in by_epoch.items() if 0 < state.epochs[epoch].weight < FULL_WEIGHT}
    total = sum(compared.values(), NO_REQUESTS)
    if total.both <= hidden:
        return None
    expected = sum(arrived.both * state.epochs[epoch].weight for epoch, arrived in compared.items())
    allowance = max(tolerance, TOLERANCE + hidden / (total.both - hidden))
    return Arrivals(total.canary, total.stable, expected / FULL_WEIGHT / total.both, allowance)


def too_many_in_progress(in_progress: Mapping[int, RequestsBySide], epochs: Mapping[int, Epoch]) -> bool:
    """Whether the canary has more requests in progress than TIMES_IN_PROGRESS explains, beyond doubt, at one moment.

    Of the requests of one epoch that are in progress the canary has the share that its weight is, however slow answers
    are and however young the epoch, as long as both sides answer alike. By Little's law a share above it means that the
    canary's requests take longer, without an end where they hang. `in_progress` is by epoch.
    """
    total = sum(in_progress.values(), NO_REQUESTS)
    expected = sum(each.both * epochs[epoch].weight / FULL_WEIGHT for epoch, each in in_progress.items())
    if not 0 < expected < total.canary:
        return False
    return log_e(total.canary, total.stable, expected / total.both, TIMES_IN_PROGRESS - 1) >= BEYOND_DOUBT


LEAST_COMPARED, PERCENT = FULL_WEIGHT // 20, FULL_WEIGHT // 100
NONE_OF = 20.0
"""Canary requests that must have been expected, and none arrived, before all count as lost at any weight."""
SILENT_SECONDS = 120.0
"""How long none must have arrived for that: the canary's only pod may restart (40 s) while its scrapes fail."""


def compares_arrivals(weight: int) -> bool:
    """Whether the share of arrivals at this weight is compared with it: gateways round small and broken percents."""
    return LEAST_COMPARED <= weight < FULL_WEIGHT and weight % PERCENT == 0


def surely_sent(weight: int) -> int:
    """The weight in parts of 10,000 that a gateway surely gives where this one is asked for: it may round down."""
    return weight // PERCENT * PERCENT


def lost_beyond_doubt(state: TrialState | None) -> str | None:
    """The sentence that requests of the canary are lost beyond doubt, and what to check; None if they are not."""
    if state is None or state.arrivals is None:
        return None
    check = "Check the gateway's errors and retries of the canary's Service"
    if state.lost.beyond_doubt:
        return (
            f"About {state.lost.lost:.0f} requests did not arrive at the canary since the loss began, more than a "
            f"tenth of those that its weight sends there. {check}."
        )
    silent_for = (state.until - (state.canary_arrival_at or state.since)).total_seconds()
    silent = silent_for >= max(SILENT_SECONDS, SCRAPES_BEHIND * state.slice_seconds)
    if state.expected_without_arrival >= NONE_OF and silent:
        return (
            f"About {state.expected_without_arrival:.0f} requests should have arrived at the canary, and none did. "
            f"{check}, and whether the gateway rounds its weight to 0."
        )
    return None


def requests_held_for(state: TrialState | None, *, small: bool = True) -> str | None:
    """Why requests that are missing allow the canary no more weight; None if they do. `small`: see `missing`.

    Arrivals at less than 1 % are not compared, so the evidence of a loss neither grows nor falls there, and holds
    nothing: a ramp that lowered its weight goes on, and finds at a larger weight whether requests are lost.
    """
    if state is None:
        return None
    if found := missing(state, small=small):
        return found
    compared = state.newest is not None and surely_sent(state.epochs[state.newest].weight) > 0
    if state.lost.log_e <= AGAINST or not compared:
        return None
    return (
        f"Fewer requests arrive at the canary than its weight sends there (about {state.lost.lost:.0f} are missing); "
        "its weight does not grow until more arrivals have changed that. Check the gateway's errors and retries of the "
        "canary's Service."
    )


AGAINST = 0.5
"""ln E of lost requests above which the canary gets no more weight."""


def missing(state: TrialState | None, *, small: bool = True) -> str | None:
    """The sentence that requests of the canary are missing beyond doubt, and what to check; None if none are.

    `small`: too few arrivals count at weights below 5 % too. A ramp that goes further finds there what is lost, and
    takes the weight; held below, it would go on to lose requests until its deadline.
    """
    if state is None:
        return None
    at_small = state.newest is not None and state.epochs[state.newest].weight < LEAST_COMPARED
    short = _short_of_weight(state) if small or not at_small else None
    return lost_beyond_doubt(state) or short or unfinished(state)


def unfinished(state: TrialState | None) -> str | None:
    """The sentence that requests of the canary which arrived have no answer, beyond doubt; None if all have one."""
    return None if state is None else _differently_left(state) or _crowded(state)


def _short_of_weight(state: TrialState) -> str | None:
    """Of all arrivals of the trial, at any weight, too few reached the canary."""
    arrivals = off_weight(state)
    if arrivals is None or arrivals.share >= arrivals.weight:
        return None
    gap = arrivals.stable * arrivals.weight / (1 - arrivals.weight) - arrivals.canary
    return (
        f"About {gap:.0f} requests did not arrive at the canary: of {arrivals.canary + arrivals.stable} requests "
        f"{100 * arrivals.share:.3g} % arrived there, and its weight was {100 * arrivals.weight:.3g} %. Check the "
        "gateway's errors and retries of the canary's Service."
    )


def _differently_left(state: TrialState) -> str | None:
    if not state.left.differs:
        return None
    totals = state.left.totals
    shares = [f"{100 * side.bad / max(1, side.requests):.3g} %" for side in (totals.canary, totals.stable)]
    return (
        f"Clients left {shares[0]} of {totals.n1} requests of the canary and {shares[1]} of {totals.n0} of the stable "
        "before the answer was complete. A client can cause such a difference, so it only holds the canary: look at "
        "who leaves and at the canary's latencies, then promote or abort."
    )


def _crowded(state: TrialState) -> str | None:
    """Too many must be in progress for SCRAPES_BEHIND scrapes: until then one side may only have been scraped later."""
    since = state.crowded_since
    if since is None or state.until - since < timedelta(seconds=SCRAPES_BEHIND * state.slice_seconds):
        return None
    total = sum(state.in_progress.values(), NO_REQUESTS)
    return (
        f"{total.canary} requests arrived at the canary and have not ended, against {total.stable} at the stable: more "
        f"than {TIMES_IN_PROGRESS:g} times what its weight explains. Check the canary's pods for requests that hang, "
        "and their logs."
    )
