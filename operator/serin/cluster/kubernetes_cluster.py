"""`serin.cluster.port.Cluster` on a real API server.

Used by the reconciler through the port. A hook counts the writes. Writes fail when this process has lost the Lease.
Nothing is cached or retried.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from serin.api.names import FIELD_MANAGER
from serin.cluster.api_server import APPLY, JSON_PATCH, MERGE_PATCH, ApiServer
from serin.cluster.port import EVENT, POD, Kind
from serin.errors import ClusterError, Conflict, Invalid, NotFound
from serin.kube_types import Object

PAGE = 500
MAX_PAGES = 200
NOTE_BYTES = 1024
"""Maximum length of an Event's note in events.k8s.io/v1."""

_BUILT_IN = frozenset({"v1", "apps/v1", "policy/v1"})
"""Groups that every API server has."""

log = structlog.get_logger(__name__)


class KubernetesCluster:
    """A cluster behind an API server.

    Args:
        api: the connection.
        identity: reporting instance of Events: the name of the pod.
        may_write: called before each write; the write fails if it returns False.
        wrote: called with kind and verb after each successful write.
    """

    def __init__(
        self,
        api: ApiServer,
        *,
        identity: str,
        may_write: Callable[[], bool] = lambda: True,
        wrote: Callable[[Kind, str], None] = lambda _kind, _verb: None,
    ) -> None:
        self._api = api
        self._identity = identity
        self._may_write = may_write
        self._wrote = wrote

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None if it does not exist."""
        try:
            return await self._api.request("GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        """All objects of a namespace with these labels, read page by page; empty if the cluster does not have the
        kind."""
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
        found: list[Object] = []
        for _ in range(MAX_PAGES):
            try:
                page = await self._api.request("GET", _path(kind, namespace), query=query)
            except NotFound:
                if kind.api_version in _BUILT_IN:  # then the answer does not mean that there are no such objects
                    raise
                return []
            # The items of a list have no apiVersion and kind; callers need both.
            items, meta = page.get("items"), page.get("metadata")
            if not isinstance(items, list) or not isinstance(meta, dict):
                raise ClusterError(
                    f"The API server's list of {kind.plural} in {namespace} has no items; Serin retries."
                )
            found += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]
            token = meta.get("continue")
            if not token:
                return found
            query["continue"] = token
        raise ClusterError(
            f"Namespace {namespace} has more than {PAGE * MAX_PAGES} objects of kind {kind}; "
            "delete those that are not needed."
        )

    async def apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Server-side apply with force."""
        return await self._apply(kind, obj)

    async def apply_status(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Replace the status; raises Conflict if the object does not exist or has another resourceVersion."""
        meta, name = obj["metadata"], obj["metadata"]["name"]
        self._check_leader(f"write the status of {kind} {name}")
        # Neither apply nor merge removes what others wrote. `add` replaces a value; the server compares the version.
        patch: list[Object] = [{"op": "add", "path": "/status", "value": obj["status"]}]
        if version := meta.get("resourceVersion"):
            patch.append({"op": "replace", "path": "/metadata/resourceVersion", "value": version})
        path = _path(kind, meta.get("namespace", ""), name) + "/status"
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            result = await self._api.request("PATCH", path, body=patch, query=query, content_type=JSON_PATCH)
        except NotFound as error:
            raise Conflict(f"{kind} {name} was deleted; Serin reads it again.") from error
        self._wrote(kind, "apply_status")
        return result

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str], *, uid: str
    ) -> None:
        """Merge annotations into an object; raises Conflict if it does not exist or has another uid."""
        await self._merge("annotate", kind, namespace, name, {"uid": uid, "annotations": dict(annotations)})

    async def adopt(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Replace the owners of an object; raises Conflict if it is not the one that was read."""
        meta = obj["metadata"]
        fields = ("uid", "resourceVersion", "ownerReferences", "managedFields")
        change = {field: meta[field] for field in fields if field in meta}
        return await self._merge("adopt", kind, meta["namespace"], meta["name"], change)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete with background propagation; an object that does not exist is no error."""
        self._check_leader(f"delete {kind} {name}")
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        wanted = {"uid": uid, "resourceVersion": version}
        if preconditions := {field: value for field, value in wanted.items() if value is not None}:
            body["preconditions"] = preconditions
        try:
            await self._api.request("DELETE", _path(kind, namespace, name), body=body)
        except NotFound:
            return
        self._wrote(kind, "delete")

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete a pod unless a PodDisruptionBudget forbids it now; a pod that is gone is no error."""
        self._check_leader(f"evict Pod {name}")
        body: Object = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self._api.request("POST", f"{_path(POD, namespace, name)}/eviction", body=body)
        except NotFound:
            return
        self._wrote(POD, "evict")

    async def event(
        self,
        about: Mapping[str, Any],
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the word that events.k8s.io uses
        action: str,
    ) -> None:
        """Create an Event about `about`; a failure is logged, never raised."""
        meta = about["metadata"]
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            # Unique, because a repeated Event is a new object; 40 + 1 + 32 characters fit the limit of a name.
            "metadata": {"name": f"{meta['name'][:200]}.{uuid.uuid4().hex}", "namespace": meta["namespace"]},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": f"serin.dev/{FIELD_MANAGER}",
            "reportingInstance": self._identity[:128],
            "action": action,
            "reason": reason,
            "type": type,
            "note": _truncated(message),
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta.get("uid"),
                "resourceVersion": meta.get("resourceVersion"),
            },
        }
        try:
            self._check_leader(f"report {reason}")
            await self._api.request("POST", _path(EVENT, meta["namespace"]), body=body)
        except ClusterError as error:
            log.warning("event write failed", reason=reason, name=meta["name"], error=str(error))
        else:
            self._wrote(EVENT, "create")

    async def _apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
        self._check_leader(f"write {kind} {name}")
        # Strict: the API server rejects a field that is not in its schema instead of dropping it. Without the header
        # filter, the canary's requests would get the prompt of the stable.
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        path = _path(kind, namespace, name)
        result = await self._api.request("PATCH", path, body=obj, query=query, content_type=APPLY)
        self._wrote(kind, "apply")
        return result

    async def _merge(self, verb: str, kind: Kind, namespace: str, name: str, metadata: Mapping[str, Any]) -> Object:
        """Merge metadata into an object; raises Conflict if it does not exist or is another one."""
        self._check_leader(f"{verb} {kind} {name}")
        path, query = _path(kind, namespace, name), {"fieldManager": FIELD_MANAGER}
        body = {"metadata": dict(metadata)}
        try:
            result = await self._api.request("PATCH", path, body=body, query=query, content_type=MERGE_PATCH)
        except NotFound as error:
            raise Conflict(f"{kind} {name} was deleted; Serin reads it again.") from error
        except Invalid as error:
            # A patch has no preconditions: for the server, another uid is an attempt to change an immutable field.
            if "metadata.uid" not in error.detail:
                raise
            raise Conflict(f"{kind} {name} was replaced by another object; Serin reads it again.") from error
        self._wrote(kind, verb)
        return result

    def _check_leader(self, what: str) -> None:
        if not self._may_write():
            raise ClusterError(f"Cannot {what}: this process has lost the Lease and is about to exit.")


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    prefix = "/apis" if "/" in kind.api_version else "/api"
    place = f"/namespaces/{namespace}" if kind.namespaced else ""
    return f"{prefix}/{kind.api_version}{place}/{kind.plural}" + (f"/{name}" if name else "")


def _truncated(note: str) -> str:
    raw = note.encode()
    if len(raw) <= NOTE_BYTES:
        return note
    return raw[: NOTE_BYTES - 3].decode(errors="ignore") + "…"
