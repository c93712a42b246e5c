"""What is asked of Prometheus, and what becomes of its answers; the real one is asked in the integration tests."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serin.errors import MetricsError
from serin.metric_sources import prometheus
from serin.metric_sources.connection import RefusedError
from serin.metric_sources.folding import milliseconds
from serin.metric_sources.port import Server, Watch
from serin.metric_sources.prometheus import IDLE_SECONDS, MOST_CONNECTIONS, Prometheus, own_server
from serin.metric_sources.promql import CHUNK
from serin.rollout.readings import Interval, Names, Tally
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
END = NOW - 15 * SECOND
REQUESTS = Tally("serin_requests_total", by="outcome")
ERRORS = Tally("errors_total")
TARGET = {"instance": "10.0.0.1:8000", "job": "vllm"}


@pytest.fixture
def tsdb(monkeypatch: pytest.MonkeyPatch) -> Tsdb:
    tsdb = Tsdb(now=milliseconds(NOW))
    monkeypatch.setattr(prometheus, "Connection", lambda *_, **__: tsdb)
    return tsdb


@pytest.fixture
def source(tsdb: Tsdb) -> Iterator[Prometheus]:
    assert not tsdb.closed
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW)
    yield source
    source.close()


def watch(name: str = "a", begin: datetime | None = END - 5 * SECOND, *tallies: Tally, **more: Any) -> Watch:
    return Watch(begin, (("r1", "e1"), ("r2", "e2")), tallies or (REQUESTS,), namespace="ns", name=name, **more)


def scraped(tsdb: Tsdb, seconds: int, value: float, **labels: str) -> None:
    """A counter as it was scraped so many seconds before the end of the interval."""
    tsdb.add("serin_requests_total", milliseconds(END - seconds * SECOND), value, **(TARGET | labels))


async def test_an_interval_ends_one_scrape_ago_by_the_clock_that_is_behind(tsdb: Tsdb, source: Prometheus) -> None:
    one = watch()
    assert (await source.read([one]))[one.key].intervals == (Interval(END - 5 * SECOND, END),)
    tsdb.now = milliseconds(NOW - 2 * SECOND)
    assert (await source.read([one]))[one.key].intervals[0].end == END - 2 * SECOND
    tsdb.now = milliseconds(NOW + 100 * SECOND)
    assert (await source.read([one]))[one.key].intervals[0].end == END
    assert (await source.read([watch("a", END)]))[one.key].intervals == ()


async def test_a_lag_of_its_own_replaces_the_scrape_interval(tsdb: Tsdb) -> None:
    assert tsdb
    slow = Prometheus(Settings(identity="test", evidence_lag=60), clock=lambda: NOW)
    one = watch("a", END - 60 * SECOND)
    assert (await slow.read([one]))[one.key].intervals[0].end == NOW - 60 * SECOND


async def test_growth_is_told_by_revision_epoch_and_value(tsdb: Tsdb, source: Prometheus) -> None:
    for labels, before, after in (
        ({"revision": "r1", "epoch": "3", "outcome": "ok"}, 5, 9),
        ({"revision": "r1", "epoch": "4", "outcome": "ok"}, 0, 1),
        ({"revision": "r1", "epoch": "99", "outcome": "ok"}, 0, 2),
        ({"revision": "r2", "outcome": "error"}, 7, 8),
        ({"revision": "r2", "outcome": "error", "pod": "two"}, 7, 9),
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


async def test_one_query_serves_all_rollouts_and_all_tallies_of_one_family(tsdb: Tsdb, source: Prometheus) -> None:
    for revision in ("r1", "r2"):
        scraped(tsdb, 8, 1, revision=revision, deployment="b", outcome="ok")
        scraped(tsdb, 3, 5, revision=revision, deployment="b", outcome="ok")
    whole = replace(REQUESTS, by=None)
    a, b = watch("a"), watch("b", END - 10 * SECOND, REQUESTS, whole)
    read = await source.read([a, b])
    assert read[a.key].intervals[0].counts == {}
    assert read[b.key].intervals[0].counts == {
        REQUESTS: {("r1", None, "ok"): 4, ("r2", None, "ok"): 4},
        whole: {("r1", None, ""): 4, ("r2", None, ""): 4},
    }
    raw = [(query, at) for query, at in tsdb.queries if query.startswith("serin")]
    assert raw == [('serin_requests_total{revision=~"r1|r2"}[60s]', milliseconds(END))]


async def test_one_revisions_growth_is_told_by_process_as_well(tsdb: Tsdb, source: Prometheus) -> None:
    for instance, revision, before, after in (
        ("a", "r1", 1, 4),
        ("b", "r1", 0, 5),
        ("c", "r1", 2, 2),
        ("a", "r2", 3, 9),
    ):
        scraped(tsdb, 10, before, instance=instance, revision=revision, epoch="3", outcome="ok")
        scraped(tsdb, 1, after, instance=instance, revision=revision, epoch="3", outcome="ok")
    one = watch(apart_of="r1", apart=(REQUESTS,))
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.apart == {REQUESTS: {"a": {("r1", 3, "ok"): 3}, "b": {("r1", 3, "ok"): 5}}}
    assert found.counts == {REQUESTS: {("r1", 3, "ok"): 8, ("r2", 3, "ok"): 6}}
    plain = watch()
    assert (await source.read([plain]))[plain.key].intervals[0].apart == {}


async def test_a_histogram_is_told_with_its_bounds_whether_or_not_they_grew(tsdb: Tsdb, source: Prometheus) -> None:
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


async def test_a_counter_of_seconds_may_be_told_in_parts(tsdb: Tsdb, source: Prometheus) -> None:
    for seconds, value in ((10, 1.25), (1, 1.5004)):
        tsdb.add("e2e_sum", milliseconds(END - seconds * SECOND), value, **TARGET, revision="r1", epoch="3")
    whole, parts = Tally("e2e_sum"), Tally("e2e_sum", scale=1000)
    one = watch("a", END - 5 * SECOND, whole, parts)
    assert (await source.read([one]))[one.key].intervals[0].counts == {parts: {("r1", 3, ""): 250}}


async def test_only_live_epochs_are_asked_for_and_what_carries_none(tsdb: Tsdb, source: Prometheus) -> None:
    for labels in ({"epoch": "3"}, {"epoch": "4"}, {"epoch": "9"}, {"epoch": "unknown"}, {}):
        scraped(tsdb, 10, 1, revision="r1", outcome="ok", **labels)
        scraped(tsdb, 1, 2, revision="r1", outcome="ok", **labels)
    one = watch(epochs=(3, 4))
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.counts == {REQUESTS: {("r1", 3, "ok"): 1, ("r1", 4, "ok"): 1, ("r1", None, "ok"): 2}}
    raw = [query for query, _ in tsdb.queries if query.startswith("serin")]
    over = "|".join(str(epoch) for epoch in range(32) if epoch not in {3, 4})
    assert raw == [f'serin_requests_total{{revision=~"r1|r2",epoch!~"{over}"}}[60s]']
    everything = watch("b")
    await source.read([one, everything])
    assert 'serin_requests_total{revision=~"r1|r2"}[60s]' in [query for query, _ in tsdb.queries]


async def test_names_are_asked_for_in_bounded_queries(tsdb: Tsdb, source: Prometheus) -> None:
    many = [
        Watch(END - SECOND, ((f"a{n}", "e"), (f"b{n}", "f")), (REQUESTS,), namespace="ns", name=f"n{n}")
        for n in range(CHUNK)
    ]
    await source.read([*many, Watch(END - SECOND, (("z", "e"),), (REQUESTS,), namespace="ns", name="last")])
    assert [query.count("|") + 1 for query, _ in tsdb.queries if query.startswith("serin")] == [CHUNK, CHUNK, 1]


async def test_the_window_holds_the_base_of_the_oldest_interval(tsdb: Tsdb, source: Prometheus) -> None:
    await source.read([watch("a"), watch("b", END - 300 * SECOND)])
    assert [query[-6:] for query, _ in tsdb.queries if query.startswith("serin")] == ["[335s]"]


async def test_after_an_outage_intervals_are_read_piece_by_piece(tsdb: Tsdb, source: Prometheus) -> None:
    """And rollouts that stopped at different moments meet at the same ends, so that they share queries again."""
    late = [watch(name, END - seconds * SECOND) for name, seconds in (("a", 1500), ("b", 1507), ("c", 1600), ("d", 5))]
    read = await source.read(late)
    ends = {one.name: read[one.key].intervals[0].end for one in late}
    assert ends["a"] == ends["b"] == ends["c"] < ends["d"] == END
    assert len([query for query, _ in tsdb.queries if query.startswith("serin")]) == 2


async def test_a_target_that_was_silent_resumes_where_it_was(tsdb: Tsdb, source: Prometheus) -> None:
    scraped(tsdb, 1200, 40, revision="r1", outcome="ok")
    scraped(tsdb, 1, 47, revision="r1", outcome="ok")
    one = watch()
    assert (await source.read([one]))[one.key].intervals[0].counts == {REQUESTS: {("r1", None, "ok"): 7}}
    # The older value is asked for at the beginning, and nobody asks whether the series is new.
    assert tsdb.queries[-1] == (
        'last_over_time(serin_requests_total{revision=~"r1"}[3600s])',
        milliseconds(one.read_until or END),
    )


@pytest.mark.parametrize(
    ("up", "age", "expected"),
    [([(20, 1), (1, 1)], 9000, 60), ([(1, 1)], 9000, 0), ([(1, 1)], 10, 60), ([(20, 0), (1, 1)], None, 0)],
    ids=["scraped before without it", "a lifetime total", "a young process", "unreachable before, of unknown age"],
)
async def test_a_series_without_a_past_counts_in_full_only_if_it_is_new(
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


async def test_vllms_own_series_are_silent_where_revisions_share_an_engine(tsdb: Tsdb, source: Prometheus) -> None:
    own = Tally("vllm:x_total", names=Names.ENGINE)
    for name, engine in (("a", "e1"), ("b", "e1"), ("b", "e2")):
        for seconds, value in ((10, 1.0), (1, 3.0)):
            labels = {"namespace": "ns", "deployment": name, "engine_revision": engine}
            tsdb.add("vllm:x_total", milliseconds(END - seconds * SECOND), value, **labels, epoch="3")
    apart = watch("b", END - 5 * SECOND, own)
    shared = replace(watch("a", END - 5 * SECOND, own), engine_of=(("r1", "e1"), ("r2", "e1")))
    read = await source.read([apart, shared])
    assert read[apart.key].intervals[0].counts == {own: {("r1", None, ""): 2, ("r2", None, ""): 2}}
    assert read[shared.key].intervals[0].counts == {}


async def test_a_query_that_is_refused_concerns_only_who_asked(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["errors_total"] = RefusedError("Too many samples; ask for less.")
    a, b = watch("a"), watch("b", END - 5 * SECOND, REQUESTS, ERRORS)
    read = await source.read([a, b])
    assert read[a.key].error is None
    assert read[a.key].intervals
    assert read[b.key].error == "Too many samples; ask for less."
    assert read[b.key].intervals == ()


async def test_a_selector_that_is_not_plain_is_a_sentence_for_who_wrote_it(tsdb: Tsdb, source: Prometheus) -> None:
    assert tsdb
    a, b = watch("a"), watch("b", END - 5 * SECOND, Tally("rate(x[5m])"))
    read = await source.read([a, b])
    assert read[a.key].error is None
    assert "is no plain selector; write" in str(read[b.key].error)


async def test_what_one_asked_and_the_server_could_not_answer_concerns_nobody_else(
    tsdb: Tsdb, source: Prometheus
) -> None:
    tsdb.fails["serin_requests"] = MetricsError("Away; look.")
    one, two = watch("a", END - SECOND, REQUESTS, ERRORS), watch("b", END - SECOND, ERRORS)
    read = await source.read([one, two])
    assert (read[one.key].error, read[two.key].error) == ("Away; look.", None)


async def test_a_server_that_fails_is_asked_no_further(
    tsdb: Tsdb, source: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers its first question, then nothing more, not even what the time is."""
    original = tsdb.query

    async def once(query: str, *more: object) -> object:
        if tsdb.queries:
            tsdb.queries.append((query, None))
            raise MetricsError("Away; look.")
        return await original(query, *more)

    monkeypatch.setattr(tsdb, "query", once)
    one, two = watch("a", END - SECOND, REQUESTS, ERRORS), watch("b", END - SECOND, ERRORS)
    read = await source.read([one, two])
    assert {read[one.key].error, read[two.key].error} == {"Away; look."}
    assert len(tsdb.queries) == 3


async def test_nothing_is_asked_where_nothing_is_wanted(tsdb: Tsdb, source: Prometheus) -> None:
    read = await source.read([Watch(END, namespace="ns", name="a")])
    assert tsdb.queries == []
    assert read["ns", "a"].error is None


async def test_a_canary_without_traffic_is_told_that_nobody_could_watch_it(tsdb: Tsdb, source: Prometheus) -> None:
    idle = watch("a", None)
    assert (await source.read([idle]))[idle.key].error is None
    tsdb.fails["time()"] = MetricsError("Away; look.")
    assert (await source.read([idle]))[idle.key].error == "Away; look."


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [None],
        [{"metric": {}, "values": [["x", "1"]]}],
        [{"metric": [], "values": []}],
        [{"metric": {}, "values": 3}],
    ],
)
async def test_rows_that_make_no_sense_are_an_error_and_no_count(
    tsdb: Tsdb, source: Prometheus, rows: list[Any]
) -> None:
    tsdb.rows["serin_requests_total"] = rows
    one = watch()
    read = await source.read([one])
    assert "cannot be read" in str(read[one.key].error)
    assert read[one.key].intervals == ()


async def test_values_that_are_no_numbers_and_native_histograms_are_left_out(tsdb: Tsdb, source: Prometheus) -> None:
    at = END.timestamp()
    labels = {"__name__": "serin_requests_total", "revision": "r1"}
    tsdb.rows["serin_requests_total"] = [
        {"metric": labels, "values": [[at - 10, "1"], [at - 2, "NaN"], [at - 1, "4"]]},
        {"metric": labels | {"native": "1"}, "histograms": [[at, {}]]},
    ]
    one = watch()
    assert (await source.read([one]))[one.key].intervals[0].counts == {REQUESTS: {("r1", None, ""): 3}}


async def test_the_baseline_is_what_the_stable_did_before(tsdb: Tsdb, source: Prometheus) -> None:
    buckets = Tally('ttft_bucket{x="y"}', by="le")
    tsdb.rows["[300s]"] = [
        {"metric": {"revision": "r1", "namespace": "ns", "deployment": "a"}, "value": [0, "600"]},
        {"metric": {"revision": "r1", "namespace": "other", "deployment": "a"}, "value": [0, "60000"]},
        {"metric": {"revision": "r1"}, "value": [0, "300"]},
        {"metric": {"revision": "r1"}, "value": [0, "NaN"]},
    ]
    tsdb.rows["[3600s]"] = [
        {"metric": {"revision": "r1", "le": le}, "value": [0, value]} for le, value in (("0.1", "4.5"), ("+Inf", "9"))
    ]
    a = watch("a", None, REQUESTS, buckets, baseline_of="r1", requests=REQUESTS)
    b = watch("b", None, REQUESTS, baseline_of="r2", requests=REQUESTS)
    c = watch("c", None, REQUESTS)
    read = await source.read([a, b, c])
    known = read[a.key].baseline
    assert known
    assert (known.at, known.requests_per_second) == (END, 3.0)
    assert known.histograms == {buckets: {"0.1": 4.5, "+Inf": 9.0}}
    quiet = read[b.key].baseline
    assert quiet
    assert (quiet.requests_per_second, quiet.histograms) == (0.0, {})
    assert read[c.key].baseline is None
    by = "sum by (revision, namespace, deployment"
    assert [query for query, _ in tsdb.queries if "increase" in query] == [
        f'{by}) (increase(serin_requests_total{{revision=~"r1|r2"}}[300s]))',
        f'{by}, le) (increase(ttft_bucket{{x="y",revision=~"r1"}}[3600s]))',
    ]


async def test_a_baseline_that_cannot_be_had_leaves_the_counts(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["increase"] = RefusedError("Too much; ask for less.")
    one = watch("a", END - SECOND, REQUESTS, baseline_of="r1", requests=REQUESTS)
    read = (await source.read([one]))[one.key]
    assert read.baseline is None
    assert read.error == "Too much; ask for less."
    assert read.intervals


class Servers:
    """Makes connections, and remembers which live."""

    def __init__(self) -> None:
        self.made: list[tuple[Server, Tsdb]] = []

    def __call__(self, server: Server, **_: object) -> Tsdb:
        self.made.append((server, Tsdb(now=milliseconds(NOW))))
        return self.made[-1][1]

    @property
    def alive(self) -> int:
        return sum(not tsdb.closed for _, tsdb in self.made)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(prometheus, "Connection", servers)
    return servers


async def test_every_distinct_server_has_one_connection_and_few_live_at_once(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW)
    many = [watch(f"n{n}", server=Server(f"http://p{n}")) for n in range(MOST_CONNECTIONS + 8)]
    read = await source.read([*many, watch("own"), replace(many[0], name="again")])
    assert all(evidence.error is None and evidence.intervals for evidence in read.values())
    assert len(servers.made) == MOST_CONNECTIONS + 9
    assert servers.alive <= MOST_CONNECTIONS
    source.close()
    assert servers.alive == 0


async def test_a_connection_that_nobody_uses_is_closed(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW)
    await source.read([watch("a", server=Server("http://old"))])
    await source.read([watch("b", server=Server("http://new"))])
    assert servers.alive == 2
    servers.made[0][1].used = time.monotonic() - IDLE_SECONDS - 1
    await source.read([watch("b", server=Server("http://new"))])
    assert [tsdb.closed for _, tsdb in servers.made] == [True, False]
    source.close()


async def test_a_server_that_fails_fails_its_own_rollouts_only(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW)
    own, theirs = watch("own"), watch("theirs", server=Server("http://else"))
    await source.read([own, theirs])
    servers.made[1][1].fails["time()"] = MetricsError("Away; look.")
    read = await source.read([own, theirs])
    assert (read[own.key].error, read[theirs.key].error) == (None, "Away; look.")
    source.close()


def test_the_operators_own_server_is_what_its_settings_say() -> None:
    plain = Settings(identity="test", prometheus_url="http://p")
    assert own_server(plain) == Server("http://p")
    secret = replace(plain, prometheus_username="u", prometheus_password="p", prometheus_tenant="t")
    assert own_server(secret) == Server("http://p", (("X-Scope-OrgID", "t"),), ("u", "p"))
    assert own_server(replace(plain, prometheus_bearer_token="b")) == Server("http://p", bearer_token="b")
    assert "hidden" not in repr(replace(secret, prometheus_password="hidden", prometheus_bearer_token="hidden"))
    assert "hidden" not in repr(Server("http://p", (("x", "hidden"),), ("u", "hidden"), "hidden", "hidden"))


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIVES, st.lists(st.integers(1, 1799), max_size=8))
def test_whatever_targets_do_intervals_add_up_to_the_truth_wherever_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, lives: list[tuple[int, list[str]]], cuts: list[int]
) -> None:
    begin, tsdb = NOW - 1800 * SECOND, Tsdb()
    monkeypatch.setattr(prometheus, "Connection", lambda *_, **__: tsdb)
    truth = sum(
        Life(f"t{n}", milliseconds(begin + born * SECOND), events).record(tsdb, milliseconds(begin))
        for n, (born, events) in enumerate(lives)
    )

    async def counted() -> int:
        """Read tick by tick, and forget everything in between: only where the last interval ended is kept."""
        total, at = 0, begin
        for now in [*(begin + cut * SECOND for cut in sorted(cuts)), NOW + 15 * SECOND]:
            tsdb.now = milliseconds(now)
            while True:
                one = watch("a", at)
                source = Prometheus(Settings(identity="test"), clock=lambda: now)  # noqa: B023 - used at once
                evidence = (await source.read([one]))[one.key]
                source.close()
                assert evidence.error is None
                if not evidence.intervals:
                    break
                total += sum(evidence.intervals[0].counts.get(REQUESTS, {}).values())
                at = evidence.intervals[0].end
        return total

    assert asyncio.run(counted()) == truth
