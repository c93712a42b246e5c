"""A Prometheus in memory, and the source that reads it."""

from collections.abc import Iterator

import pytest

from serin.metric_sources import prometheus
from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.asking import NOW
from tests.unit.metric_sources.tsdb import Tsdb


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
