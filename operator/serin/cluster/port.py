"""What the reconciler may ask of a cluster: a few verbs over plain mappings, and the kinds that Serin deals with.

Called by the reconciler, implemented by `serin.cluster.kubernetes_cluster` and, for tests, by an in-memory cluster
that passes the same contract test. Watches are not here: they belong to `serin.handlers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from serin.api.names import API_VERSION, LLMDEPLOYMENTS, PROMPTVERSIONS
from serin.kube_types import Object


@dataclass(frozen=True)
class Kind:
    """One resource of the API: what its objects say they are, and what its URL calls it."""

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
    """The kind that an object says it is.

    Raises:
        LookupError: Serin does not deal with such objects.
    """
    for kind in KINDS:
        if (obj.get("apiVersion"), obj.get("kind")) == (kind.api_version, kind.kind):
            return kind
    raise LookupError(f"{obj.get('apiVersion')} {obj.get('kind')} is not in serin.cluster.port.KINDS; add it there.")


class Cluster(Protocol):
    """The API server. Every call is bounded in time; every failure is a `ClusterError` of one sentence."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None if there is none."""

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        """Every object of a namespace that carries these labels, each with its apiVersion and kind."""

    async def apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Server-side apply as field manager `serin`, by force; creates what is not there.

        A `metadata.resourceVersion` in `obj` makes the write conditional for an object that exists, a `metadata.uid`
        demands that it exists.

        Raises:
            Conflict: the object is not at that resourceVersion any more, or not that object.
        """

    async def apply_status(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """The same for the status subresource: `obj` holds apiVersion, kind, metadata and status.

        Raises:
            Conflict: the object is gone, or not at the resourceVersion that `obj` names.
        """

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete with background propagation; what is gone already is fine.

        `uid` and `version` (a resourceVersion) make it conditional: only the object that was read is deleted.

        Raises:
            Conflict: another object, of another uid, has the name now, or the object has changed since.
        """

    async def event(
        self,
        about: Mapping[str, Any],
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the word that events.k8s.io uses
        action: str,
    ) -> None:
        """Tell people what happened to `about` (the whole object). A failure is logged, never raised."""
