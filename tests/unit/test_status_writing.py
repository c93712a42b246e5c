"""Reading and writing the status of an object."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fakes.fake_cluster import FakeCluster
from serin.api.status import LLMDeploymentStatus
from serin.cluster.port import LLMDEPLOYMENT
from serin.errors import Conflict
from serin.kube_types import Object
from serin.status_writing import stored_status, write_status

STABLE = LLMDeploymentStatus(phase="Stable", message="The stable carries all traffic.")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(lambda: datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def deployment(cluster: FakeCluster) -> Object:
    meta = {"namespace": "ns", "name": "triage"}
    return cluster.put({"apiVersion": LLMDEPLOYMENT.api_version, "kind": LLMDEPLOYMENT.kind, "metadata": meta})


async def test_changed_status_is_written_and_read_back(cluster: FakeCluster, deployment: Object) -> None:
    assert await write_status(cluster, LLMDEPLOYMENT, deployment, STABLE)
    stored = await cluster.get(LLMDEPLOYMENT, "ns", "triage")
    assert stored
    assert stored_status(stored, LLMDeploymentStatus) == STABLE


async def test_unchanged_status_is_not_written(cluster: FakeCluster, deployment: Object) -> None:
    await write_status(cluster, LLMDEPLOYMENT, deployment, STABLE)
    stored = await cluster.get(LLMDEPLOYMENT, "ns", "triage")
    assert stored
    assert not await write_status(cluster, LLMDEPLOYMENT, stored, STABLE)
    assert [call.verb for call in cluster.writes] == ["apply_status"]


async def test_foreign_fields_of_a_status_go_with_one_write(cluster: FakeCluster, deployment: Object) -> None:
    await write_status(cluster, LLMDEPLOYMENT, deployment, STABLE)
    stored = await cluster.get(LLMDEPLOYMENT, "ns", "triage")
    assert stored
    edited = stored["status"] | {"rejected": {"revision": "b" * 10}, "metrics": [{"name": "mine"}], "note": "foreign"}
    cluster.set_status(LLMDEPLOYMENT, "ns", "triage", edited)
    wrote = []
    for _ in range(2):
        stored = await cluster.get(LLMDEPLOYMENT, "ns", "triage")
        assert stored
        wrote.append(await write_status(cluster, LLMDEPLOYMENT, stored, STABLE))
    assert wrote == [True, False]
    after = await cluster.get(LLMDEPLOYMENT, "ns", "triage")
    assert after
    assert after["status"].keys().isdisjoint({"rejected", "note"})
    assert after["status"].get("metrics", []) == []


async def test_status_of_an_object_that_has_changed_is_a_conflict(cluster: FakeCluster, deployment: Object) -> None:
    await write_status(cluster, LLMDEPLOYMENT, deployment, STABLE)
    with pytest.raises(Conflict):
        await write_status(cluster, LLMDEPLOYMENT, deployment, LLMDeploymentStatus(phase="Blocked"))


def test_status_that_cannot_be_parsed_counts_as_empty() -> None:
    assert stored_status({"status": {"replicas": "many"}}, LLMDeploymentStatus) == LLMDeploymentStatus()
