"""Requests of the canary that are missing: those that did not arrive at its pods, and those that have not ended.

Neither becomes an answer, so no metric contains them. While requests are missing, the guard
`canary_requests_are_missing` holds the canary and the adaptive ramp does not raise its weight;
`serin.reporting.caveats` warns. Only the model server counts arrivals, so without it nothing is found here.
`serin.analysis.update` updates the numbers. Pure.
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
    before, newest, hidden = _settled(state), _newest(state), _hidden(state)
    whole = _arrivals(state, before | newest, hidden, TOLERANCE_OVER_EPOCHS)
    found = [_arrivals(state, newest, hidden), whole]
    if whole is None or whole.allowance > TOLERANCE_OVER_EPOCHS:
        found.append(_arrivals(state, before, 0, TOLERANCE_OVER_EPOCHS))
    return next((arrivals for arrivals in found if arrivals and _differs(arrivals)), None)


def _differs(arrivals: Arrivals) -> bool:
    return log_e(arrivals.canary, arrivals.stable, arrivals.weight, arrivals.allowance) >= BEYOND_DOUBT


def _settled(state: TrialState) -> dict[int, RequestsBySide]:
    """The arrivals of the epochs that ended so long ago that every pod has been scraped since."""
    begun = sorted(state.epochs, key=lambda epoch: state.epochs[epoch].began)
    return {
        epoch: state.arrived_before.get(epoch, NO_REQUESTS)
        for epoch, following in pairwise(begun)
        if (state.until - state.epochs[following].began).total_seconds() >= SCRAPES_BEHIND * state.slice_seconds
    }


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
    return max(sum(each.requests for each in state.newest_arrivals), math.ceil(by_time))


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


def missing(state: TrialState | None) -> str | None:
    """The sentences that say which requests of the canary are missing, and what to check; None if none are.

    Too many must be in progress for SCRAPES_BEHIND scrapes: until then one side may only have been scraped later.
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
    if since is None or state.until - since < timedelta(seconds=SCRAPES_BEHIND * state.slice_seconds):
        return None
    total = sum(state.in_progress.values(), NO_REQUESTS)
    return (
        f"{total.canary} requests arrived at the canary and have not ended, against {total.stable} at the stable: more "
        f"than {TIMES_IN_PROGRESS:g} times what its weight explains. Check the canary's pods for requests that hang, "
        "and their logs."
    )
