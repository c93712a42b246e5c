"""Counters that several series show, under other labels, from other sources, or in another spelling."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.analysis.counts import Names, Tally
from serin.metric_sources.counter_growth import Row, growth, milliseconds
from serin.metric_sources.counters import Counter, Process, bound_text, is_renamed
from serin.metric_sources.identities import Identities
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import END, ERRORS, REQUESTS, SECOND, watch

POD = {"namespace": "ns", "pod": "p1", "instance": "10.0.0.1:8000", "job": "vllm", "revision": "r1"}
STATIC = {"instance": "10.0.0.1:8000", "job": "vllm", "revision": "r1"}


def show(tsdb: Tsdb, name: str, labels: Mapping[str, str], *samples: tuple[float, float], up: bool = True) -> None:
    """Add samples at so many seconds before the end of the interval, and successful scrapes of an old target."""
    for seconds, value in samples:
        tsdb.add(name, milliseconds(END - seconds * SECOND), value, **labels)
    target = {k: v for k, v in labels.items() if k in {"namespace", "pod", "instance", "job", "prometheus_replica"}}
    for seconds in range(900, -1, -15) if up else ():
        tsdb.add("up", milliseconds(END - seconds * SECOND), 1, **target)
        tsdb.add("process_start_time_seconds", milliseconds(END - seconds * SECOND), END.timestamp() - 9000, **target)


async def counted(source: Prometheus, tally: Tally = REQUESTS) -> tuple[dict[object, int], tuple[str, ...]]:
    one = watch("a", END - 20 * SECOND, tally)
    read = (await source.read([one]))[one.key]
    assert read.error is None
    return dict(read.intervals[0].counts.get(tally, {})), read.warnings


OK = {"epoch": "3", "outcome": "ok"}
BEFORE, AFTER = ((31, 1000.0), (16, 1010.0)), ((1, 1040.0),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (POD, POD | {"job": "kubernetes-pods"}),
        (POD, POD | {"job": "istio", "instance": "10.0.0.1:15020"}),
        (POD, POD | {"endpoint": "metrics"}),
        (POD, {k: v for k, v in POD.items() if k not in {"pod", "namespace"}} | {"job": "static"}),
        (STATIC, STATIC | {"job": "other"}),
        (STATIC | {"prometheus_replica": "a"}, STATIC | {"prometheus_replica": "b"}),
        (STATIC, STATIC | {"prometheus": "monitoring/leaf", "region": "eu"}),
        (
            STATIC,
            {f"exported_{k}": v for k, v in STATIC.items() if k in {"instance", "job"}}
            | {"revision": "r1", "instance": "prometheus:9090", "job": "federate"},
        ),
    ],
    ids=["job", "port", "endpoint", "without pod", "static", "replica", "federated", "federated without honour"],
)
async def test_counter_of_two_sources_counts_once_and_is_reported(
    tsdb: Tsdb, source: Prometheus, one: dict[str, str], other: dict[str, str]
) -> None:
    show(tsdb, "serin_requests_total", one | OK, *BEFORE, *AFTER)
    show(tsdb, "serin_requests_total", other | OK, (30, 1000.0), (15, 1010.0), (0, 1040.0))
    found, warnings = await counted(source)
    assert found == {("r1", 3, "ok"): 40}
    (warning,) = warnings
    assert warning.startswith("Prometheus has the same counters of the pods more than once, under ")


async def test_source_whose_value_stays_is_not_taken_for_gone(tsdb: Tsdb, source: Prometheus) -> None:
    show(tsdb, "serin_requests_total", POD | OK | {"job": "a"}, (46, 41.0), (31, 41.0), (16, 41.0), (1, 41.0))
    show(tsdb, "serin_requests_total", POD | OK | {"job": "b"}, (30, 34.0), (0, 34.0))
    found, _ = await counted(source)
    assert found == {}


async def test_warning_names_both_jobs(tsdb: Tsdb, source: Prometheus) -> None:
    for job in ("vllm", "kubernetes-pods"):
        show(tsdb, "serin_requests_total", POD | OK | {"job": job}, *BEFORE, *AFTER)
    _, warnings = await counted(source)
    assert 'under job "kubernetes-pods" and "vllm".' in warnings[0]


async def test_two_processes_of_one_job_count_both(tsdb: Tsdb, source: Prometheus) -> None:
    for number in (1, 2):
        labels = POD | OK | {"pod": f"p{number}", "instance": f"10.0.0.{number}:8000"}
        show(tsdb, "serin_requests_total", labels, *BEFORE, *AFTER)
    assert await counted(source) == ({("r1", 3, "ok"): 80}, ())


async def test_address_that_moves_to_another_pod_counts_both_pods(tsdb: Tsdb, source: Prometheus) -> None:
    show(tsdb, "serin_requests_total", POD | OK, (31, 1000.0), (16, 1010.0), up=False)
    show(tsdb, "serin_requests_total", POD | OK | {"pod": "p2"}, (1, 4.0), up=False)
    tsdb.add("process_start_time_seconds", milliseconds(END - SECOND), END.timestamp() - 9, **(POD | {"pod": "p2"}))
    labels = {k: v for k, v in POD.items() if k != "revision"} | {"pod": "p2"}
    tsdb.add("process_start_time_seconds", milliseconds(END - SECOND), END.timestamp() - 9, **labels)
    assert await counted(source) == ({("r1", 3, "ok"): 14}, ())


@pytest.mark.parametrize(
    ("labels", "more", "name"),
    [
        (STATIC | OK, {"shift": "night"}, "serin_requests_total"),
        (POD | OK, {"job": "renamed"}, "serin_requests_total"),
        (POD | OK, {"instance": "p1"}, "serin_requests_total"),
        (STATIC, {"shift": "night"}, "errors_total"),
        (STATIC | {"path": "/v1"}, {"shift": "night"}, "errors_total"),
    ],
    ids=["target label", "job", "instance of a pod", "own metric", "own metric with labels"],
)
@pytest.mark.parametrize("added", [True, False], ids=["added", "dropped"])
@pytest.mark.parametrize("gap", [0, 600], ids=["at once", "after a gap"])
async def test_renamed_series_continues(  # noqa: PLR0917 - the columns of its tables
    tsdb: Tsdb,
    source: Prometheus,
    labels: dict[str, str],
    more: dict[str, str],
    name: str,
    added: bool,  # noqa: FBT001 - a column of the table
    gap: int,
) -> None:
    old, new = (labels, labels | more) if added else (labels | more, labels)
    show(tsdb, name, old, *((at + gap, value) for at, value in BEFORE))
    show(tsdb, name, new, *AFTER)
    tally = REQUESTS if name.startswith("serin") else ERRORS
    found, _ = await counted(source, tally)
    assert sum(found.values()) == (30 if gap else 40)


async def test_series_without_process_continues_its_own_value_after_a_gap(tsdb: Tsdb, source: Prometheus) -> None:
    show(tsdb, "errors_total", {"revision": "r1"}, (631, 40.0), (1, 47.0), up=False)
    show(tsdb, "errors_total", {"revision": "r1", "zone": "b"}, (631, 44.0), (1, 45.0), up=False)
    assert await counted(source, ERRORS) == ({("r1", None, ""): 8}, ())


async def test_dropped_epoch_label_adds_no_lifetime(tsdb: Tsdb, source: Prometheus) -> None:
    show(tsdb, "serin_requests_total", STATIC | OK, *BEFORE)
    show(tsdb, "serin_requests_total", STATIC | {"outcome": "ok"}, *AFTER)
    found, _ = await counted(source)
    assert found == {("r1", 3, "ok"): 10, ("r1", None, "ok"): 30}


async def test_epoch_none_is_neither_an_epoch_nor_no_epoch(tsdb: Tsdb, source: Prometheus) -> None:
    show(tsdb, "serin_requests_total", STATIC | {"epoch": "none", "outcome": "ok"}, *BEFORE, *AFTER)
    show(tsdb, "serin_requests_total", STATIC | {"outcome": "ok"}, *BEFORE, *AFTER)
    found, _ = await counted(source)
    assert found == {("r1", None, "ok"): 40}


async def test_two_spellings_of_a_bound_are_one(tsdb: Tsdb, source: Prometheus) -> None:
    bucket = Tally("own_bucket", by="le")
    show(tsdb, "own_bucket", STATIC | {"le": "1"}, *BEFORE)
    show(tsdb, "own_bucket", STATIC | {"le": "1.0"}, *AFTER)
    show(tsdb, "own_bucket", STATIC | {"le": "1e0", "instance": "b"}, *BEFORE, *AFTER)
    show(tsdb, "own_bucket", STATIC | {"le": "+Inf"}, *BEFORE, *AFTER)
    one = watch("a", END - 15 * SECOND, bucket)
    interval = (await source.read([one]))[one.key].intervals[0]
    assert interval.counts == {bucket: {("r1", None, "1"): 60, ("r1", None, "+Inf"): 30}}
    assert interval.bounds == {bucket: {"r1": frozenset({"1", "+Inf"})}}


async def test_label_of_a_users_own_metric_is_not_taken_for_one_of_scraping(tsdb: Tsdb, source: Prometheus) -> None:
    for path in ("/a", "/b"):
        show(tsdb, "errors_total", STATIC | {"endpoint": path}, *BEFORE, *AFTER)
    assert await counted(source, ERRORS) == ({("r1", None, ""): 80}, ())


async def test_gateway_of_two_jobs_counts_once(tsdb: Tsdb, source: Prometheus) -> None:
    gateway = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)
    labels = {"namespace": "gw", "pod": "envoy-1", "envoy_cluster_name": "ns_a-r1_8000", "envoy_response_code": "200"}
    for job in ("envoy", "kubernetes-pods"):
        show(tsdb, gateway.selector, labels | {"job": job, "instance": "10.0.0.9:8002"}, *BEFORE, *AFTER)
    found, warnings = await counted(source, gateway)
    assert found == {("r1", None, "200"): 40}
    assert warnings


async def test_series_that_were_not_asked_for_are_ignored(tsdb: Tsdb, source: Prometheus) -> None:
    values = [[(END - seconds * SECOND).timestamp(), text] for seconds, text in ((31, "0"), (1, "9"))]
    tsdb.rows["serin_requests_total"] = [
        {"metric": {"__name__": name, **STATIC, **OK, **labels}, "values": values}
        for name, labels in (
            ("serin_requests_total", {}),
            ("other_requests_total", {}),
            ("serin_requests_total", {"revision": "theirs"}),
            ("serin_requests_total", {"namespace": "theirs", "instance": "b"}),
            ("serin_requests_total", {"deployment": "theirs", "instance": "c"}),
        )
    ]
    found, _ = await counted(source)
    assert found == {("r1", 3, "ok"): 9}


async def test_same_series_in_two_parts_of_an_answer_is_one(tsdb: Tsdb, source: Prometheus) -> None:
    metric = {"__name__": "serin_requests_total", **STATIC, **OK}
    values = [[(END - seconds * SECOND).timestamp(), text] for seconds, text in ((31, "5"), (16, "NaN"), (1, "9"))]
    tsdb.rows["serin_requests_total"] = [{"metric": metric, "values": part} for part in (values, values[:2])]
    found, warnings = await counted(source)
    assert (found, warnings) == ({("r1", 3, "ok"): 4}, ())


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("1.0", "1"),
        ("1", "1"),
        ("1e0", "1"),
        ("01", "1"),
        ("inf", "+Inf"),
        ("+Inf", "+Inf"),
        ("0.10", "0.1"),
        ("x", "x"),
    ],
)
def test_bound_has_one_spelling(text: str, one: str) -> None:
    assert bound_text(text) == one


def test_counter_is_renamed_only_by_further_or_fewer_labels() -> None:
    assert is_renamed((("a", "1"), ("b", "2")), (("a", "1"),))
    assert is_renamed((("a", "1"),), (("a", "1"), ("b", "2")))
    assert not is_renamed((("a", "1"),), (("a", "1"),))
    assert not is_renamed((("a", "1"), ("b", "2")), (("a", "2"),))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=8, max_size=40), st.data())
def test_growth_of_two_sources_adds_up_wherever_intervals_are_cut(
    scrapes: list[tuple[int, bool, bool]], data: st.DataObject
) -> None:
    """Each scrape of each source can fail; what the newest sample shows is counted, and nothing twice."""
    value, one, other = 0, [(0, 0.0)], [(1, 0.0)]
    for number, (step, first, second) in enumerate(scrapes, start=1):
        value += step
        if first:
            one.append((number * 15, float(value)))
        value += step
        if second:
            other.append((number * 15 + 7, float(value)))
    end = len(scrapes) * 15 + 8
    counter = Counter(Process("ns", "p"), (), [Row({}, one), Row({"job": "b"}, other)])
    cuts = sorted({7, end, *data.draw(st.lists(st.integers(8, end), max_size=6))})
    total = sum(growth(counter.samples(a, b, 22), a, b) for a, b in pairwise(cuts))
    last = counter.samples(cuts[-1], cuts[-1], 22)
    assert total == last[-1][1]


def test_preferred_source_is_read_while_it_has_samples() -> None:
    settings = Settings(identity="test")
    identities = Identities("serin_requests_total", "revision", settings)
    found = identities.found([(POD | OK | {"job": job}, [(0.0, "1"), (15.0, "2")]) for job in ("b", "a")])
    (counter,) = (counter for key, shown in found.items() for counter in identities.counters(key, shown))
    assert counter.labels["job"] == "a"
