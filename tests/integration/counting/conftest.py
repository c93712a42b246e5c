"""One real Prometheus for these tests, and the pods that it scrapes."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sandbox.control_plane import api_tier
from sandbox.control_plane.api_tier import Handle
from serin.metric_sources.prometheus import Prometheus
from tests.integration.scraped import Pods, scraped_pods, settings


@pytest.fixture(scope="package")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    with api_tier.start(tmp_path_factory.mktemp("collector"), prometheus=True) as handle:
        yield handle


KINDS: tuple[dict[str, str], ...] = (
    *({} for _ in range(13)),
    {"namespace": "ns", "deployment": "triage"},
    {"namespace": "other", "deployment": "triage"},
    {"namespace": "gateway"},
    {"namespace": "ns", "deployment": "triage", "engine_revision": "engine-a"},
    {"namespace": "ns", "deployment": "triage", "engine_revision": "engine-b"},
    {"namespace": "ns", "deployment": "flight", "engine_revision": "e-flight"},
)
"""Target labels of pairs of pods; all exist from the start, because Prometheus finds new ones only after seconds."""


@pytest.fixture(scope="package")
def pods(tier: Handle) -> Iterator[Pods]:
    with scraped_pods(tier) as pods:
        for number, labels in enumerate(KINDS):
            for replica in "ab":
                pods.add(f"pod-{number}-{replica}", reload=False, **labels)
        pods.reload()
        yield pods


@pytest.fixture
async def source(tier: Handle) -> AsyncIterator[Prometheus]:
    assert tier.prometheus_url
    source = Prometheus(settings(tier.prometheus_url))
    yield source
    source.close()
