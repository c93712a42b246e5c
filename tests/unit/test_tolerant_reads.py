"""A failed read is a fact, and no number of slow ones takes the time of the writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from fakes.fake_cluster import Call, FakeCluster
from fakes.operator_in_memory import spec
from fakes.world import KEY, World
from serin import tolerant_reads
from serin.cluster.port import CONFIG_MAP, LLMDEPLOYMENT, POD, SECRET, Kind
from serin.errors import ClusterError
from serin.kube_types import Object
from serin.manifests.evidence_map import name_of
from serin.manifests.owner import Owner
from serin.rollout.snapshot import Fact
from serin.tolerant_reads import TolerantReads, read_self

OWNER = Owner(namespace="default", name="triage", uid="1")


def failing(cluster: FakeCluster, *verbs: str) -> None:
    def before(call: Call) -> None:
        if call.verb in verbs:
            raise ClusterError(f"{call.verb} failed.")

    cluster.before = before


async def test_each_failed_read_is_the_fact_that_it_was_for() -> None:
    world = World()
    failing(world.cluster, "get", "list")
    reads = TolerantReads(world.cluster, OWNER)
    assert await reads.list(POD, "default", labels={}) == []
    assert await reads.get(SECRET, "default", "any") is None
    assert await reads.get(CONFIG_MAP, "default", name_of("triage")) is None
    assert await reads.get(CONFIG_MAP, "default", "triage-1-split") is None
    assert list(reads.failed) == [Fact.PODS, Fact.SECRET, Fact.STATE, Fact.DOCUMENTS]
    assert str(reads.failed[Fact.PODS]) == "list failed."


class Slow(FakeCluster):
    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        await asyncio.sleep(60)
        return await super().list(kind, namespace, labels=labels)


async def test_all_reads_together_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerant_reads, "SECONDS", 0.01)
    reads = TolerantReads(Slow(lambda: World().now), OWNER)
    for _ in range(3):
        assert await reads.list(POD, "default", labels={}) == []
    assert "longer than 0.01 s" in str(reads.failed[Fact.PODS])


async def test_llmdeployment_is_listed_if_it_cannot_be_read_alone() -> None:
    world = World()
    world.user_applies(spec())
    stored = world.cluster.find(LLMDEPLOYMENT, *KEY)
    failing(world.cluster, "get")
    assert await read_self(world.cluster, KEY) == stored
    with pytest.raises(ClusterError, match="get failed"):
        await read_self(world.cluster, ("default", "other"))
    failing(world.cluster, "get", "list")
    with pytest.raises(ClusterError, match="get failed"):
        await read_self(world.cluster, KEY)
