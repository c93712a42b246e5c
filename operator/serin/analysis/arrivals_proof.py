"""The proof that few of the canary's requests are lost on the way: a promotion needs it.

It compares the canary's share of the arrivals with its weight (`serin.evidence.lost`), in the epochs that are complete
and, as far as both sides have shown them, in the newest one. Called by `serin.rollout.evidence_guards`. Specification:
docs/reference/decision-engine.md, section 6. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serin.analysis.missing import SCRAPES_BEHIND, Arrivals, compares_arrivals, ended_epochs, settled_arrivals
from serin.analysis.scraped import LeftOut
from serin.analysis.trial_state import Arrived, TrialState
from serin.api.names import FULL_WEIGHT
from serin.evidence import lost
from serin.evidence.slices import RequestsBySide

FEWEST_JUDGED = 2_000
"""Arrivals from which the estimate says that no number of further ones proves anything."""


@dataclass(frozen=True)
class ArrivalsProof:
    """How far the proof is that few of the canary's requests are lost."""

    proven: bool
    kept: float
    """The share of the canary's requests that arrived, as estimated in its favour; 1 if none are lost."""
    needed: float | None
    """Estimated number of further requests of both sides; None: no number is enough."""
    arrivals: Arrivals
    """The sum of what was compared, with the mean weight."""


def arrivals_proof(state: TrialState) -> ArrivalsProof | None:
    """The proof as of now; None if nothing was compared yet.

    All moments belong to one e-process over the epochs in their order. If too many requests are lost, it reaches 20 at
    any of them with a probability of 5 % at most, so the moment with the largest value may be taken: the end of the
    epochs that are complete, or one of those moments of the newest epoch that `_known_of_both` finds.
    """
    ended = [
        lost.Arrivals(arrived.canary, arrived.stable, state.epochs[epoch].weight / FULL_WEIGHT)
        for epoch, arrived in _known_of_ended(state)
        if compares_arrivals(state.epochs[epoch].weight) and arrived.both
    ]
    compared, moments = list(ended), [ended]
    if state.newest is not None and compares_arrivals(weight := state.epochs[state.newest].weight):
        share = weight / FULL_WEIGHT
        left = state.scraped.left_out.get(state.newest)
        arrived = _without(state.arrived, left)
        if arrived.both:
            compared.append(lost.Arrivals(arrived.canary, arrived.stable, share))
        since = state.epochs[state.newest].began + timedelta(seconds=SCRAPES_BEHIND * state.slice_seconds)
        since = max(since, left.until) if left else since
        if state.until >= since:
            known = (_without(each, left) for each in _known_of_both(state.arrived, state.newest_arrivals, since))
            moments += [[*ended, lost.Arrivals(each.canary, each.stable, share)] for each in known]
    if not compared:
        return None
    tolerated = 1 - state.loss_tolerance
    log_e = max(lost.log_e_of_few_lost(each, tolerated) for each in moments)
    canary, stable = (sum(getattr(each, side) for each in compared) for side in ("canary", "stable"))
    expected = sum((each.canary + each.stable) * each.weight for each in compared)
    total = Arrivals(canary, stable, expected / (canary + stable), 0.0)
    odds = total.weight / (1 - total.weight)
    kept = min(1.0, (canary + _not_shown_yet(state)) / max(1, stable) / odds)
    judged = 1.0 if canary + stable < FEWEST_JUDGED else kept
    needed = lost.still_needed(log_e, judged, compared[-1].weight, tolerated)
    return ArrivalsProof(log_e >= lost.PROVEN, kept, needed, total)


def _not_shown_yet(state: TrialState) -> int:
    """At most so many requests have arrived at the canary since its pods were scraped.

    The stable's pods may have been scraped later. Without this, at a high rate, the estimate would fall after each
    scrape of theirs, and say for seconds that a tenth of the requests are lost.
    """
    return max((each.canary for each in state.newest_arrivals), default=0)


def _known_of_ended(state: TrialState) -> Iterator[tuple[int, RequestsBySide]]:
    """By epoch that ended, what is compared of it, if every pod of the stable has been scraped since.

    An epoch is left out as a whole if a pod of the stable has gone that may have counted in it until its end.
    """
    ends, margin = ended_epochs(state), timedelta(seconds=state.slice_seconds)
    scraped = min(state.scraped.stable.values(), default=None)
    for epoch, arrived in settled_arrivals(state).items():
        left = state.scraped.left_out.get(epoch)
        known = scraped is None or scraped >= ends[epoch] + margin
        if known and (left is None or left.until < ends[epoch]):
            yield epoch, _without(arrived, left)


def _without(arrived: RequestsBySide, left: LeftOut | None) -> RequestsBySide:
    if left is None:
        return arrived
    not_compared = left.requests
    return RequestsBySide(max(0, arrived.canary - not_compared.canary), max(0, arrived.stable - not_compared.stable))


def _known_of_both(arrived: RequestsBySide, newest: Sequence[Arrived], since: datetime) -> Iterator[RequestsBySide]:
    """What has arrived at moments that both sides have shown: of the canary until then, of the stable at least that.

    Pods are scraped at different times, so no sample but a pod's own shows what it got until a moment. The canary's
    samples until then show too little rather than too much; samples of all pods of the stable from then on show too
    much. Both speak against the canary, whatever the traffic did. Where the times of samples are unknown, none of the
    canary's newest arrivals counts.

    Args:
        arrived: in the epoch.
        newest: those of the last intervals.
        since: earliest moment; before, pods of the stable that were not scraped in the trial yet may be unknown.
    """
    canary = arrived.canary - sum(each.canary for each in newest)
    stable = arrived.both - arrived.canary - sum(each.requests - each.canary for each in newest)
    yield RequestsBySide(canary, arrived.stable)
    counted: list[tuple[datetime, int]] = []
    found = None
    for each in newest:
        canary, stable = canary + each.canary, stable + each.requests - each.canary
        if each.canary_sampled is not None:
            counted.append((each.canary_sampled, canary))
        if (moment := each.stable_sampled) is not None and moment >= since:
            until = [count for sampled, count in counted if sampled <= moment]
            if until and until[-1] != found:  # the first of these moments has the fewest of the stable
                found = until[-1]
                yield RequestsBySide(found, stable)


def arrivals_unproven(state: TrialState | None) -> str | None:
    """The sentence that the proof of arrivals is missing, and what to do; None if it is not, or cannot be had."""
    if state is None or state.arrivals is None:
        return None
    proof = arrivals_proof(state)
    if proof is None:
        return (
            "arrivals: no request has arrived at a weight of 5 % or more in whole percents, so it is not proven that "
            "the canary's requests reach it; check that requests arrive and that the pods are scraped."
        )
    if proof.proven:
        return None
    found = (
        f"of {proof.arrivals.canary + proof.arrivals.stable} requests {100 * proof.arrivals.share:.3g} % arrived at "
        f"the canary, and its weight was {100 * proof.arrivals.weight:.3g} %"
    )
    if proof.needed is None:
        return (
            f"arrivals: about {100 * (1 - proof.kept):.0f} % of the canary's requests did not arrive at it, so it "
            f"cannot be proven that less than {100 * state.loss_tolerance:.3g} % are lost: {found}. Check the "
            f"gateway's errors, retries and rounding of weights.{_not_scraped(state)}"
        )
    return (
        f"arrivals: needs about {max(1, math.ceil(proof.needed))} more requests of both sides to prove that less than "
        f"{100 * state.loss_tolerance:.3g} % of the canary's requests are lost: {found}.{_not_scraped(state)}"
    )


def _not_scraped(state: TrialState) -> str:
    """A further sentence about pods of the stable that were not scraped for long; empty without any."""
    longest = timedelta(seconds=SCRAPES_BEHIND * state.slice_seconds)
    silent = [(at, name) for name, at in state.scraped.stable.items() if state.until - at >= longest]
    if not silent:
        return ""
    at, name = min(silent)
    whose = "1 pod" if len(silent) == 1 else f"{len(silent)} pods"
    return (
        f" Prometheus has had no count of arrivals from {whose} of the stable ({name}) for "
        f"{round((state.until - at).total_seconds())} s, and only what arrived before is compared; check that the pod "
        "is scraped and gets requests."
    )
