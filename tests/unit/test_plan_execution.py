"""The writes of a plan, and what the API server refuses of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fakes.fake_cluster import Call, FakeCluster
from serin.errors import ClusterError, Conflict, Forbidden
from serin.kube_types import Object
from serin.manifests.owner import Owner
from serin.plan_execution import ChangedError, execute
from serin.planner import Plan

OWNER = Owner("ns", "triage", "uid")
API_VERSIONS = {"Service": "v1", "ConfigMap": "v1", "HTTPRoute": "gateway.networking.k8s.io/v1"}


def make(kind: str, name: str, **more: Any) -> Object:
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"namespace": "ns", "name": name} | more}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(lambda: datetime(2026, 1, 1, tzinfo=UTC))


def refuse(cluster: FakeCluster, name: str, error: ClusterError) -> None:
    """Refuse every write of the objects of one name."""

    def before(call: Call) -> None:
        if call.writes and call.name == name:
            raise error

    cluster.before = before


def written(cluster: FakeCluster) -> list[str]:
    return [f"{call.verb} {call.name}" for call in cluster.writes]


async def test_writes_are_made_in_order_before_deletions(cluster: FakeCluster) -> None:
    old = cluster.put(make("Service", "old"))
    plan = Plan(apply=(make("ConfigMap", "state"), make("HTTPRoute", "triage")), delete=(old,))
    failures = await execute(cluster, OWNER, plan)
    assert (failures.first, failures.refusal) == (None, None)
    assert written(cluster) == ["apply state", "apply triage", "delete old"]


@pytest.mark.parametrize(("withdraws", "expected"), [(True, ["apply triage"]), (False, [])])
async def test_refused_write_stops_all_but_a_route_that_withdraws_weight(
    cluster: FakeCluster,
    withdraws: bool,  # noqa: FBT001 - a column of the table
    expected: list[str],
) -> None:
    old = cluster.put(make("Service", "old"))
    refuse(cluster, "state", Forbidden("No."))
    writes = (make("ConfigMap", "state"), make("Service", "new"), make("HTTPRoute", "triage"))
    failures = await execute(cluster, OWNER, Plan(apply=writes, delete=(old,), withdraws=withdraws))
    assert isinstance(failures.write, Forbidden)
    assert failures.refusal is failures.first is failures.write
    assert written(cluster) == expected


async def test_conflict_of_an_object_that_has_changed_is_raised(cluster: FakeCluster) -> None:
    cluster.put(make("ConfigMap", "state"))
    with pytest.raises(Conflict):
        await execute(cluster, OWNER, Plan(apply=(make("ConfigMap", "state", resourceVersion="99", uid="other"),)))


async def test_conflict_of_an_unchanged_object_is_a_refusal(cluster: FakeCluster) -> None:
    found = cluster.put(make("ConfigMap", "state"))
    refuse(cluster, "state", Conflict("A webhook says 409."))
    failures = await execute(cluster, OWNER, Plan(apply=(found,)))
    assert isinstance(failures.refusal, Conflict)


async def test_conflict_of_an_unconditional_apply_is_a_refusal(cluster: FakeCluster) -> None:
    cluster.put(make("Service", "triage"))
    refuse(cluster, "triage", Conflict("A webhook says 409."))
    failures = await execute(cluster, OWNER, Plan(apply=(make("Service", "triage"),)))
    assert isinstance(failures.refusal, Conflict)


async def test_refused_deletion_stops_no_other_deletion(cluster: FakeCluster) -> None:
    first, second = cluster.put(make("Service", "first")), cluster.put(make("Service", "second"))
    refuse(cluster, "first", Forbidden("No."))
    failures = await execute(cluster, OWNER, Plan(delete=(first, second)))
    assert isinstance(failures.refusal, Forbidden)
    assert written(cluster) == ["delete second"]


async def test_deletion_of_a_changed_object_is_retried_and_no_refusal(cluster: FakeCluster) -> None:
    found = cluster.put(make("Service", "old"))
    cluster.put(found | {"spec": {"changed": True}})
    failures = await execute(cluster, OWNER, Plan(delete=(found,)))
    assert isinstance(failures.first, ChangedError)
    assert failures.refusal is None
