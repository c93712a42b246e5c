"""Contract of `serin.cluster.port.Cluster`, run against the fake and the real implementation.

Each check takes a `Harness` and a name of its own, so that checks do not disturb each other on a shared API server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import pytest

from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, SERVICE, Cluster, Kind
from serin.errors import Conflict, Invalid

NAMESPACE = "default"


class Harness(Protocol):
    """A cluster under test, and writes of another field manager."""

    cluster: Cluster

    async def edit(self, kind: Kind, name: str, merge: Mapping[str, Any]) -> None:
        """Merge this into an object as another field manager."""


def deployment(name: str, *, replicas: int = 1, image: str = "one", **labels: str) -> dict[str, Any]:
    container = {"name": "engine", "image": image}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name, **labels}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


def with_status(name: str, replicas: int, version: str | None = None) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE} | ({"resourceVersion": version} if version else {})
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "status": {"replicas": replicas}}


async def what_is_not_there_is_none(h: Harness, name: str) -> None:
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name) is None


async def applying_creates_and_applying_the_same_again_changes_nothing(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, deployment(name))
    again = await h.cluster.apply(DEPLOYMENT, deployment(name))
    assert created["metadata"]["generation"] == 1
    assert created["metadata"]["uid"]
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name) == again


async def the_generation_counts_changes_of_the_spec_alone(h: Harness, name: str) -> None:
    await h.cluster.apply(DEPLOYMENT, deployment(name))
    labelled = await h.cluster.apply(DEPLOYMENT, deployment(name, tier="gpu"))
    scaled = await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=2, tier="gpu"))
    assert labelled["metadata"]["generation"] == 1
    assert scaled["metadata"]["generation"] == 2
    assert scaled["spec"]["replicas"] == 2


async def what_is_no_longer_applied_goes_and_what_others_set_stays(h: Harness, name: str) -> None:
    await h.cluster.apply(DEPLOYMENT, deployment(name, ours="yes"))
    await h.edit(DEPLOYMENT, name, {"metadata": {"labels": {"theirs": "yes"}}, "spec": {"paused": True}})
    after = await h.cluster.apply(DEPLOYMENT, deployment(name))
    assert after["metadata"]["labels"] == {"app": name, "theirs": "yes"}
    assert after["spec"]["paused"] is True


async def apply_takes_back_what_somebody_else_changed(h: Harness, name: str) -> None:
    await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=3))
    await h.edit(DEPLOYMENT, name, {"spec": {"replicas": 9}})
    after = await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=3))
    assert after["spec"]["replicas"] == 3


async def a_conditional_write_needs_the_current_version(h: Harness, name: str) -> None:
    first = await h.cluster.apply(DEPLOYMENT, deployment(name))
    current = await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=2))
    stale, fresh = deployment(name, replicas=3), deployment(name, replicas=4)
    stale["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    fresh["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await h.cluster.apply(DEPLOYMENT, stale)
    assert (await h.cluster.apply(DEPLOYMENT, fresh))["spec"]["replicas"] == 4


async def a_write_bound_to_a_uid_does_not_bring_back_what_was_deleted(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, deployment(name))
    await h.cluster.delete(DEPLOYMENT, NAMESPACE, name)
    stale = deployment(name)
    stale["metadata"]["uid"] = created["metadata"]["uid"]
    with pytest.raises(Conflict):
        await h.cluster.apply(DEPLOYMENT, stale)
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name) is None
    # With a resourceVersion alone, server-side apply creates an object that does not exist.
    del stale["metadata"]["uid"]
    stale["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
    assert (await h.cluster.apply(DEPLOYMENT, stale))["metadata"]["uid"] != created["metadata"]["uid"]


async def status_and_spec_are_written_apart(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, {**deployment(name), "status": {"replicas": 7}})
    assert created.get("status", {}).get("replicas") is None
    reported = await h.cluster.apply_status(DEPLOYMENT, with_status(name, 1))
    assert reported["status"]["replicas"] == 1
    assert reported["metadata"]["generation"] == created["metadata"]["generation"]
    changed = await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=2))
    assert changed["status"]["replicas"] == 1


async def a_status_needs_its_object_at_the_named_version(h: Harness, name: str) -> None:
    with pytest.raises(Conflict):
        await h.cluster.apply_status(DEPLOYMENT, with_status(name, 1))
    created = await h.cluster.apply(DEPLOYMENT, deployment(name))
    version = created["metadata"]["resourceVersion"]
    await h.cluster.apply_status(DEPLOYMENT, with_status(name, 1, version))
    with pytest.raises(Conflict):
        await h.cluster.apply_status(DEPLOYMENT, with_status(name, 2, version))


async def a_status_is_replaced_with_what_others_wrote_in_it(h: Harness, name: str) -> None:
    await h.cluster.apply(DEPLOYMENT, deployment(name))
    with_more = with_status(name, 2)
    with_more["status"] |= {"updatedReplicas": 2, "conditions": [condition("Foreign")]}
    await h.cluster.apply_status(DEPLOYMENT, with_more)
    with_other = with_status(name, 2)
    with_other["status"] |= {"conditions": [condition("Ours")]}
    replaced = await h.cluster.apply_status(DEPLOYMENT, with_other)
    assert "updatedReplicas" not in replaced["status"]
    assert [each["type"] for each in replaced["status"]["conditions"]] == ["Ours"]


def condition(type_: str) -> dict[str, str]:
    return {"type": type_, "status": "True"}


async def deleting_is_bound_to_the_uid(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, deployment(name))
    with pytest.raises(Conflict):
        await h.cluster.delete(DEPLOYMENT, NAMESPACE, name, uid="00000000-0000-0000-0000-000000000000")
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name)
    await h.cluster.delete(DEPLOYMENT, NAMESPACE, name, uid=created["metadata"]["uid"])
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name) is None


async def deleting_is_bound_to_the_version(h: Harness, name: str) -> None:
    created = (await h.cluster.apply(DEPLOYMENT, deployment(name)))["metadata"]
    current = (await h.cluster.apply(DEPLOYMENT, deployment(name, replicas=2)))["metadata"]
    with pytest.raises(Conflict):
        await h.cluster.delete(DEPLOYMENT, NAMESPACE, name, uid=created["uid"], version=created["resourceVersion"])
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name)
    await h.cluster.delete(DEPLOYMENT, NAMESPACE, name, uid=current["uid"], version=current["resourceVersion"])
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, name) is None


async def deleting_what_is_gone_is_fine(h: Harness, name: str) -> None:
    await h.cluster.delete(DEPLOYMENT, NAMESPACE, name, uid="00000000-0000-0000-0000-000000000000", version="1")


async def a_list_holds_what_carries_the_labels_and_says_what_it_is(h: Harness, name: str) -> None:
    for suffix, of in (("a", name), ("b", name), ("c", "other")):
        await h.cluster.apply(DEPLOYMENT, deployment(f"{name}-{suffix}", of=of))
    found = await h.cluster.list(DEPLOYMENT, NAMESPACE, labels={"of": name})
    assert sorted(o["metadata"]["name"] for o in found) == [f"{name}-a", f"{name}-b"]
    assert {(o["apiVersion"], o["kind"]) for o in found} == {("apps/v1", "Deployment")}
    assert await h.cluster.list(SERVICE, NAMESPACE, labels={"of": name}) == []


async def managed_fields_tell_when_we_last_changed_what(h: Harness, name: str) -> None:
    await h.cluster.apply(DEPLOYMENT, deployment(name))
    await h.cluster.apply_status(DEPLOYMENT, with_status(name, 1))
    obj = await h.cluster.get(DEPLOYMENT, NAMESPACE, name)
    assert obj is not None
    ours = [e for e in obj["metadata"]["managedFields"] if e["manager"] == "serin"]
    assert sorted((e["operation"], e.get("subresource", "")) for e in ours) == [("Apply", ""), ("Update", "status")]
    assert all(e["time"].endswith("Z") for e in ours)


async def a_record_keeps_its_data_while_its_annotations_change(h: Harness, name: str) -> None:
    record = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {"serin.dev/trial": "{}"}},
        "data": {"revision": "abc"},
        "revision": 1,
    }
    await h.cluster.apply(CONTROLLER_REVISION, record)
    record["metadata"] = {"name": name, "namespace": NAMESPACE, "annotations": {"serin.dev/promotion": "1"}}
    after = await h.cluster.apply(CONTROLLER_REVISION, record)
    assert after["metadata"]["annotations"] == {"serin.dev/promotion": "1"}
    assert after["data"] == {"revision": "abc"}


async def annotating_merges_and_needs_the_object_that_was_read(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, deployment(name))
    uid = created["metadata"]["uid"]
    await h.cluster.annotate(DEPLOYMENT, NAMESPACE, name, {"serin.dev/split": "one"}, uid=uid)
    await h.cluster.annotate(DEPLOYMENT, NAMESPACE, name, {"serin.dev/split": "two"}, uid=uid)
    after = await h.cluster.apply(DEPLOYMENT, deployment(name))
    assert after["metadata"]["annotations"]["serin.dev/split"] == "two"
    assert after["spec"] == created["spec"]
    # Of all kinds, a Deployment alone counts changes of its annotations as changes of its spec.
    assert after["metadata"]["generation"] == created["metadata"]["generation"] + 2
    with pytest.raises(Conflict):
        await h.cluster.annotate(DEPLOYMENT, NAMESPACE, name, {"a": "b"}, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Conflict):
        await h.cluster.annotate(DEPLOYMENT, NAMESPACE, f"{name}-gone", {"a": "b"}, uid=uid)
    assert await h.cluster.get(DEPLOYMENT, NAMESPACE, f"{name}-gone") is None


async def adopting_replaces_owners_and_needs_the_object_that_was_read(h: Harness, name: str) -> None:
    created = await h.cluster.apply(DEPLOYMENT, deployment(name) | {"metadata": _owned(name, "one")})
    read = {field: created["metadata"][field] for field in ("name", "namespace", "uid", "resourceVersion")}
    with pytest.raises(Invalid):
        await h.cluster.apply(DEPLOYMENT, deployment(name) | {"metadata": _owned(name, "two", also="one")})
    metadata = read | {"ownerReferences": _owned(name, "two")["ownerReferences"]}
    adopted = await h.cluster.adopt(DEPLOYMENT, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    assert [ref["uid"] for ref in adopted["metadata"]["ownerReferences"]] == ["two"]
    assert adopted["spec"] == created["spec"]
    assert adopted["metadata"]["generation"] == created["metadata"]["generation"]
    for stale in ({}, {"resourceVersion": adopted["metadata"]["resourceVersion"], "uid": "other"}):
        with pytest.raises(Conflict):
            await h.cluster.adopt(
                DEPLOYMENT, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata | stale}
            )
    gone = metadata | {"name": f"{name}-gone"}
    with pytest.raises(Conflict):
        await h.cluster.adopt(DEPLOYMENT, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": gone})


def _owned(name: str, *uids: str, also: str | None = None) -> dict[str, Any]:
    owners = [
        {"apiVersion": "serin.dev/v1alpha1", "kind": "LLMDeployment", "name": uid, "uid": uid, "controller": True}
        for uid in (*uids, *([also] if also else []))
    ]
    return {**deployment(name)["metadata"], "ownerReferences": owners}


CHECKS: tuple[Callable[[Harness, str], Awaitable[None]], ...] = (
    what_is_not_there_is_none,
    applying_creates_and_applying_the_same_again_changes_nothing,
    the_generation_counts_changes_of_the_spec_alone,
    what_is_no_longer_applied_goes_and_what_others_set_stays,
    apply_takes_back_what_somebody_else_changed,
    a_conditional_write_needs_the_current_version,
    a_write_bound_to_a_uid_does_not_bring_back_what_was_deleted,
    status_and_spec_are_written_apart,
    a_status_needs_its_object_at_the_named_version,
    a_status_is_replaced_with_what_others_wrote_in_it,
    deleting_is_bound_to_the_uid,
    deleting_is_bound_to_the_version,
    deleting_what_is_gone_is_fine,
    a_list_holds_what_carries_the_labels_and_says_what_it_is,
    managed_fields_tell_when_we_last_changed_what,
    a_record_keeps_its_data_while_its_annotations_change,
    annotating_merges_and_needs_the_object_that_was_read,
    adopting_replaces_owners_and_needs_the_object_that_was_read,
)
