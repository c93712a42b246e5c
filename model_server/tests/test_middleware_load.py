"""Load of a request, and the counters by load that the split document asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from model_server.serin_model_server import outcome as outcomes
from model_server.serin_model_server.document import LOAD_BUCKETS, Measure
from model_server.serin_model_server.identity import Stamp
from model_server.serin_model_server.labels import NONE, Identity
from model_server.serin_model_server.load import HIGH, LOW, MAX_EPOCHS, LatencyAtLoad, RunningCount
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.recorder import Measured, Recorder
from model_server.serin_model_server.timings import Times, cached
from model_server.serin_model_server.warmup import Warmup

REVISION = "0123456789"
MEASURE = Measure({"ttft": (0.2, 0.8), "tpot": (0.05,)}, load_from=1.0, load_ratio=1.3)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def recorder(registry: CollectorRegistry, clock: Clock) -> Recorder:
    made = Recorder(Metrics(registry), warmup=Warmup(requests=0), clock=clock)
    made.engine_reports = True
    return made


def series(registry: CollectorRegistry, name: str = "serin_latency") -> dict[tuple[str, ...], float]:
    """By metric, cached, load and boundary, the values of the counters at load."""
    keys = ("metric", "cached", "load", "boundary")
    return {
        tuple(sample.labels.get(key, "") for key in keys): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith(name) and sample.name.endswith("_total")
    }


def test_running_count_gives_mean_over_span() -> None:
    running = RunningCount()
    for by, at in ((1, 0.0), (1, 2.0), (-1, 4.0), (1, 6.0), (-1, 8.0)):
        running.change(by, at)
    # 1 until 2, 2 until 4, 1 until 6, 2 until 8, then 1.
    assert running.mean(0.0, 8.0) == pytest.approx((2 + 4 + 2 + 4) / 8)
    assert running.mean(1.0, 3.0) == pytest.approx(1.5)
    assert running.mean(8.0, 10.0) == pytest.approx(1.0)
    assert running.mean(7.0, 7.0) == pytest.approx(2.0), "a span of no length has the count of its moment"
    assert running.mean(-1.0, 3.0) is None


def test_lone_requests_one_after_the_other_have_load_one() -> None:
    running, now = RunningCount(), 100_000.0
    for _ in range(50):
        arrived, first, ended = now, now + 0.1, now + 0.3
        running.change(1, arrived)
        running.change(-1, ended)
        assert running.of_request(arrived, first) == 1.0
        assert running.of_request(first, ended) == 1.0
        # Less than RESOLUTION: the arrival of the next one is no moment of its own.
        now = ended + 0.001
    assert running.of_request(0.0, 1.0) is None


def test_running_count_keeps_few_points_and_recent_ones_exact() -> None:
    running = RunningCount(max_points=64)
    for i in range(10_000):
        running.change(1 if i % 2 == 0 else -1, i * 0.01)
    assert len(running) <= 64
    assert running.mean(99.9, 99.99) == pytest.approx(0.5, abs=0.1)
    assert running.mean(10.0, 90.0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("load", "bucket"),
    [(0.0, 0), (0.99, 0), (1.0, 1), (1.29, 1), (1.3, 2), (1.3**2, 3), (1.3**18, 19), (1e9, 19)],
)
def test_load_belongs_to_bucket(load: float, bucket: int) -> None:
    assert MEASURE.bucket(load) == bucket < LOAD_BUCKETS


def arrives(recorder: Recorder, epoch: str, measure: Measure | None = MEASURE) -> Measured:
    document: Any = SimpleNamespace(measure=measure, checks=None, revisions=(REVISION,))
    measured = recorder.begin("/v1/chat/completions", Stamp(Identity(REVISION, epoch), None, document))
    assert measured is not None
    return measured


def ask(
    recorder: Recorder,
    clock: Clock,
    epoch: str,
    times: Times,
    *,
    began: float,
    ended: float,
    measure: Measure | None = MEASURE,
) -> None:
    clock.now = began
    measured = arrives(recorder, epoch, measure)
    assert measured.tracked is not None
    clock.now = ended
    recorder.report([(measured.tracked.key, times)])
    recorder.end(measured, outcomes.OK)


def times(**changes: Any) -> Times:
    return Times(**({"ttft": 0.5, "e2e": 2.0, "queue": 0.1, "per_token": 0.04} | changes))


def test_request_is_counted_at_its_load(recorder: Recorder, registry: CollectorRegistry, clock: Clock) -> None:
    arrives(recorder, "3")
    ask(recorder, clock, "3", times(), began=101.0, ended=103.0)
    # Two requests while it ran: bucket 1 + floor(log(2) / log(1.3)) = 3.
    assert series(registry) == {
        ("ttft", LOW, "3", ""): 1,
        ("ttft", LOW, "3", "0"): 1,
        ("ttft", LOW, "3", "1"): 0,
        ("tpot", LOW, "3", ""): 1,
        ("tpot", LOW, "3", "0"): 0,
    }


def test_cached_prompts_are_counted_apart(recorder: Recorder, registry: CollectorRegistry, clock: Clock) -> None:
    ask(recorder, clock, "3", times(cached=cached(100, 50)), began=101.0, ended=103.0)
    assert {key[1] for key in series(registry)} == {HIGH}
    assert [cached(*each) for each in ((100, 49), (0, 0), (100, -1))] == [LOW] * 3


def test_nothing_is_counted_without_measure_or_stamp(
    recorder: Recorder, registry: CollectorRegistry, clock: Clock
) -> None:
    ask(recorder, clock, "none", times(), began=101.0, ended=103.0)
    ask(recorder, clock, "3", times(), began=104.0, ended=105.0, measure=None)
    assert series(registry) == {}


def test_failures_and_cold_requests_are_not_counted(
    recorder: Recorder, registry: CollectorRegistry, clock: Clock
) -> None:
    ask(recorder, clock, "3", times(finish_reason="error"), began=101.0, ended=103.0)
    assert series(registry) == {}


def test_only_three_epochs_have_series(recorder: Recorder, registry: CollectorRegistry, clock: Clock) -> None:
    for epoch in range(6):
        ask(recorder, clock, str(epoch), times(), began=101.0 + epoch, ended=101.5 + epoch)
    epochs = {
        sample.labels["epoch"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("serin_latency")
    }
    assert epochs == {"3", "4", "5"}
    assert len(epochs) == MAX_EPOCHS


def test_request_of_removed_epoch_creates_no_series(
    recorder: Recorder, registry: CollectorRegistry, clock: Clock
) -> None:
    late = arrives(recorder, "0")
    assert late.tracked is not None
    for epoch in range(1, 4):
        ask(recorder, clock, str(epoch), times(), began=101.0 + epoch, ended=101.5 + epoch)
    before = series(registry)
    recorder.report([(late.tracked.key, times())])
    recorder.end(late, outcomes.OK)
    assert series(registry) == before


def test_new_boundaries_remove_the_counts_of_old_ones(
    recorder: Recorder, registry: CollectorRegistry, clock: Clock
) -> None:
    ask(recorder, clock, "3", times(), began=101.0, ended=103.0)
    clock.now = 104.0
    late = arrives(recorder, "3")
    assert late.tracked is not None
    other = Measure({"ttft": (0.3,)}, load_from=1.0, load_ratio=1.3)
    ask(recorder, clock, "3", times(), began=104.0, ended=105.0, measure=other)
    recorder.report([(late.tracked.key, times())])
    recorder.end(late, outcomes.OK)
    assert {(key[0], key[3]): value for key, value in series(registry).items()} == {
        ("ttft", ""): 1,
        ("ttft", "0"): 1,
    }


def test_removed_pair_takes_its_series_along(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry, max_pairs=2)
    for epoch in ("1", "2"):
        identity = Identity(REVISION, epoch)
        metrics.pair(identity)
        assert metrics.at_load.arrive(identity, MEASURE) is not None
        metrics.at_load.observe(identity, MEASURE, "ttft", 0.1, load=1.0, cached=LOW)
    assert len(metrics.at_load) == 1


def test_series_are_bounded(registry: CollectorRegistry) -> None:
    at_load = LatencyAtLoad(registry)
    measure = Measure({"ttft": tuple(0.1 * i for i in range(1, 7))}, load_from=1.0, load_ratio=1.3)
    for epoch in range(32):
        identity = Identity(REVISION, str(epoch))
        assert at_load.arrive(identity, measure) is not None
        for load in range(1000):
            at_load.observe(identity, measure, "ttft", 0.1, load=float(load), cached=(LOW, HIGH)[load % 2])
    assert len(at_load) <= MAX_EPOCHS * 2 * LOAD_BUCKETS
    assert at_load.arrive(NONE, measure) is None
