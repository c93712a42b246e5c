"""Watches of two revisions at one time, and samples of one target, for the tests of this directory."""

from datetime import UTC, datetime, timedelta
from typing import Any

from serin.analysis.counts import Tally
from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.port import Watch
from tests.unit.metric_sources.tsdb import Tsdb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
END = NOW - 15 * SECOND
REQUESTS = Tally("serin_requests_total", by="outcome")
ERRORS = Tally("errors_total")
TARGET = {"instance": "10.0.0.1:8000", "job": "vllm"}


def watch(name: str = "a", begin: datetime | None = END - 5 * SECOND, *tallies: Tally, **more: Any) -> Watch:
    return Watch(begin, (("r1", "e1"), ("r2", "e2")), tallies or (REQUESTS,), namespace="ns", name=name, **more)


def scraped(tsdb: Tsdb, seconds: int, value: float, **labels: str) -> None:
    """Add a sample so many seconds before the end of the interval."""
    tsdb.add("serin_requests_total", milliseconds(END - seconds * SECOND), value, **(TARGET | labels))
