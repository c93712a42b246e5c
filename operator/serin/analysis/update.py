"""Adds counted intervals to the trial state, one after the other and each one once. Pure.

Called by `serin.rollout.canary`; `serin.replay.trial` uses the same arithmetic. `serin.analysis.trial_state` holds the
result, and `serin.analysis.measurement` defines what is counted. A new state is returned; the given one stays as it is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from serin.analysis.answers import Kind, kind_of_outcome
from serin.analysis.counts import Interval
from serin.analysis.measurement import Measurement
from serin.analysis.missing import ended_epochs, surely_sent, too_many_in_progress
from serin.analysis.scraped import LeftOut, Samples, Scraped, StablePods
from serin.analysis.trial_state import MOST_NEWEST, NEWEST_SLICES, Arrived, MetricState, ThroughputState, TrialState
from serin.api.names import FULL_WEIGHT
from serin.evidence.left import LeftTest
from serin.evidence.lost import Arrivals
from serin.evidence.pods_at_load import PodsAtLoad
from serin.evidence.slices import NO_REQUESTS, NOTHING, Counts, RequestsBySide, Totals, epoch_of, stratum

CountsByStratum = Mapping[int, tuple[Totals, ...]]
"""By stratum (`serin.evidence.slices.stratum`), the totals of each leaf of a metric in one interval."""


def advance(
    state: TrialState, intervals: Iterable[Interval], *, canary: str, stable: str, pods: StablePods | None = None
) -> TrialState:
    """The state after these intervals; an interval that does not follow the one before without a gap is ignored.

    Args:
        state: the state before.
        intervals: oldest first.
        canary: its revision.
        stable: its revision.
        pods: the stable's pods; None if they are not known.
    """
    for interval in intervals:
        if interval.begin == state.until:
            state = _after(state, interval, canary, stable, pods)
    return state


def _after(state: TrialState, interval: Interval, canary: str, stable: str, pods: StablePods | None) -> TrialState:
    counts, metrics = [], []
    for metric in state.metrics:
        by_stratum = counts_by_stratum(state, metric.measurement, interval, canary, stable)
        for_proof = None
        if metric.measurement.proof_differs:
            for_proof = counts_by_stratum(state, metric.measurement, interval, canary, stable, for_proof=True)
        counts.append(by_stratum)
        tested = _tests_after(state, metric, interval, by_stratum, for_proof)
        metrics.append(_metric_after(tested, interval, stable, pooled=state.slice_seconds))
    throughputs = [_throughput_after(state, each, interval, canary, stable) for each in state.throughputs]
    canary_ended = any(leaves[0].n1 for by_stratum in counts for leaves in by_stratum.values())
    after = _with_progress(_with_arrivals(state, interval, canary, stable, pods), interval, canary, stable)
    after = replace(after, left=left_after(state, interval, canary, stable))
    return replace(
        after,
        until=interval.end,
        metrics=tuple(metrics),
        throughputs=tuple(throughputs),
        expected_without_sample=0.0 if canary_ended else state.expected_without_sample + _expected(state, counts),
        canary_sample_at=interval.end if canary_ended else state.canary_sample_at,
    )


def _tests_after(
    state: TrialState,
    metric: MetricState,
    interval: Interval,
    counts: CountsByStratum,
    for_proof: CountsByStratum | None,
) -> MetricState:
    tests = metric.tests
    for key in in_order(state, counts):
        epoch = epoch_of(key)
        tests = tests.add(
            counts[key],
            t=seconds_of(state, interval),
            epoch=key,
            settled=is_settled(state, epoch, interval.end_by_clock, metric.measurement),
            young=stays_open(state, epoch, interval.begin_by_clock, metric.measurement),
            for_proof=for_proof[key] if for_proof is not None else None,
        )
    return replace(metric, tests=tests.nothing_ended(counts))


def _metric_after(metric: MetricState, interval: Interval, stable: str, *, pooled: float) -> MetricState:
    """With what an interval says about the metric itself: whether it can be compared, and the stable's pods."""
    measurement, noise, seconds = metric.measurement, metric.noise, _seconds(interval.end - interval.begin)
    if measurement.lacks_shared_bounds(interval):
        metric = replace(metric, tests=replace(metric.tests, incomparable=True))
    if not measurement.compares_pods:
        return metric
    if isinstance(noise, PodsAtLoad):
        return replace(metric, noise=noise.add(measurement.cells_by_process(interval, stable), seconds))
    processes = _by_process(measurement, interval, stable)
    return replace(metric, noise=noise.add(processes, seconds, pooled=pooled))


def _throughput_after(
    state: TrialState, each: ThroughputState, interval: Interval, canary: str, stable: str
) -> ThroughputState:
    sums = {canary: each.canary, stable: each.stable}
    for (revision, label), generated in each.throughput.generated(interval).items():
        if revision in sums and _counted_epoch(state, label, interval) is not None:
            sums[revision] += generated
    return ThroughputState(each.throughput, sums[canary], sums[stable])


def _with_arrivals(
    state: TrialState, interval: Interval, canary: str, stable: str, pods: StablePods | None
) -> TrialState:
    points = interval.counts.get(state.arrivals, {}) if state.arrivals else {}
    newest, before = NO_REQUESTS, dict(state.arrived_before)
    compared, expected = [], 0.0
    for epoch, period in state.epochs.items():
        arrived = RequestsBySide(*(points.get((side, epoch, ""), 0) for side in (canary, stable)))
        if 0 < (sent := surely_sent(period.weight)) < FULL_WEIGHT:
            compared.append(Arrivals(arrived.canary, arrived.stable, sent / FULL_WEIGHT))
        if period.weight:
            expected += _per_stable_request(period.weight) * arrived.stable
        if epoch == state.newest:
            newest = arrived
        elif arrived.both:
            before[epoch] = before.get(epoch, NO_REQUESTS) + arrived
    scraped = _scraped_after(state, interval, canary, stable, pods, arrived=state.arrived + newest)
    known = scraped.stable_until(state.since, interval.end, pods, state.slice_seconds)
    recent = list(state.newest_arrivals)
    if newest.both:
        of_canary = interval.sampled.get(canary, {}).values()
        recent.append(
            Arrived(
                interval.end,
                newest.both,
                newest.canary,
                canary_sampled=max(of_canary, default=None),
                stable_sampled=known,
            )
        )
    at_canary = any(revision == canary for revision, _, _ in points)
    return replace(
        state,
        arrived=state.arrived + newest,
        arrived_before=before,
        newest_arrivals=_not_known_of_both(recent, known, interval.end, state.slice_seconds),
        scraped=scraped,
        lost=state.lost.add(compared, seconds_of(state, interval)),
        canary_arrival_at=interval.end if at_canary else state.canary_arrival_at,
        expected_without_arrival=0.0 if at_canary else state.expected_without_arrival + expected,
    )


def _scraped_after(
    state: TrialState, interval: Interval, canary: str, stable: str, pods: StablePods | None, *, arrived: RequestsBySide
) -> Scraped:
    """When pods were scraped. Where one of the stable has gone, the epochs that it may have counted in begin again.

    `arrived`: in the newest epoch, up to the end of the interval.
    """
    samples = Samples(interval.end, interval.sampled.get(canary, {}), interval.sampled.get(stable, {}))
    before, newest = state.scraped, state.newest
    scraped = before.add(samples, pods, state.slice_seconds)
    if newest is None:
        return scraped
    if (gone_since := before.gone_since(scraped)) is not None:
        margin = timedelta(seconds=state.slice_seconds)
        cut = [epoch for epoch, end in ended_epochs(state).items() if end + margin > gone_since]
        until = pods.at + interval.ahead if pods else interval.end
        scraped = scraped.leave_out([*cut, newest], LeftOut(until, arrived))
    return scraped.count_left_out(newest, before, samples, arrived, state.slice_seconds)


def _not_known_of_both(
    arrived: Sequence[Arrived], known: datetime | None, end: datetime, slice_seconds: float
) -> tuple[Arrived, ...]:
    """Without the oldest arrivals: those whose samples of the canary the stable's have reached, after four slices.

    Pods are scraped at different times, so only one side of the newest may be known. Where one pod of the stable has
    not been scraped for long, the oldest are summed, with the later time of the canary's samples.
    """
    kept = deque(arrived)
    while kept and _seconds(end - kept[0].end) >= NEWEST_SLICES * slice_seconds:
        at = kept[0].canary_sampled
        if at is not None and known is not None and at > known:
            break
        kept.popleft()
    while len(kept) > MOST_NEWEST:
        first, second = kept.popleft(), kept.popleft()
        both = replace(
            second,
            requests=first.requests + second.requests,
            canary=first.canary + second.canary,
            canary_sampled=max((at for at in (first.canary_sampled, second.canary_sampled) if at), default=None),
        )
        kept.appendleft(both)
    return tuple(kept)


def left_after(state: TrialState, interval: Interval, canary: str, stable: str) -> LeftTest:
    """The test of clients that left, with the answers of one interval.

    Epochs that are young are left out: clients leave soon, and slow answers are not there yet.
    """
    sums = {canary: Counts(), stable: Counts()}
    for (revision, epoch, outcome), count in interval.counts.get(state.ended, {}).items() if state.ended else ():
        counted = _counted_epoch(state, epoch, interval)
        if revision in sums and counted is not None and not is_young(state, counted, interval.begin_by_clock):
            sums[revision] += Counts(count, count * (kind_of_outcome(outcome) is Kind.LEFT))
    return state.left.add(_totals(sums[canary], sums[stable]), seconds_of(state, interval))


def _with_progress(state: TrialState, interval: Interval, canary: str, stable: str) -> TrialState:
    read = interval.in_progress or {}
    in_progress = {
        epoch: RequestsBySide(read.get((canary, epoch), 0), read.get((stable, epoch), 0))
        for epoch, period in state.epochs.items()
        if 0 < period.weight < FULL_WEIGHT and read.keys() & {(canary, epoch), (stable, epoch)}
    }
    crowded = too_many_in_progress(in_progress, state.epochs)
    return replace(
        state, in_progress=in_progress, crowded_since=(state.crowded_since or interval.end) if crowded else None
    )


def seconds_of(state: TrialState, interval: Interval) -> float:
    """Where an interval ends, in seconds since the canary's first traffic."""
    return max(0.0, _seconds(interval.end - state.since))


def is_young(state: TrialState, epoch: int, moment: datetime) -> bool:
    """Whether slow answers of the epoch may still be missing on one side."""
    return _seconds(moment - state.epochs[epoch].began) < state.young_seconds


def is_settled(state: TrialState, epoch: int, moment: datetime, measurement: Measurement) -> bool:
    """Whether the epoch had lasted so long that its counts are part of a proof."""
    settle = measurement.settle_seconds
    return _seconds(moment - state.epochs[epoch].began) >= (state.settle_seconds if settle is None else settle)


def stays_open(state: TrialState, epoch: int, moment: datetime, measurement: Measurement) -> bool:
    """Whether the epoch's stratum stays open, however large it is; see `ConditionalTest.add`."""
    young = state.young_seconds if measurement.young_seconds is None else measurement.young_seconds
    return _seconds(moment - state.epochs[epoch].began) < young


def in_order(state: TrialState, counts: CountsByStratum) -> list[int]:
    """The keys of the strata, those of older epochs first."""
    return sorted(counts, key=lambda key: (state.epochs[epoch_of(key)].began, key))


def counts_by_stratum(
    state: TrialState,
    measurement: Measurement,
    interval: Interval,
    canary: str,
    stable: str,
    *,
    for_proof: bool = False,
) -> CountsByStratum:
    """The totals of both sides by stratum and leaf, without epochs of an earlier trial and without moments of doubt."""
    by_stratum: dict[int, tuple[Totals, ...]] = {}
    cells = measurement.by_cell(interval, canary=canary, for_proof=for_proof)
    for (revision, label, cell), leaves in cells.items():
        epoch = _counted_epoch(state, label, interval)
        if epoch is None or revision not in {canary, stable}:
            continue
        more = [_totals(canary=c) if revision == canary else _totals(stable=c) for c in leaves]
        key = stratum(epoch, cell)
        known = by_stratum.get(key, (NOTHING,) * len(more))
        by_stratum[key] = tuple(total + each for total, each in zip(known, more, strict=True))
    return by_stratum


def _totals(canary: Counts = Counts(), stable: Counts = Counts()) -> Totals:  # noqa: B008 - it is immutable
    return Totals(canary.requests, canary.bad, stable.requests, stable.bad)


def _by_process(measurement: Measurement, interval: Interval, stable: str) -> dict[str, tuple[Counts, ...]]:
    """The stable's counts by process and leaf, over all epochs.

    Pods are scraped at different times, so at the end of an epoch, when only slow answers come, pods would seem to
    differ. Over all epochs together the stable's traffic is never much less than it was.
    """
    found: dict[str, tuple[Counts, ...]] = {}
    for process, by_revision in measurement.counts_by_process(interval).items():
        of_stable = [leaves for (revision, _), leaves in by_revision.items() if revision == stable]
        if of_stable:
            found[process] = tuple(sum(leaf, Counts()) for leaf in zip(*of_stable, strict=True))
    return found


def _counted_epoch(state: TrialState, label: int | None, interval: Interval) -> int | None:
    """The epoch of counts with this label if they are compared, else None."""
    epoch = _epoch_of(state, interval) if label is None else label
    known = state.epochs.get(epoch) if epoch is not None else None
    return epoch if known is not None and known.weight else None


def _epoch_of(state: TrialState, interval: Interval) -> int | None:
    """The epoch of a whole interval; None if requests of the epoch before may have ended in it."""
    blank = timedelta(seconds=state.blank_seconds)
    running = [(period.began, epoch) for epoch, period in state.epochs.items() if period.began < interval.end]
    if not running:
        return None
    began, epoch = max(running)
    return epoch if began + blank <= interval.begin_by_clock else None


def _expected(state: TrialState, counts: Iterable[CountsByStratum]) -> float:
    """How many canary requests the stable's requests lead to expect, by the metric that counts most of them."""
    return max(
        (
            sum(
                _per_stable_request(state.epochs[epoch_of(key)].weight) * leaves[0].n0
                for key, leaves in by_stratum.items()
            )
            for by_stratum in counts
        ),
        default=0.0,
    )


def _per_stable_request(weight: int) -> float:
    """How many canary requests one of the stable leads to expect: with n expected, none has probability exp(-n).

    At a small weight this is the ratio of the weights; at 98 % it is 3.9 and not 49.
    """
    return -math.log1p(-min(weight, FULL_WEIGHT - 1) / FULL_WEIGHT)


def _seconds(span: timedelta) -> float:
    return span.total_seconds()
