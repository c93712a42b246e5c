"""Which engine revision a Deployment is for, and which pods are its own, whatever the Deployment's labels say."""

from __future__ import annotations

from typing import Any

import pytest

from serin.manifests.observed import engine_revision_of, engines


def deployment(name: str = "triage-e1", engine: str | None = "e1", labels: Any = None) -> dict[str, Any]:
    chosen = {"serin.dev/deployment": "triage"} | ({"serin.dev/engine-revision": engine} if engine else {})
    return {"metadata": {"name": name, "labels": labels}, "spec": {"replicas": 2, "selector": {"matchLabels": chosen}}}


def pod(name: str, labels: Any) -> dict[str, Any]:
    labels = labels and labels | {"pod-template-hash": "h1"}
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-03-01T12:00:00Z"}}


def owned_by(kind: str, name: str) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}


@pytest.mark.parametrize("labels", [None, {}, {"serin.dev/engine-revision": "e2"}], ids=["none", "empty", "another"])
def test_labels_of_a_deployment_do_not_tell_whose_it_is(labels: Any) -> None:
    pods = [
        pod("a", {"serin.dev/engine-revision": "e1"}),
        pod("b", {"serin.dev/engine-revision": "e2"}),
        pod("c", None),
    ]
    found = engines("triage", [deployment(labels=labels)], pods)
    assert {engine: [p.name for p in view.pods] for engine, view in found.items()} == {"e1": ["a"]}


@pytest.mark.parametrize(
    "other",
    [deployment(name="triage-by-hand"), deployment(engine=None), {"metadata": {"name": "triage-e1"}}],
    ids=["another name", "another selector", "no selector"],
)
def test_deployment_that_serin_did_not_make_is_no_engine(other: dict[str, Any]) -> None:
    assert engine_revision_of("triage", other) is None
    assert engines("triage", [other], []) == {}


@pytest.mark.parametrize(
    ("metadata", "own"),
    [
        pytest.param(owned_by("ReplicaSet", "triage-e1-7d9f"), True, id="ReplicaSet of the Deployment"),
        pytest.param({}, True, id="no controller, but the label by which the ReplicaSet adopts it"),
        pytest.param({"labels": {"serin.dev/engine-revision": "e1"}}, False, id="made by hand with our labels"),
        pytest.param(owned_by("ReplicaSet", "other-7d9f"), False, id="ReplicaSet of another Deployment"),
        pytest.param(owned_by("ReplicaSet", "triage-e1-copy-7d9f"), False, id="Deployment with a longer name"),
        pytest.param(owned_by("Job", "triage-e1-7d9f"), False, id="Job"),
    ],
)
def test_pod_that_only_carries_the_labels_is_no_pod_of_the_engine(metadata: dict[str, Any], own: bool) -> None:  # noqa: FBT001
    found = pod("a", {"serin.dev/engine-revision": "e1"})
    found["metadata"] |= metadata
    assert [p.name for p in engines("triage", [deployment()], [found])["e1"].pods] == ["a"] * own
