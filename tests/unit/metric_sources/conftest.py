"""A Prometheus in memory, and the source that reads it."""

from collections.abc import Iterator

import pytest

from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import NOW


@pytest.fixture
def tsdb() -> Tsdb:
    return Tsdb(now=milliseconds(NOW))


@pytest.fixture
def source(tsdb: Tsdb) -> Iterator[Prometheus]:
    assert not tsdb.closed
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW, connect=tsdb.connect)
    yield source
    source.close()
