"""The interface between reconciler and cluster: a few verbs on plain mappings, and the kinds that Serin uses.

Called by the reconciler; implemented by `serin.cluster.kubernetes_cluster` and, for tests, by an in-memory cluster that
passes the same contract tests. Watches are in `serin.handlers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from serin.api.names import API_VERSION, LLMDEPLOYMENTS, PROMPTVERSIONS
from serin.kube_types import Object


@dataclass(frozen=True)
class Kind:
    """A kind of Kubernetes object: apiVersion, plural name in URLs, and kind."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def __str__(self) -> str:
        return self.kind


LLMDEPLOYMENT = Kind(API_VERSION, LLMDEPLOYMENTS, "LLMDeployment")
PROMPTVERSION = Kind(API_VERSION, PROMPTVERSIONS, "PromptVersion")
DEPLOYMENT = Kind("apps/v1", "deployments", "Deployment")
CONTROLLER_REVISION = Kind("apps/v1", "controllerrevisions", "ControllerRevision")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVICE = Kind("v1", "services", "Service")
CONFIG_MAP = Kind("v1", "configmaps", "ConfigMap")
SECRET = Kind("v1", "secrets", "Secret")
POD = Kind("v1", "pods", "Pod")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute")
EVENT = Kind("events.k8s.io/v1", "events", "Event")
LEASE = Kind("coordination.k8s.io/v1", "leases", "Lease")

KINDS = (
    LLMDEPLOYMENT,
    PROMPTVERSION,
    DEPLOYMENT,
    CONTROLLER_REVISION,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    POD,
    HTTP_ROUTE,
    EVENT,
    LEASE,
)


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The kind of an object, by its apiVersion and kind.

    Raises:
        LookupError: Serin does not use this kind.
    """
    for kind in KINDS:
        if (obj.get("apiVersion"), obj.get("kind")) == (kind.api_version, kind.kind):
            return kind
    raise LookupError(f"{obj.get('apiVersion')} {obj.get('kind')} is not in serin.cluster.port.KINDS; add it there.")


class Reader(Protocol):
    """The two verbs that read."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None if it does not exist."""

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        """All objects of a namespace with these labels, each with apiVersion and kind."""


class Cluster(Reader, Protocol):
    """The API server. Every call has a time limit; every failure is a `ClusterError` with one sentence."""

    async def apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Server-side apply as field manager `serin`, with force; creates the object if it does not exist.

        With `metadata.resourceVersion` in `obj`, the write of an existing object is conditional; with `metadata.uid`,
        the object must exist.

        Raises:
            Conflict: the object has another resourceVersion or uid.
        """

    async def apply_status(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Replace the status, so that fields of others go: `obj` has apiVersion, kind, metadata and status.

        Raises:
            Conflict: the object does not exist, or has another resourceVersion than `obj`.
        """

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str], *, uid: str
    ) -> None:
        """Merge annotations into an object that another controller owns; never creates it.

        Raises:
            Conflict: the object with this name has another uid, or there is none.
        """

    async def adopt(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Replace the owners of an existing object, and its `managedFields` if `obj` has them; nothing else changes.

        `obj` has apiVersion, kind and metadata; uid and resourceVersion make the write conditional.

        Raises:
            Conflict: the object does not exist, or has another resourceVersion or uid.
        """

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete with background propagation; an object that does not exist is no error.

        `uid` and `version` (a resourceVersion) make it conditional: only the object that was read is deleted.

        Raises:
            Conflict: the object with this name has another uid, or another resourceVersion.
        """

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete a pod by the Eviction API, as far as a PodDisruptionBudget permits it; one that is gone is no error.

        Raises:
            Conflict: the pod with this name has another uid.
            ClusterError: the eviction was refused, for example by a PodDisruptionBudget.
        """

    async def event(
        self,
        about: Mapping[str, Any],
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the word that events.k8s.io uses
        action: str,
    ) -> None:
        """Create an Event about `about` (the whole object). A failure is logged, never raised."""
