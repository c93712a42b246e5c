"""The in-memory cluster of the stories meets the same contract as a real API server."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from fakes.fake_cluster import Call, FakeCluster
from serin.cluster.port import DEPLOYMENT, Kind
from serin.errors import ClusterError
from tests.contract.cluster_port import CHECKS, NAMESPACE, Harness, deployment


def _clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


class FakeHarness:
    def __init__(self) -> None:
        self.cluster = FakeCluster(_clock)

    async def edit(self, kind: Kind, name: str, merge: Mapping[str, Any]) -> None:
        obj = self.cluster.find(kind, NAMESPACE, name)
        assert obj is not None
        self.cluster.put(_merged(obj, merge))


def _merged(have: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(have)
    for key, value in patch.items():
        result[key] = _merged(result.get(key, {}), value) if isinstance(value, Mapping) else value
    return result


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_fake_cluster_meets_the_contract(check: Callable[[Harness, str], Awaitable[None]]) -> None:
    await check(FakeHarness(), "sample")


async def test_raising_hook_prevents_the_write() -> None:
    cluster = FakeCluster(_clock)

    def refuse(call: Call) -> None:
        raise ClusterError(f"No {call}; try again.")

    cluster.before = refuse
    with pytest.raises(ClusterError, match="apply Deployment sample"):
        await cluster.apply(DEPLOYMENT, deployment("sample"))
    assert cluster.find(DEPLOYMENT, NAMESPACE, "sample") is None
    assert cluster.writes == []


async def test_children_of_a_deleted_owner_are_collected_recursively() -> None:
    cluster = FakeCluster(_clock)
    parent = cluster.put(deployment("parent"))
    child = deployment("child")
    child["metadata"]["ownerReferences"] = [{"uid": parent["metadata"]["uid"]}]
    grandchild = deployment("grandchild")
    grandchild["metadata"]["ownerReferences"] = [{"uid": cluster.put(child)["metadata"]["uid"]}]
    cluster.put(grandchild)
    cluster.collect_garbage()
    assert len(cluster.all(DEPLOYMENT)) == 3
    cluster.remove(DEPLOYMENT, NAMESPACE, "parent")
    cluster.collect_garbage()
    assert cluster.all(DEPLOYMENT) == []


async def test_what_is_read_is_a_copy_of_what_is_stored_last() -> None:
    cluster = FakeCluster(_clock)
    stored = cluster.put(deployment("sample"))
    version = stored["metadata"]["resourceVersion"]
    stored["spec"]["replicas"] = 99
    for read in (cluster.find(DEPLOYMENT, NAMESPACE, "sample"), *cluster.all(DEPLOYMENT)):
        assert read
        assert read["spec"] == deployment("sample")["spec"]
        read["metadata"]["labels"]["of"] = "the reader"
    again = cluster.find(DEPLOYMENT, NAMESPACE, "sample")
    assert again
    assert "of" not in again["metadata"]["labels"]
    cluster.put(again | {"spec": again["spec"] | {"replicas": 7}})
    newest = cluster.find(DEPLOYMENT, NAMESPACE, "sample")
    assert newest
    assert (newest["spec"]["replicas"], newest["metadata"]["resourceVersion"] != version) == (7, True)


async def test_number_of_changes_counts_what_was_stored_or_removed() -> None:
    cluster = FakeCluster(_clock)
    counted = []
    for change in (
        lambda: cluster.put(deployment("sample")),
        lambda: cluster.put(deployment("sample")),  # the same
        lambda: cluster.set_status(DEPLOYMENT, NAMESPACE, "sample", {"replicas": 1}),
        lambda: cluster.remove(DEPLOYMENT, NAMESPACE, "sample"),
        lambda: cluster.remove(DEPLOYMENT, NAMESPACE, "sample"),  # it is gone
    ):
        change()
        counted.append(cluster.changes)
    assert counted == [1, 1, 2, 3, 3]
