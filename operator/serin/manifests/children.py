"""The children of a revision, made from what was resolved: Deployment, PodDisruptionBudget, Service.

Called by the reconciler's planner. Deployments and budgets go by engine revision, Services by revision, so that two
revisions that differ in their prompt share pods. The route is in `serin.routers`.
"""

from __future__ import annotations

from typing import Any

from serin.api.names import LABEL_ENGINE_REVISION, LABEL_REVISION, PORT, PORT_NAME, child_name
from serin.manifests.owner import Owner, common_labels, selector
from serin.rollout.record import Resolved

_NO_DEADLINE = 2**31 - 1
"""By this number the Deployment controller judges no progress at all."""


def deployment(owner: Owner, resolved: Resolved, replicas: int) -> dict[str, Any]:
    """The pods of an engine revision."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _engine_metadata(owner, resolved),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(owner.name, resolved.engine_revision)},
            "template": dict(resolved.pod_template),
            # The template of an engine revision never changes, so this serves only people who restart it by hand:
            # pods go one by one before new ones come, since there may be no spare GPU for one to come first.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "revisionHistoryLimit": 0,
            # Serin judges whether a canary gets ready in time; ten minutes, the default, would call loading a failure.
            "progressDeadlineSeconds": _NO_DEADLINE,
        },
    }


def pod_disruption_budget(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    """Node drains take one pod of an engine revision at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _engine_metadata(owner, resolved),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(owner.name, resolved.engine_revision)},
            # Pods that serve nobody (still loading, crashing) must not hold up a node drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def service(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    """The backend of a revision: what the route weighs, and its private address inside the cluster."""
    labels = (
        common_labels(owner.name, "backend")
        | {LABEL_ENGINE_REVISION: resolved.engine_revision}
        | {LABEL_REVISION: resolved.revision}
    )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(child_name(owner.name, resolved.revision), labels),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(owner.name, resolved.engine_revision),
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _engine_metadata(owner: Owner, resolved: Resolved) -> dict[str, Any]:
    labels = common_labels(owner.name, "engine") | {LABEL_ENGINE_REVISION: resolved.engine_revision}
    return owner.metadata(child_name(owner.name, resolved.engine_revision), labels)
