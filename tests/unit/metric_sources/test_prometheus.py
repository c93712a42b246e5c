"""What is asked of Prometheus, and what becomes of its answers; the real one is asked in the integration tests."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import CHUNK, Prometheus
from serin.rollout.snapshot import Counts
from serin.settings import Settings

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class Asked:
    """Stands in for the HTTP client: remembers queries and answers from a table of counters."""

    def __init__(self) -> None:
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.now: dict[tuple[str, str], float] = {}
        self.then: dict[tuple[str, str], float] = {}
        self.rows: list[Any] | None = None
        self.was_there = True
        """Whether Prometheus has any sample from the beginning of the window."""

    def custom_query(self, query: str, form: dict[str, str]) -> list[Any]:
        self.queries.append((query, form))
        if self.rows is not None:
            return self.rows
        if query == "count(up)":
            return [{"metric": {}, "value": [0, "3"]}] if self.was_there else []
        names = re.findall(r'envoy_cluster_name=~"([^"]*)"', query)
        wanted = set(names[0].replace("\\\\", "").split("|")) if names else set()
        found = self.then if "time" in form else self.now
        return [
            {"metric": {"envoy_cluster_name": b, "envoy_response_code": c, "serin_aspect": aspect}, "value": [0, value]}
            for (b, c), count in found.items()
            if b in wanted
            for aspect, value in (("value", str(count)), ("time", "1767225600"))
        ]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def source(asked: Asked) -> Iterator[Prometheus]:
    source = Prometheus(Settings(identity="test"))
    source._connection.close()
    source._connection = asked
    yield source
    source.close()


async def test_one_query_serves_all_watches_and_baselines_are_asked_once(asked: Asked, source: Prometheus) -> None:
    asked.now = {("ns_a-r1_8000", "200"): 9, ("ns_b-r2_8000", "500"): 4}
    asked.then = {("ns_a-r1_8000", "200"): 5}
    watches = [Watch("ns", "a", SINCE, ("r1",)), Watch("ns", "b", SINCE, ("r2",))]
    for _ in range(3):
        read = await source.read(watches)
    assert read["ns", "a"].counts == {"r1": Counts(4, 0)}
    assert read["ns", "b"].counts == {"r2": Counts(4, 4)}
    times = [form.get("time") for _, form in asked.queries]
    assert times.count(None) == 3
    # The second has no series then: it is asked once more whether Prometheus was there at all.
    assert times.count(f"{SINCE.timestamp():.3f}") == 3


async def test_a_baseline_of_this_moment_is_asked_again_because_a_scrape_may_still_arrive(
    asked: Asked, source: Prometheus
) -> None:
    asked.now = {("ns_a-r1_8000", "200"): 9}
    fresh = Watch("ns", "a", datetime.now(UTC) - timedelta(seconds=1), ("r1",))
    await source.read([fresh])
    asked.then = {("ns_a-r1_8000", "200"): 5}
    assert (await source.read([fresh]))[fresh.key].counts == {"r1": Counts(4, 0)}


async def test_a_window_that_begins_in_a_hole_counts_nothing(asked: Asked, source: Prometheus) -> None:
    """Or the stable's whole life would be compared with the canary's first minutes."""
    asked.now, asked.was_there = {("ns_a-r1_8000", "200"): 1_000_000}, False
    evidence = (await source.read([Watch("ns", "a", SINCE, ("r1",))]))["ns", "a"]
    assert evidence.counts == {}
    assert "holds nothing from 2026-01-01 00:00:00 UTC" in str(evidence.error)


async def test_a_canary_without_traffic_is_told_that_nobody_could_watch_it(asked: Asked, source: Prometheus) -> None:
    watch = Watch("ns", "a", None, ("r1",))
    assert (await source.read([watch]))[watch.key].error is None
    asked.rows = [{"nonsense": True}]
    assert (await source.read([watch]))[watch.key].error is not None


async def test_a_baseline_goes_with_its_watch(source: Prometheus) -> None:
    await source.read([Watch("ns", "a", SINCE, ("r1",))])
    assert source._baselines
    await source.read([])
    assert not source._baselines


async def test_names_are_asked_for_in_bounded_queries(asked: Asked, source: Prometheus) -> None:
    await source.read([Watch("ns", f"name-{n}", SINCE, ("r1",)) for n in range(2 * CHUNK + 1)])
    now = [query for query, form in asked.queries if "time" not in form]
    assert len(now) == 3
    assert max(query.count("_8000|") for query in now) == 2 * (CHUNK - 1)


async def test_names_are_quoted_for_the_regular_expression_and_the_string(asked: Asked, source: Prometheus) -> None:
    await source.read([Watch("ns", "v1.2", SINCE, ("r1",))])
    assert '"ns_v1\\\\.2\\\\-r1_8000"' in asked.queries[0][0]


async def test_nothing_is_asked_where_nothing_is_wanted(asked: Asked, source: Prometheus) -> None:
    read = await source.read([Watch("ns", "a")])
    assert asked.queries == []
    assert read["ns", "a"].error is None


@pytest.mark.parametrize(
    "rows", [[{}], [{"metric": {}, "value": [0, "1"]}], [None], [{"metric": {"serin_aspect": "value"}, "value": []}]]
)
async def test_rows_that_make_no_sense_are_an_error_and_no_count(
    asked: Asked, source: Prometheus, rows: list[Any]
) -> None:
    asked.rows = rows
    read = await source.read([Watch("ns", "a", SINCE, ("r1",))])
    assert "cannot be read" in str(read["ns", "a"].error)
    assert read["ns", "a"].counts == {}
