"""Converts Deployments, pods and split documents to the views of a snapshot; finds the engine revision of an object.

Called by the reconciler and the planner. Name and selector identify a child; labels do not, because anyone may change
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from serin.api.names import FIELD_MANAGER, LABEL_ENGINE_REVISION, child_name
from serin.manifests.log_lines import one_line
from serin.manifests.pod_status import condition, is_ended, read_ended, read_pod
from serin.manifests.split_document import engine_of_split, read_split
from serin.rollout.snapshot import EngineView, SplitView

LABEL_TEMPLATE = "pod-template-hash"
"""The label that a Deployment gives its pods."""


def engines(
    owner_name: str, deployments: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]
) -> dict[str, EngineView]:
    """Views by engine revision.

    Ignored are pods whose Deployment does not exist or is being deleted, pods that only carry its labels, and
    Deployments that Serin did not create. Pods that have ended are apart: they neither serve nor load.
    """
    by_revision: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        by_revision.setdefault(engine_of_pod(pod), []).append(pod)
    made = ((engine_revision_of(owner_name, deployment), deployment) for deployment in deployments)
    return {
        engine: _engine(engine, deployment, by_revision.get(engine, []))
        for engine, deployment in made
        if engine and not deployment["metadata"].get("deletionTimestamp")
    }


def _engine(engine: str, deployment: Mapping[str, Any], pods: list[Mapping[str, Any]]) -> EngineView:
    failure = condition(deployment, "ReplicaFailure")
    fails = failure.get("status") == "True"
    since = failure.get("lastTransitionTime")
    own = sorted((pod for pod in pods if _is_of(pod, deployment)), key=lambda pod: str(pod["metadata"]["name"]))
    return EngineView(
        engine_revision=engine,
        replicas=deployment["spec"].get("replicas", 1),
        pods=tuple(read_pod(pod) for pod in own if not is_ended(pod)),
        replica_failure=one_line(str(failure.get("message") or "ReplicaFailure")) if fails else None,
        replica_failure_since=datetime.fromisoformat(since) if fails and since else None,
        ended=tuple(read_ended(pod) for pod in own if is_ended(pod)),
    )


def _is_of(pod: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """Whether a pod is the Deployment's: a ReplicaSet of it controls the pod, or will adopt it.

    Other pods with its labels may get requests of its Service, but say nothing about the revision.
    """
    metadata = pod["metadata"]
    controller = next((ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")), None)
    if controller is None:
        return LABEL_TEMPLATE in (metadata.get("labels") or {})
    name, _, _ = str(controller.get("name")).rpartition("-")
    return controller.get("kind") == "ReplicaSet" and name == str(deployment["metadata"]["name"])


def split_views(owner_name: str, splits: Iterable[Mapping[str, Any]]) -> dict[str, SplitView]:
    """Views of the split documents that can be read, by engine revision."""
    found = ((engine_of_split(owner_name, obj), read_split(obj), obj) for obj in splits)
    return {
        engine: SplitView(document.digest, tuple(revision for revision, _ in document.shares), applied_at(obj))
        for engine, document, obj in found
        if engine and document
    }


def applied_at(obj: Mapping[str, Any]) -> datetime | None:
    """When Serin last changed an object by an apply, in whole seconds."""
    times = [
        datetime.fromisoformat(entry["time"])
        for entry in (obj.get("metadata") or {}).get("managedFields") or ()
        if entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
        and entry.get("time")
    ]
    return max(times, default=None)


def engine_revision_of(owner_name: str, obj: Mapping[str, Any]) -> str | None:
    """The engine revision that a Deployment or PodDisruptionBudget is for; None if Serin did not make it.

    Read from the selector and confirmed by the name: of a Deployment neither can be changed.
    """
    chosen = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    engine = chosen.get(LABEL_ENGINE_REVISION)
    return engine if engine and obj["metadata"]["name"] == child_name(owner_name, engine) else None


def engine_of_pod(pod: Mapping[str, Any]) -> str:
    """The engine revision whose selectors choose a pod, by its label, as Services and ReplicaSets do; or empty."""
    return str((pod["metadata"].get("labels") or {}).get(LABEL_ENGINE_REVISION, ""))
