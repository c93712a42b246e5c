"""Which queries are sent to which server, and whom a failure concerns; integration tests use a real Prometheus."""

import time
from dataclasses import replace

import pytest

from serin.analysis.counts import Interval, Tally
from serin.errors import MetricsError
from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.port import RefusedError, Server, Watch
from serin.metric_sources.prometheus import IDLE_SECONDS, MAX_CONNECTIONS, Prometheus, own_server
from serin.metric_sources.promql import CHUNK
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import END, ERRORS, NOW, REQUESTS, SECOND, scraped, watch


async def test_interval_ends_one_scrape_ago_by_the_earlier_clock(tsdb: Tsdb, source: Prometheus) -> None:
    one = watch()
    assert (await source.read([one]))[one.key].intervals == (Interval(END - 5 * SECOND, END),)
    tsdb.now = milliseconds(NOW - 2 * SECOND)
    assert (await source.read([one]))[one.key].intervals[0].end == END - 2 * SECOND
    tsdb.now = milliseconds(NOW + 100 * SECOND)
    assert (await source.read([one]))[one.key].intervals[0].end == END
    assert (await source.read([watch("a", END)]))[one.key].intervals == ()


async def test_lag_replaces_the_scrape_interval(tsdb: Tsdb) -> None:
    slow = Prometheus(Settings(identity="test", evidence_lag=60), clock=lambda: NOW, connect=tsdb.connect)
    one = watch("a", END - 60 * SECOND)
    assert (await slow.read([one]))[one.key].intervals[0].end == NOW - 60 * SECOND


async def test_one_query_reads_a_family_for_all_rollouts(tsdb: Tsdb, source: Prometheus) -> None:
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


async def test_query_has_live_epochs_and_series_without_epoch(tsdb: Tsdb, source: Prometheus) -> None:
    for labels in ({"epoch": "3"}, {"epoch": "4"}, {"epoch": "9"}, {"epoch": "unknown"}, {}):
        scraped(tsdb, 10, 1, revision="r1", outcome="ok", **labels)
        scraped(tsdb, 1, 2, revision="r1", outcome="ok", **labels)
    one = watch(epochs=(3, 4))
    found = (await source.read([one]))[one.key].intervals[0]
    assert found.counts == {REQUESTS: {("r1", 3, "ok"): 1, ("r1", 4, "ok"): 1, ("r1", None, "ok"): 2}}
    raw = [query for query, _ in tsdb.queries if query.startswith("serin")]
    over = "|".join([*(str(epoch) for epoch in range(32) if epoch not in {3, 4}), "none"])
    assert raw == [f'serin_requests_total{{revision=~"r1|r2",epoch!~"{over}"}}[60s]']
    everything = watch("b")
    await source.read([one, everything])
    assert 'serin_requests_total{revision=~"r1|r2"}[60s]' in [query for query, _ in tsdb.queries]


async def test_many_revisions_are_split_into_several_queries(tsdb: Tsdb, source: Prometheus) -> None:
    many = [
        Watch(END - SECOND, ((f"a{n}", "e"), (f"b{n}", "f")), (REQUESTS,), namespace="ns", name=f"n{n}")
        for n in range(CHUNK)
    ]
    await source.read([*many, Watch(END - SECOND, (("z", "e"),), (REQUESTS,), namespace="ns", name="last")])
    assert [query.count("|") + 1 for query, _ in tsdb.queries if query.startswith("serin")] == [CHUNK, CHUNK, 1]


async def test_window_reaches_the_base_of_the_oldest_interval(tsdb: Tsdb, source: Prometheus) -> None:
    await source.read([watch("a"), watch("b", END - 300 * SECOND)])
    assert [query[-6:] for query, _ in tsdb.queries if query.startswith("serin")] == ["[335s]"]


async def test_time_of_an_outage_is_read_in_several_intervals(tsdb: Tsdb, source: Prometheus) -> None:
    """Rollouts that stopped at different times get the same ends, so that they share queries again."""
    late = [watch(name, END - seconds * SECOND) for name, seconds in (("a", 1500), ("b", 1507), ("c", 1600), ("d", 5))]
    read = await source.read(late)
    ends = {one.name: read[one.key].intervals[0].end for one in late}
    assert ends["a"] == ends["b"] == ends["c"] < ends["d"] == END
    assert len([query for query, _ in tsdb.queries if query.startswith("serin")]) == 2


async def test_refused_query_fails_only_its_own_watch(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["errors_total"] = RefusedError("Too many samples; ask for less.")
    a, b = watch("a"), watch("b", END - 5 * SECOND, REQUESTS, ERRORS)
    read = await source.read([a, b])
    assert read[a.key].error is None
    assert read[a.key].intervals
    assert read[b.key].error == "Too many samples; ask for less."
    assert read[b.key].intervals == ()


async def test_optional_tally_is_left_out_only_if_refused(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["errors_total"] = RefusedError("Too many samples; ask for less.")
    scraped(tsdb, 20, 5, revision="r1", outcome="ok")
    scraped(tsdb, 2, 9, revision="r1", outcome="ok")
    begin = END - 5 * SECOND
    one = watch(
        "a", begin, REQUESTS, ERRORS, optional=(ERRORS,), baseline_of="r1", requests=REQUESTS, traffic_of=("r1",)
    )
    both = watch("b", begin, ERRORS, replace(ERRORS, by="code"), optional=(ERRORS,))
    read = await source.read([one, both])
    assert (read[one.key].error, read[one.key].left_out) == (None, "Too many samples; ask for less.")
    assert set(read[one.key].intervals[0].counts) == {REQUESTS}
    assert read[one.key].intervals[0].unread == {ERRORS}
    assert (read[both.key].error, read[both.key].left_out) == ("Too many samples; ask for less.", None)
    tsdb.fails["errors_total"] = MetricsError("Away; check it.")
    read = await source.read([one])
    assert (read[one.key].error, read[one.key].intervals) == ("Away; check it.", ()), "it is read again later"
    tsdb.fails.clear()
    assert (await source.read([one]))[one.key].left_out is None


async def test_selector_that_is_not_plain_fails_only_its_own_watch(tsdb: Tsdb, source: Prometheus) -> None:
    assert tsdb
    a, b = watch("a"), watch("b", END - 5 * SECOND, Tally("rate(x[5m])"))
    read = await source.read([a, b])
    assert read[a.key].error is None
    assert "is not a plain selector; write" in str(read[b.key].error)


async def test_failed_query_fails_only_its_own_watch(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["serin_requests"] = MetricsError("Away; check it.")
    one, two = watch("a", END - SECOND, REQUESTS, ERRORS), watch("b", END - SECOND, ERRORS)
    read = await source.read([one, two])
    assert (read[one.key].error, read[two.key].error) == ("Away; check it.", None)


async def test_failing_server_gets_no_further_query(
    tsdb: Tsdb, source: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the first query and no other, not even its time."""
    original = tsdb.query

    async def once(query: str, *more: object) -> object:
        if tsdb.queries:
            tsdb.queries.append((query, None))
            raise MetricsError("Away; check it.")
        return await original(query, *more)

    monkeypatch.setattr(tsdb, "query", once)
    one, two = watch("a", END - SECOND, REQUESTS, ERRORS), watch("b", END - SECOND, ERRORS)
    read = await source.read([one, two])
    assert {read[one.key].error, read[two.key].error} == {"Away; check it."}
    assert len(tsdb.queries) == 3


async def test_watch_that_wants_nothing_causes_no_query(tsdb: Tsdb, source: Prometheus) -> None:
    read = await source.read([Watch(END, namespace="ns", name="a")])
    assert tsdb.queries == []
    assert read["ns", "a"].error is None


class Servers:
    """Makes connections, and lists those that it made."""

    def __init__(self) -> None:
        self.made: list[tuple[Server, Tsdb]] = []

    def __call__(self, server: Server, *, timeout: float, ca_file: str = "") -> Tsdb:
        del timeout, ca_file
        self.made.append((server, Tsdb(now=milliseconds(NOW))))
        return self.made[-1][1]

    @property
    def alive(self) -> int:
        return sum(not tsdb.closed for _, tsdb in self.made)


@pytest.fixture
def servers() -> Servers:
    return Servers()


async def test_each_server_has_one_connection_and_few_exist_at_once(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW, connect=servers)
    many = [watch(f"n{n}", server=Server(f"http://p{n}")) for n in range(MAX_CONNECTIONS + 8)]
    read = await source.read([*many, watch("own"), replace(many[0], name="again")])
    assert all(evidence.error is None and evidence.intervals for evidence in read.values())
    assert len(servers.made) == MAX_CONNECTIONS + 9
    assert servers.alive <= MAX_CONNECTIONS
    source.close()
    assert servers.alive == 0


async def test_idle_connection_is_closed(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW, connect=servers)
    await source.read([watch("a", server=Server("http://old"))])
    await source.read([watch("b", server=Server("http://new"))])
    assert servers.alive == 2
    servers.made[0][1].used = time.monotonic() - IDLE_SECONDS - 1
    await source.read([watch("b", server=Server("http://new"))])
    assert [tsdb.closed for _, tsdb in servers.made] == [True, False]
    source.close()


async def test_failing_server_fails_only_its_own_rollouts(servers: Servers) -> None:
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW, connect=servers)
    own, theirs = watch("own"), watch("theirs", server=Server("http://else"))
    await source.read([own, theirs])
    servers.made[1][1].fails["time()"] = MetricsError("Away; check it.")
    read = await source.read([own, theirs])
    assert (read[own.key].error, read[theirs.key].error) == (None, "Away; check it.")
    source.close()


def test_own_server_follows_the_settings() -> None:
    def settings(**more: str) -> Settings:
        return Settings(identity="test", prometheus_url="http://p", **more)  # type: ignore[arg-type]

    secret = {"prometheus_username": "u", "prometheus_password": "p", "prometheus_tenant": "t"}
    assert own_server(settings()) == Server("http://p")
    assert own_server(settings(**secret)) == Server("http://p", (("X-Scope-OrgID", "t"),), ("u", "p"))
    assert own_server(settings(prometheus_bearer_token="b")) == Server("http://p", bearer_token="b")
    hidden = secret | {"prometheus_password": "hidden", "prometheus_bearer_token": "hidden"}
    assert "hidden" not in repr(settings(**hidden))
    assert "hidden" not in repr(Server("http://p", (("x", "hidden"),), ("u", "hidden"), "hidden", "hidden"))
