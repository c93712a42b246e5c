"""From what was read to what is tested: intervals are taken into account one after the other, each once. Pure.

Called by `serin.rollout.canary`; `serin.replay.trial` uses the same arithmetic. What is remembered in between is
in `serin.analysis.trial_state`, what a count means in `serin.analysis.measurement`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from serin.analysis.counts import Interval
from serin.analysis.measurement import Measurement, Throughput
from serin.analysis.missing import too_many_in_progress
from serin.analysis.trial_state import LATELY, MOST_LATELY, TrialState
from serin.api.names import FULL_WEIGHT
from serin.evidence.slices import together


def advance(state: TrialState, intervals: Iterable[Interval], *, canary: str, stable: str) -> TrialState:
    """The state after these intervals; one that does not follow without a gap is left alone."""
    following = _following(intervals, state.until)
    if not following:
        return state
    # Copied once: what follows changes the tests in place.
    evidence, noise = copy.deepcopy((state.evidence, state.noise))
    state = replace(state, evidence=evidence, noise=noise)
    for interval in following:
        state = _after(state, interval, canary, stable)
    return state


def _after(state: TrialState, interval: Interval, canary: str, stable: str) -> TrialState:
    shown = [counted_by_epoch(state, measurement, interval, canary, stable) for measurement in state.measurements]
    for metric, by_epoch in zip(state.evidence, shown, strict=True):
        for epoch in sorted(by_epoch, key=lambda e: state.epochs[e].began):
            metric.add(
                by_epoch[epoch],
                t=seconds_of(state, interval),
                epoch=epoch,
                settled=_seconds(interval.end - state.epochs[epoch].began) >= state.settle_seconds,
                young=is_young(state, epoch, interval.begin),
            )
        metric.nothing_ended(by_epoch)
    for measurement, metric, among in zip(state.measurements, state.evidence, state.noise, strict=True):
        metric.incomparable |= measurement.lacks_shared_bounds(interval)
        if processes := _by_process(measurement, interval, stable) if measurement.compares_pods else {}:
            among.add(processes, _seconds(interval.end - interval.begin))
    state = _with_arrivals(_with_tokens(state, interval, canary, stable), interval, canary, stable)
    state = _with_progress(state, interval, canary, stable)
    if any(counts[0][0] for by_epoch in shown for counts in by_epoch.values()):
        return replace(state, until=interval.end, unseen=0.0, seen_at=interval.end)
    return replace(state, until=interval.end, unseen=state.unseen + _expected(state, shown))


def _with_tokens(state: TrialState, interval: Interval, canary: str, stable: str) -> TrialState:
    generated = list(state.generated)
    for index, throughput in enumerate(state.throughputs):
        for (more,) in counted_by_epoch(state, throughput, interval, canary, stable).values():
            generated[index] = together(generated[index], more)
    return replace(state, generated=tuple(generated))


def _with_arrivals(state: TrialState, interval: Interval, canary: str, stable: str) -> TrialState:
    points = interval.counts.get(state.arrivals, {}) if state.arrivals else {}
    came = {epoch: tuple(points.get((side, epoch, ""), 0) for side in (canary, stable)) for epoch in state.epochs}
    came1, came0 = came.pop(state.newest, (0, 0)) if state.newest is not None else (0, 0)
    before = dict(state.arrived_before)
    for epoch, (late1, late0) in came.items():
        if late1 or late0:
            known1, known0 = before.get(epoch, (0, 0))
            before[epoch] = (known1 + late1, known0 + late0)
    # Of who came last one side may know nothing yet: its pods are not scraped at one moment.
    lately = [
        (end, number) for end, number in state.lately if _seconds(interval.end - end) < LATELY * state.slice_seconds
    ]
    if came1 or came0:
        lately.append((interval.end, came1 + came0))
    arrived1, arrived0 = state.arrived
    arrived = (arrived1 + came1, arrived0 + came0)
    return replace(state, arrived=arrived, arrived_before=before, lately=tuple(lately[-MOST_LATELY:]))


def _with_progress(state: TrialState, interval: Interval, canary: str, stable: str) -> TrialState:
    told = interval.in_progress or {}
    in_progress = {
        epoch: (told.get((canary, epoch), 0), told.get((stable, epoch), 0))
        for epoch, about in state.epochs.items()
        if 0 < about.weight < FULL_WEIGHT and told.keys() & {(canary, epoch), (stable, epoch)}
    }
    crowded = too_many_in_progress(in_progress, state.epochs)
    return replace(
        state, in_progress=in_progress, crowded_since=(state.crowded_since or interval.end) if crowded else None
    )


def _following(intervals: Iterable[Interval], until: datetime) -> list[Interval]:
    following: list[Interval] = []
    for interval in intervals:
        if interval.begin == (following[-1].end if following else until):
            following.append(interval)
    return following


def seconds_of(state: TrialState, interval: Interval) -> float:
    """Where an interval ends, in seconds since the canary's first traffic."""
    return max(0.0, _seconds(interval.end - state.since))


def is_young(state: TrialState, epoch: int, moment: datetime) -> bool:
    """Whether slow answers of the epoch may still be missing on one side."""
    return _seconds(moment - state.epochs[epoch].began) < state.young_seconds


def counted_by_epoch(
    state: TrialState, measurement: Measurement | Throughput, interval: Interval, canary: str, stable: str
) -> dict[int, list[tuple[int, int, int, int]]]:
    """Counts of both sides by epoch and leaf; epochs of an earlier trial, and moments of doubt, are left out."""
    by_epoch: dict[int, list[tuple[int, int, int, int]]] = {}
    for (revision, labelled), pairs in measurement.counts(interval).items():
        epoch = _epoch_of(state, interval) if labelled is None else labelled
        known = state.epochs.get(epoch) if epoch is not None else None
        if epoch is None or known is None or not known.weight or revision not in {canary, stable} or not pairs:
            continue
        have = by_epoch.setdefault(epoch, [(0, 0, 0, 0)] * len(pairs))
        by_epoch[epoch] = [
            (n1 + n, x1 + x, n0, x0) if revision == canary else (n1, x1, n0 + n, x0 + x)
            for (n1, x1, n0, x0), (n, x) in zip(have, pairs, strict=True)
        ]
    return by_epoch


def _by_process(measurement: Measurement, interval: Interval, stable: str) -> dict[str, list[tuple[int, int]]]:
    """Counts of the stable by process and leaf, whatever the epoch.

    Pods are not scraped at one moment, so the end of an epoch, in which only slow answers come, would be a difference
    between them. All epochs together flow evenly: what the stable gets is never much less than it was.
    """
    shown: dict[str, list[tuple[int, int]]] = {}
    for process, sides in measurement.by_process(interval).items():
        pairs = [pairs for (revision, _), pairs in sides.items() if revision == stable]
        if pairs:
            shown[process] = [(sum(n for n, _ in leaf), sum(x for _, x in leaf)) for leaf in zip(*pairs, strict=True)]
    return shown


def _epoch_of(state: TrialState, interval: Interval) -> int | None:
    """The epoch that a whole interval lies in, late enough that answers of the one before are over; None: in doubt."""
    blank = timedelta(seconds=state.blank_seconds)
    running = [(told.began, epoch) for epoch, told in state.epochs.items() if told.began < interval.end]
    if not running:
        return None
    began, epoch = max(running)
    return epoch if began + blank <= interval.begin else None


def _expected(state: TrialState, shown: list[dict[int, list[tuple[int, int, int, int]]]]) -> float:
    """How many requests of the canary the stable's make expect, by the metric that sees most of them."""
    return max(
        (
            sum(_share(state.epochs[epoch].weight) * counts[0][2] for epoch, counts in by_epoch.items())
            for by_epoch in shown
        ),
        default=0.0,
    )


def _share(weight: int) -> float:
    """What one request of the stable promises of the canary: n promised and none there has a chance of exp(-n).

    At small weights that is their ratio; at 98 % it is 3.9 and not 49.
    """
    return -math.log1p(-min(weight, FULL_WEIGHT - 1) / FULL_WEIGHT)


def _seconds(span: timedelta) -> float:
    return span.total_seconds()
