"""The verdict of the operator's own code on one trial: measurement, tests, proof and comparison of pods.

Called by the tests, which compare it with `compare.by_load`, and by `main`. Slower than that by far.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np

from bench.decision.kernel import Floats
from bench.podsim.compare import SETTLE_AT_LEAST, Verdict
from bench.podsim.trial import BUCKETS, SCRAPE, Scenario, Series, play
from serin.analysis.counts import Baseline, Interval, Point, Tally
from serin.analysis.measurement import Measurement, times
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.trial_state import MetricState, TrialState, begin_epoch
from serin.analysis.update import advance
from serin.api.analysis import Analysis, Metric
from serin.evidence import conditional

PRESETS = {
    "ttft": ("TimeToFirstToken", "serin_time_to_first_token_seconds_bucket"),
    "tpot": ("TimePerOutputToken", "serin_request_time_per_output_token_seconds_bucket"),
    "e2e": ("EndToEndLatency", "serin_e2e_request_latency_seconds_bucket"),
    "queue": ("QueueTime", "serin_request_queue_time_seconds_bucket"),
}
"""By metric, the preset and the plain histogram."""
CANARY, STABLE = "aaaaaaaaaa", "bbbbbbbbbb"
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def measure(scenario: Scenario, cumulative: Floats) -> Measurement:
    """The measurement that the operator pins for this stable: `errors` and the latency are Required."""
    preset, histogram = PRESETS[scenario.metric]
    bounds = [*(str(float(bound)) for bound in BUCKETS[scenario.metric]), "+Inf"]
    baseline = Baseline(
        _BEGAN,
        scenario.per_pod * scenario.replicas,
        {Tally(histogram, by="le"): dict(zip(bounds, cumulative.tolist(), strict=True))},
    )
    analysis = Analysis(metrics=(Metric(name="errors", preset="ErrorRate"), Metric(name="latency", preset=preset)))
    made = measurements(analysis, DEFAULT_SERIES, baseline, measured=True, at_load=True)
    return next(each for each in made if each.name == "latency")


def by_operator(scenario: Scenario, seed: int) -> tuple[Verdict, Series]:
    """Play a trial and feed its scrapes to the operator's code, one interval after the other."""
    pinned: list[Measurement] = []

    def choose(cumulative: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
        pinned.append(measure(scenario, cumulative))
        p = pinned[0].parameters
        return p.boundaries, tuple(sorted({p.margin, p.ratio}))

    series = play(scenario, seed, choose)
    measurement = pinned[0]
    state = TrialState(
        trial=f"{CANARY}@1",
        since=_BEGAN,
        until=_BEGAN,
        metrics=(MetricState.begin(measurement),),
        epochs={},
        requests_per_second=scenario.per_pod * scenario.replicas,
        settle_seconds=max(SETTLE_AT_LEAST, series.answer_q999),
        blank_seconds=SETTLE_AT_LEAST,
        against=STABLE,
        young_seconds=conditional.young_seconds(series.answer_q90, SCRAPE),
    )
    rolled, steps = None, dict(scenario.steps)
    number = {begin: epoch for epoch, (begin, _) in enumerate(scenario.steps)}
    last = int(scenario.seconds / SCRAPE)
    rows = np.searchsorted(series.slice, np.arange(last + 1))
    for at, (first, end) in enumerate(pairwise(rows)):
        begin = at * SCRAPE
        if begin in steps:
            state = begin_epoch(state, number[int(begin)], steps[int(begin)], _at(begin))
        state = advance(state, [_interval(series, measurement, at, range(first, end))], canary=CANARY, stable=STABLE)
        if rolled is None and state.metrics[0].tests.rolled_back:
            rolled = begin + SCRAPE
    metric = state.metrics[0]
    leaf = metric.tests.comparisons[0]
    proven = metric.tests.proven and not metric.tests.little_overlap
    return Verdict(rolled, proven, noisy=metric.noise.noisy, overlap=leaf.overlap), series


def _at(seconds: float) -> datetime:
    return _BEGAN + timedelta(seconds=seconds)


def _interval(series: Series, measurement: Measurement, at: int, rows: range) -> Interval:
    """What the collector reads of one round of scrapes."""
    total, bad, lists = measurement.total, measurement.bad, measurement.at_load
    if bad is None or lists is None:
        raise ValueError("the operator does not count this latency by load")
    counts: dict[Tally, dict[Point, int]] = {total: {}, bad: {}}
    by_process: dict[Tally, dict[str, dict[Point, int]]] = {total: {}, bad: {}}

    def grow(tally: Tally, pod: str | None, point: Point, n: int) -> None:
        counts[tally][point] = counts[tally].get(point, 0) + n
        if pod is not None:
            own = by_process[tally].setdefault(pod, {})
            own[point] = own.get(point, 0) + n

    for row in rows:
        canary = bool(series.canary[row])
        revision, pod = (CANARY, None) if canary else (STABLE, str(series.pod[row]))
        epoch = int(series.epoch[row])
        cell = f"{('low', 'high')[series.cached[row]]},{series.load[row]}"
        grow(total, pod, (revision, epoch, cell), int(series.requests[row]))
        for index, bound in enumerate(series.boundaries.tolist()):
            if not canary:
                if n := int(series.above[row, 0, index]):
                    grow(bad, pod, (revision, epoch, f"{cell},{lists.stable.index(bound)}"), n)
                continue
            for which, factor in enumerate(series.scenario.times, start=1):
                if n := int(series.above[row, which, index]):
                    number = lists.canary.index(times(bound, factor))
                    grow(bad, pod, (revision, epoch, f"{cell},{number}"), n)
    return Interval(_at(at * SCRAPE), _at((at + 1) * SCRAPE), counts, by_process=by_process)
