"""What the benchmark of a reading reads: all that a trial of the default spec wants, and every count of it."""

import re

import pytest

from bench.reading import rollouts
from serin.metric_sources.counter_growth import milliseconds
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import END, NOW, SECOND

_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


async def test_reading_counts_every_tally_of_every_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "ROLLOUTS", 2)
    tsdb = Tsdb(now=milliseconds(NOW))
    for name, labels, grows in rollouts.series():
        for scrape in range(3):
            moment = milliseconds(END - (31 - 15 * scrape) * SECOND)
            tsdb.add(name, moment, 1000 + grows * scrape, **dict(_LABEL.findall(labels)))
    source = Prometheus(Settings(identity="test"), clock=lambda: NOW, connect=tsdb.connect)
    watches = rollouts.watches(END - 15 * SECOND)
    read = await source.read(watches)
    source.close()
    pods, live = rollouts.STABLE_PODS + rollouts.CANARY_PODS, len(rollouts.LIVE)
    for watch in watches:
        assert read[watch.key].error is None
        assert read[watch.key].warnings == ()
        (interval,) = read[watch.key].intervals
        counted = {tally.selector: sum(interval.counts.get(tally, {}).values()) for tally in watch.tallies}
        cells = 2 * len(rollouts.LOADS) * len(rollouts.AT_LOAD) * pods
        assert counted == {
            "serin_requests_total": pods * live,
            "serin_requests_started_total": pods * live,
            'serin_requests_overdue_total{le="30"}': 0,
            'serin_requests_settled_total{le="30"}': pods * live,
            'serin_latency_requests_total{metric="ttft"}': 2 * cells,
            'serin_latency_above_total{metric="ttft"}': 3 * cells,
            "envoy_cluster_upstream_rq": 2 * rollouts.GATEWAYS,
        }
