"""Converts Deployments, pods and split documents to the views of a snapshot; finds the engine revision of an object.

Called by the reconciler and the planner. Name and selector identify a child; labels do not, because anyone may change
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from serin.api.names import CONTAINER, FIELD_MANAGER, LABEL_ENGINE_REVISION, child_name
from serin.manifests.split_document import engine_of_split, read_split
from serin.rollout.snapshot import EngineView, PodView, SplitView

BACKING_OFF = "CrashLoopBackOff"
OUT_OF_MEMORY = "OOMKilled"


def engines(
    owner_name: str, deployments: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]
) -> dict[str, EngineView]:
    """Views by engine revision.

    Ignored are pods whose Deployment does not exist or is being deleted, and Deployments that Serin did not create.
    """
    by_revision: dict[str, list[PodView]] = {}
    for pod in pods:
        by_revision.setdefault(engine_of_pod(pod), []).append(read_pod(pod))
    made = ((engine_revision_of(owner_name, deployment), deployment) for deployment in deployments)
    return {
        engine: EngineView(
            engine_revision=engine,
            replicas=deployment["spec"].get("replicas", 1),
            pods=tuple(sorted(by_revision.get(engine, []), key=lambda p: p.name)),
            replica_failure=_message(deployment, "ReplicaFailure", "True"),
        )
        for engine, deployment in made
        if engine and not deployment["metadata"].get("deletionTimestamp")
    }


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


def read_pod(pod: Mapping[str, Any]) -> PodView:
    """The view of a pod, from its status."""
    ready = _condition(pod, "Ready")
    is_ready = ready.get("status") == "True"
    container = _engine_container(pod)
    return PodView(
        name=pod["metadata"]["name"],
        ready=is_ready,
        not_ready_since=None if is_ready else _not_ready_since(pod),
        unschedulable=_unschedulable(pod),
        crash=_crash(container),
        waiting=_waiting(container),
        deleting=bool(pod["metadata"].get("deletionTimestamp")),
        ready_since=datetime.fromisoformat(since) if is_ready and (since := ready.get("lastTransitionTime")) else None,
        exits=_exits(container),
    )


def _not_ready_since(pod: Mapping[str, Any]) -> datetime:
    """Time at which the pod was scheduled or last stopped being Ready; waiting for a node does not count as loading."""
    times = [
        pod["metadata"]["creationTimestamp"],
        _condition(pod, "Ready").get("lastTransitionTime"),
        _condition(pod, "PodScheduled").get("lastTransitionTime"),
    ]
    return max(datetime.fromisoformat(time) for time in times if time)


def _unschedulable(pod: Mapping[str, Any]) -> str | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return str(scheduled.get("message") or "no node can run the pod")
    return None


def _crash(container: Mapping[str, Any]) -> str | None:
    """Why the container counts as crashed: it ran out of memory once, or exited twice and the kubelet backs off.

    A single exit may be caused by the node, so it does not count.
    """
    state = container.get("state", {})
    ended = [s["terminated"] for s in (state, container.get("lastState", {})) if "terminated" in s]
    if any(end.get("reason") == OUT_OF_MEMORY for end in ended):
        return "the engine ran out of memory (OOMKilled)"
    times = _exits(container)
    if state.get("waiting", {}).get("reason") == BACKING_OFF and times >= 2:
        code = next((end.get("exitCode") for end in ended), "unknown")
        return f"the engine exited {times} times, last with exit code {code}; see its logs"
    return None


def _exits(container: Mapping[str, Any]) -> int:
    """How often the container has ended; a first start that still waits is no end."""
    state, restarts = container.get("state", {}), int(container.get("restartCount", 0))
    ended = "terminated" in state or ("waiting" in state and "terminated" in container.get("lastState", {}))
    return restarts + ended


def _waiting(container: Mapping[str, Any]) -> str | None:
    waiting = container.get("state", {}).get("waiting", {})
    if not waiting.get("reason") or waiting["reason"] in {"ContainerCreating", "PodInitializing"}:
        return None
    return ": ".join(filter(None, (waiting["reason"], waiting.get("message"))))


def _engine_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == CONTAINER), {})


def _condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    conditions = obj.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == type_), {})


def _message(obj: Mapping[str, Any], type_: str, status: str) -> str | None:
    condition = _condition(obj, type_)
    return str(condition.get("message") or type_) if condition.get("status") == status else None
