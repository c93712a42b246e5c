"""Counts from the answers of Prometheus: growth by revision, epoch, value and process, and baselines."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Names, Tally
from serin.errors import MetricsError
from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.http_session import decoded
from serin.metric_sources.port import RefusedError
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import END, NOW, REQUESTS, SECOND, TARGET, scraped, watch


async def test_growth_is_summed_by_revision_epoch_and_value(tsdb: Tsdb, source: Prometheus) -> None:
    for labels, before, after in (
        ({"revision": "r1", "epoch": "3", "outcome": "ok"}, 5, 9),
        ({"revision": "r1", "epoch": "4", "outcome": "ok"}, 0, 1),
        ({"revision": "r1", "epoch": "99", "outcome": "ok"}, 0, 2),
        ({"revision": "r2", "outcome": "error"}, 7, 8),
        ({"revision": "r2", "outcome": "error", "instance": "two"}, 7, 9),
        ({"revision": "r2", "outcome": "quiet"}, 7, 7),
        ({"revision": "r2"}, 1, 2),
        ({"revision": "r3", "outcome": "ok"}, 1, 100),
    ):
        scraped(tsdb, 10, before, **labels)
        scraped(tsdb, 1, after, **labels)
    one = watch()
    assert (await source.read([one]))[one.key].intervals[0].counts == {
        REQUESTS: {("r1", 3, "ok"): 4, ("r1", 4, "ok"): 1, ("r1", None, "ok"): 2, ("r2", None, "error"): 3}
        | {("r2", None, ""): 1}
    }


async def test_growth_of_one_revision_is_also_given_by_process(tsdb: Tsdb, source: Prometheus) -> None:
    for instance, revision, before, after in (
        ("a", "r1", 1, 4),
        ("b", "r1", 0, 5),
        ("c", "r1", 2, 2),
        ("a", "r2", 3, 9),
    ):
        scraped(tsdb, 10, before, instance=instance, revision=revision, epoch="3", outcome="ok")
        scraped(tsdb, 1, after, instance=instance, revision=revision, epoch="3", outcome="ok")
    one = watch(by_process_of="r1", by_process=(REQUESTS,))
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.by_process == {REQUESTS: {"a": {("r1", 3, "ok"): 3}, "b": {("r1", 3, "ok"): 5}}}
    assert found.counts == {REQUESTS: {("r1", 3, "ok"): 8, ("r2", 3, "ok"): 6}}
    plain = watch()
    assert (await source.read([plain]))[plain.key].intervals[0].by_process == {}


STARTED = Tally("serin_requests_started_total")


async def test_requests_in_progress_are_those_of_live_processes(tsdb: Tsdb, source: Prometheus) -> None:
    for instance, revision, seconds, began, ended in (
        ("a", "r1", 10, 50, 41),
        ("a", "r1", 1, 60, 50),
        ("b", "r1", 1, 9, 4),
        ("restarted", "r2", 20, 900, 700),
        ("restarted", "r2", 2, 3, 1),
        ("gone", "r2", 50, 400, 100),
        ("even", "r2", 1, 8, 8),
    ):
        labels = TARGET | {"instance": instance, "revision": revision, "epoch": "3"}
        moment = milliseconds(END - seconds * SECOND)
        tsdb.add("serin_requests_started_total", moment, began, **labels)
        tsdb.add("serin_requests_total", moment, ended - 1, **labels, outcome="ok")
        tsdb.add("serin_requests_total", moment, 1, **labels, outcome="excluded")
    one = watch("a", END - 5 * SECOND, REQUESTS, STARTED, in_progress=(STARTED, REQUESTS))
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.in_progress == {("r1", 3): 15, ("r2", 3): 2}
    plain = watch("a", END - 5 * SECOND, REQUESTS, STARTED)
    assert (await source.read([plain]))[plain.key].intervals[0].in_progress is None


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        pytest.param(
            {"r1": {"a": 4, "b": 2}, "r2": {"c": 9, "d": 3}},
            {"r1": {"a": 4, "b": 2}, "r2": {"c": 9, "d": 3}},
            id="own pods",
        ),
        pytest.param({"r1": {"a": 4}, "r2": {"a": 4}}, {"r1": {"a": 4}, "r2": {"a": 4}}, id="a shared pod"),
        pytest.param({"r1": {"a": 40, "b": 4}}, {"r1": {"a": 40, "b": 4}}, id="a pod whose scrapes fail"),
        pytest.param({"r1": {"a": 4, "gone": 70}}, {"r1": {"a": 4}}, id="a pod that has gone"),
    ],
)
async def test_interval_says_when_pods_that_count_arrivals_were_sampled(
    tsdb: Tsdb,
    source: Prometheus,
    processes: dict[str, dict[str, int]],
    expected: dict[str, dict[str, int]],
) -> None:
    for revision, newest in processes.items():
        for process, seconds in newest.items():
            labels = TARGET | {"instance": process, "revision": revision}
            # Counters of two epochs are sampled together; the older one does not grow.
            for epoch, earlier in (("2", 50), ("3", 15)):
                for before, value in ((seconds + earlier, 5), (seconds, 5 if epoch == "2" else 9)):
                    tsdb.add(STARTED.selector, milliseconds(END - before * SECOND), value, **labels, epoch=epoch)
    one = watch("a", END - 5 * SECOND, REQUESTS, STARTED, arrivals=STARTED)
    (interval,) = (await source.read([one]))[one.key].intervals
    assert interval.sampled == {
        revision: {process: END - seconds * SECOND for process, seconds in samples.items()}
        for revision, samples in expected.items()
    }
    plain = replace(one, arrivals=None)
    assert (await source.read([plain]))[plain.key].intervals[0].sampled == {}


async def test_histogram_has_all_bounds_whether_or_not_they_grew(tsdb: Tsdb, source: Prometheus) -> None:
    bucket = Tally("serin_ttft_bucket", by="le")
    for revision, bounds in (("r1", {"0.1": 0, "0.5": 0, "+Inf": 2}), ("r2", {"0.1": 0, "0.4": 0, "+Inf": 0})):
        for le, grows in bounds.items():
            for seconds, value in ((10, 5), (1, 5 + grows)):
                labels = TARGET | {"revision": revision, "epoch": "3", "le": le}
                tsdb.add("serin_ttft_bucket", milliseconds(END - seconds * SECOND), value, **labels)
    one = watch("a", END - 5 * SECOND, bucket)
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.counts == {bucket: {("r1", 3, "+Inf"): 2}}
    assert found.bounds == {bucket: {"r1": frozenset({"0.1", "0.5", "+Inf"}), "r2": frozenset({"0.1", "0.4", "+Inf"})}}


async def test_counts_by_several_labels_have_all_their_values(tsdb: Tsdb, source: Prometheus) -> None:
    requests = Tally('serin_latency_requests_total{metric="ttft"}', by="cached,load")
    above = Tally('serin_latency_above_total{metric="ttft"}', by="cached,load,boundary")
    cells = (("low", "3", 7, (4, 1)), ("low", "13", 2, (2, 0)), ("high", "3", 5, (0, 0)))
    for cached, load, n, bad in cells:
        labels = TARGET | {"revision": "r1", "epoch": "3", "cached": cached, "load": load, "metric": "ttft"}
        for seconds, grown in ((10, 0), (1, 1)):
            moment = milliseconds(END - seconds * SECOND)
            tsdb.add("serin_latency_requests_total", moment, 100 + grown * n, **labels)
            for number, x in enumerate(bad):
                tsdb.add("serin_latency_above_total", moment, 50 + grown * x, **labels, boundary=str(number))
    one = watch("a", END - 5 * SECOND, requests, above)
    assert (await source.read([one]))[one.key].intervals[0].counts == {
        requests: {("r1", 3, "low,3"): 7, ("r1", 3, "low,13"): 2, ("r1", 3, "high,3"): 5},
        above: {("r1", 3, "low,3,0"): 4, ("r1", 3, "low,3,1"): 1, ("r1", 3, "low,13,0"): 2},
    }


async def test_counter_of_seconds_is_scaled_to_whole_parts(tsdb: Tsdb, source: Prometheus) -> None:
    for seconds, value in ((10, 1.25), (1, 1.5004)):
        tsdb.add("e2e_sum", milliseconds(END - seconds * SECOND), value, **TARGET, revision="r1", epoch="3")
    whole, parts = Tally("e2e_sum"), Tally("e2e_sum", scale=1000)
    one = watch("a", END - 5 * SECOND, whole, parts)
    assert (await source.read([one]))[one.key].intervals[0].counts == {parts: {("r1", 3, ""): 250}}


async def test_silent_target_continues_its_values(tsdb: Tsdb, source: Prometheus) -> None:
    scraped(tsdb, 1200, 40, revision="r1", outcome="ok")
    scraped(tsdb, 1, 47, revision="r1", outcome="ok")
    one = watch()
    assert (await source.read([one]))[one.key].intervals[0].counts == {REQUESTS: {("r1", None, "ok"): 7}}
    # The older value is queried at the begin of the interval, and no query asks whether the series is new.
    assert tsdb.queries[-1] == (
        'last_over_time(serin_requests_total{revision=~"r1"}[3600s])',
        milliseconds(one.read_until or END),
    )


@pytest.mark.parametrize(
    ("up", "age", "expected"),
    [([(20, 1), (1, 1)], 9000, 60), ([(1, 1)], 9000, 0), ([(1, 1)], 10, 60), ([(20, 0), (1, 1)], None, 0)],
    ids=["scraped before without it", "a lifetime total", "a young process", "unreachable before, of unknown age"],
)
async def test_first_value_counts_only_if_the_series_is_new(
    tsdb: Tsdb, source: Prometheus, up: list[tuple[int, int]], age: int | None, expected: int
) -> None:
    scraped(tsdb, 1, 60, revision="r1", outcome="ok")
    for seconds, value in up:
        tsdb.add("up", milliseconds(END - seconds * SECOND), value, **TARGET)
        tsdb.add("up", milliseconds(END - seconds * SECOND), 1, **(TARGET | {"job": "other"}))
    if age is not None:
        tsdb.add("process_start_time_seconds", milliseconds(END - SECOND), END.timestamp() - age, **TARGET)
    one = watch()
    counts = (await source.read([one]))[one.key].intervals[0].counts
    assert counts == ({REQUESTS: {("r1", None, "ok"): expected}} if expected else {})


async def test_engine_series_count_nothing_if_revisions_share_the_engine(tsdb: Tsdb, source: Prometheus) -> None:
    own = Tally("vllm:x_total", names=Names.ENGINE)
    for name, engine in (("a", "e1"), ("b", "e1"), ("b", "e2")):
        for seconds, value in ((10, 1.0), (1, 3.0)):
            labels = {"namespace": "ns", "deployment": name, "engine_revision": engine}
            tsdb.add("vllm:x_total", milliseconds(END - seconds * SECOND), value, **labels, epoch="3")
    separate = watch("b", END - 5 * SECOND, own)
    shared = replace(watch("a", END - 5 * SECOND, own), engine_of=(("r1", "e1"), ("r2", "e1")))
    read = await source.read([separate, shared])
    assert read[separate.key].intervals[0].counts == {own: {("r1", None, ""): 2, ("r2", None, ""): 2}}
    assert read[shared.key].intervals[0].counts == {}


async def test_canary_without_traffic_reports_a_failing_server(tsdb: Tsdb, source: Prometheus) -> None:
    idle = watch("a", None)
    assert (await source.read([idle]))[idle.key].error is None
    tsdb.fails["time()"] = MetricsError("Away; check it.")
    assert (await source.read([idle]))[idle.key].error == "Away; check it."


def as_sent(row: str) -> list[Any]:
    """The rows of an answer that has this one."""
    return cast("list[Any]", decoded(f'{{"data": {{"result": [{row}]}}}}'.encode())["data"]["result"])


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [None],
        [{"metric": {}, "values": [["x", "1"]]}],
        [{"metric": [], "values": []}],
        [{"metric": {}, "values": 3}],
        as_sent('{"metric": {}, "values": [["x", "1"]]}'),
        as_sent('{"metric": {}, "values": [[1, 1]]}'),
        as_sent('{"metric": {"revision": "r1"}, "values": [[1, "x"]]}'),
        as_sent('{"metric": {"revision": "r1"}, "values": 3}'),
        as_sent('{"metric": {"revision": 1}, "values": [[1, "1"]]}'),
        as_sent('{"metric": "r1", "values": [[1, "1"]]}'),
        as_sent('{"values": [[1, "1"]]}'),
    ],
)
async def test_invalid_rows_are_an_error_and_no_count(tsdb: Tsdb, source: Prometheus, rows: list[Any]) -> None:
    tsdb.rows["serin_requests_total"] = rows
    one = watch()
    read = await source.read([one])
    assert "cannot be read" in str(read[one.key].error)
    assert read[one.key].intervals == ()


async def test_nan_and_native_histograms_are_left_out(tsdb: Tsdb, source: Prometheus) -> None:
    at = END.timestamp()
    labels = {"__name__": "serin_requests_total", "revision": "r1"}
    tsdb.rows["serin_requests_total"] = [
        {"metric": labels, "values": [[at - 10, "1"], [at - 2, "NaN"], [at - 1, "4"]]},
        {"metric": labels | {"native": "1"}, "histograms": [[at, {}]]},
    ]
    one = watch()
    assert (await source.read([one]))[one.key].intervals[0].counts == {REQUESTS: {("r1", None, ""): 3}}


async def test_baseline_has_rate_and_histograms_of_the_time_before(tsdb: Tsdb, source: Prometheus) -> None:
    buckets = Tally('ttft_bucket{x="y"}', by="le")
    tsdb.rows["[300s]"] = [
        {"metric": {"revision": "r1", "namespace": "ns", "deployment": "a"}, "value": [0, "600"]},
        {"metric": {"revision": "r1", "namespace": "other", "deployment": "a"}, "value": [0, "60000"]},
        {"metric": {"revision": "r1"}, "value": [0, "300"]},
        {"metric": {"revision": "r0"}, "value": [0, "1500"]},
        {"metric": {"revision": "r1"}, "value": [0, "NaN"]},
    ]
    tsdb.rows["[3600s]"] = [
        {"metric": {"revision": "r1", "le": le}, "value": [0, value]} for le, value in (("0.1", "4.5"), ("+Inf", "9"))
    ]
    # The stable is new: most of the traffic of the last minutes was answered by the one before it.
    a = watch("a", None, REQUESTS, buckets, baseline_of="r1", requests=REQUESTS, traffic_of=("r0", "r1"))
    b = watch("b", None, REQUESTS, baseline_of="r2", requests=REQUESTS, traffic_of=("r2",))
    c = watch("c", None, REQUESTS)
    read = await source.read([a, b, c])
    known = read[a.key].baseline
    assert known
    assert (known.at, known.requests_per_second) == (END, 8.0)
    assert known.histograms == {buckets: {"0.1": 4.5, "+Inf": 9.0}}
    quiet = read[b.key].baseline
    assert quiet
    assert (quiet.requests_per_second, quiet.histograms) == (0.0, {})
    assert read[c.key].baseline is None
    by = "sum by (revision, namespace, deployment"
    # Two scrape jobs of the same pods would double the rate of the model server's counters.
    labels = "epoch, outcome, le, metric, cached, load, boundary, check, result, pod, instance"
    once = f"max by (revision, namespace, deployment, {labels})"
    assert [query for query, _ in tsdb.queries if "increase" in query] == [
        f'{by}) ({once} (increase(serin_requests_total{{revision=~"r0|r1|r2"}}[300s])))',
        f'{by}, le) (increase(ttft_bucket{{x="y",revision=~"r1"}}[3600s]))',
    ]


async def test_refused_baseline_leaves_the_counts(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["increase"] = RefusedError("Too much; ask for less.")
    one = watch("a", END - SECOND, REQUESTS, baseline_of="r1", requests=REQUESTS, traffic_of=("r1",))
    read = (await source.read([one]))[one.key]
    assert read.baseline is None
    assert read.error == "Too much; ask for less."
    assert read.intervals


# Whole histories: what a target did between two scrapes.
@dataclass
class Life:
    """A target, its process, and how its counters were seen; truth is what it counted from the beginning on."""

    name: str
    born: int
    events: Sequence[str]

    def record(self, tsdb: Tsdb, begin: int) -> int:
        """Scrape it, every 15 s beginning with its birth, and say what it counted and was seen to count."""
        labels = {"instance": self.name, "job": "j"}
        value, seen, started, had, truth = 0, 0, self.born - 1000, False, 0
        for number, event in enumerate(self.events):
            at = self.born + number * 15_000
            match event:
                case "restart" if value >= 2:
                    value, started = 1, at - 1000
                case "failures" | "silent":
                    value += 7
                case "work":
                    value += 2
                case _:
                    pass
            if event == "gone":
                return truth
            if event == "silent":
                tsdb.add("up", at, 0, **labels)
                continue
            tsdb.add("up", at, 1, **labels)
            tsdb.add("process_start_time_seconds", at, started / 1000, **labels)
            if value or had:
                tsdb.add("serin_requests_total", at, value, revision="r1", outcome="ok", **labels)
                had = True
            truth += (value - seen if value >= seen else value) if at > begin else 0
            seen = value
        return truth


EVENTS = st.sampled_from(["work", "failures", "idle", "silent", "restart", "gone"])


LIVES = st.lists(st.tuples(st.integers(-300, 900), st.lists(EVENTS, min_size=1, max_size=60)), min_size=1, max_size=3)


@settings(max_examples=150)
@given(LIVES, st.lists(st.integers(1, 1799), max_size=8))
def test_counts_of_any_targets_add_up_wherever_cut(lives: list[tuple[int, list[str]]], cuts: list[int]) -> None:
    begin, tsdb = NOW - 1800 * SECOND, Tsdb()
    truth = sum(
        Life(f"t{n}", milliseconds(begin + born * SECOND), events).record(tsdb, milliseconds(begin))
        for n, (born, events) in enumerate(lives)
    )

    async def counted() -> int:
        """Read tick by tick, and keep nothing between two reads but the end of the last interval."""
        total, at = 0, begin
        for now in [*(begin + cut * SECOND for cut in sorted(cuts)), NOW + 15 * SECOND]:
            tsdb.now = milliseconds(now)
            while True:
                one = watch("a", at)
                source = Prometheus(Settings(identity="test"), clock=lambda: now, connect=tsdb.connect)  # noqa: B023 - used at once
                evidence = (await source.read([one]))[one.key]
                source.close()
                assert evidence.error is None
                if not evidence.intervals:
                    break
                total += sum(evidence.intervals[0].counts.get(REQUESTS, {}).values())
                at = evidence.intervals[0].end
        return total

    assert asyncio.run(counted()) == truth
