"""What pods show of their documents: rows of Prometheus to digests by pod; integration tests use a real Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from serin.analysis.counts import ShownDocument
from serin.errors import MetricsError
from serin.metric_sources.document_queries import ASPECT
from serin.metric_sources.port import RefusedError, Watch
from serin.metric_sources.prometheus import Prometheus
from tests.unit.metric_sources.tsdb import Tsdb

WATCH = Watch(namespace="ns", name="a", documents_of=("e1",), leaving=("r1", "r2"))
AT = 1_000.0


def row(value: float, **labels: str) -> dict[str, Any]:
    return {"metric": {"namespace": "ns", "deployment": "a", **labels}, "value": [AT, str(value)]}


def shown(aspect: str, value: float, pod: str, **labels: str) -> dict[str, Any]:
    return row(value, **{"engine_revision": "e1", "pod": pod, ASPECT: aspect, **labels})


async def test_digests_in_force_are_read_by_engine_and_pod(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.rows["split_info"] = [
        shown("digest", 2, "one", digest="new"),
        shown("digest", 1, "two", digest="new"),
        shown("digest", 1, "two", digest="old"),
        shown("refused", 1, "two"),
        shown("time", AT, "one"),
        shown("time", AT - 5, "two"),
        shown("time", AT, "two"),
        shown("digest", 1, "three", digest="new"),  # between two scrapes
        shown("digest", 1, "", digest="new"),
        shown("time", AT, "other", engine_revision="e2"),
        shown("time", AT, "other", deployment="b"),
    ]
    found = (await source.read([WATCH]))[WATCH.key]
    assert found.documents == {
        "e1": {
            "one": ShownDocument(frozenset({"new"}), datetime.fromtimestamp(AT, UTC)),
            "two": ShownDocument(frozenset({"new", "old"}), datetime.fromtimestamp(AT - 5, UTC), refused=True),
        }
    }


async def test_target_stands_for_a_pod_without_a_name(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.rows["split_info"] = [
        shown("digest", 1, "", digest="new", instance="10.0.0.1:8000"),
        shown("time", AT, "", instance="10.0.0.1:8000"),
    ]
    assert set((await source.read([WATCH]))[WATCH.key].documents["e1"]) == {"10.0.0.1:8000"}


async def test_revision_without_series_has_no_request_in_progress(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.rows["requests_started_total"] = [
        row(3, revision="r1"),
        row(9, revision="r9"),
        row(1, revision="r2", deployment="b"),
    ]
    assert (await source.read([WATCH]))[WATCH.key].in_progress == {"r1": 3.0, "r2": 0.0}


async def test_refused_query_leaves_everything_unknown(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["split_info"] = tsdb.fails["requests_started_total"] = RefusedError("Too large; ask for less.")
    found = (await source.read([WATCH]))[WATCH.key]
    assert (found.error, found.documents, found.in_progress) == (None, {}, {})


async def test_server_that_does_not_answer_is_an_error(tsdb: Tsdb, source: Prometheus) -> None:
    tsdb.fails["split_info"] = MetricsError("Prometheus is down; check it.")
    assert (await source.read([WATCH]))[WATCH.key].error == "Prometheus is down; check it."
