"""Renders the children of a resolved revision: Deployment, PodDisruptionBudget and Service.

Called by the planner. An engine revision has one Deployment, one PodDisruptionBudget and one Service, so revisions that
differ only in their prompt share pods. Pods without a split document need a Service for each revision.
`serin.routers` renders the route, `split_document` the ConfigMap.
"""

from __future__ import annotations

from typing import Any

from serin.api.names import LABEL_ENGINE_REVISION, LABEL_REVISION, PORT, PORT_NAME, child_name
from serin.manifests.owner import Owner, common_labels, selector
from serin.rollout.record import Resolved

_NO_DEADLINE = 2**31 - 1
"""With this value, the Deployment controller never reports a missed progress deadline."""


def deployment(owner: Owner, resolved: Resolved, replicas: int) -> dict[str, Any]:
    """The Deployment of an engine revision."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _engine_metadata(owner, resolved),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(owner.name, resolved.engine_revision)},
            "template": dict(resolved.pod_template),
            # The template never changes, so the strategy applies only to restarts by hand. Each pod is deleted before
            # its replacement is created, because there may be no free GPU for an additional pod.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "revisionHistoryLimit": 0,
            # Serin itself enforces the progress deadline; the default of ten minutes may be less than the loading time.
            "progressDeadlineSeconds": _NO_DEADLINE,
        },
    }


def pod_disruption_budget(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    """The PodDisruptionBudget of an engine revision: a node drain evicts one pod at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _engine_metadata(owner, resolved),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(owner.name, resolved.engine_revision)},
            # Pods that serve no requests (loading, crashing) must not block a node drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def service(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    """The Service of a backend of the route, and an address inside the cluster; see `Resolved.backend`."""
    labels = common_labels(owner.name, "backend") | {LABEL_ENGINE_REVISION: resolved.engine_revision}
    if resolved.backend == resolved.revision:
        labels |= {LABEL_REVISION: resolved.revision}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(child_name(owner.name, resolved.backend), labels),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(owner.name, resolved.engine_revision),
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _engine_metadata(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    labels = common_labels(owner.name, "engine") | {LABEL_ENGINE_REVISION: resolved.engine_revision}
    return owner.metadata(child_name(owner.name, resolved.engine_revision), labels)
