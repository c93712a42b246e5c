"""`serin.cluster.port.Cluster` on a real API server.

Used by the reconciler through the port. Writes are counted through a hook and refused once this process may no longer
write (a deposed leader). Nothing is cached here, and nothing is retried.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from serin.api.names import FIELD_MANAGER
from serin.cluster.api_server import APPLY, ApiServer
from serin.cluster.port import EVENT, Kind
from serin.errors import ClusterError, Conflict, NotFound
from serin.kube_types import Object

PAGE = 500
MAX_PAGES = 200
NOTE_BYTES = 1024
"""Longest note that events.k8s.io/v1 takes."""

log = structlog.get_logger(__name__)


class KubernetesCluster:
    """The adapter.

    Args:
        api: the connection.
        identity: who reports Events: the name of the pod.
        may_write: asked before each write; False refuses it.
        wrote: told kind and verb of each write that was carried out.
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
        """The object, or None if there is none."""
        try:
            return await self._api.request("GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        """Every object of a namespace with these labels, page by page; a kind that the cluster lacks has none."""
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
        found: list[Object] = []
        for _ in range(MAX_PAGES):
            try:
                page = await self._api.request("GET", _path(kind, namespace), query=query)
            except NotFound:
                return []
            # The items of a list carry neither; callers want to tell them apart.
            items, meta = page.get("items"), page.get("metadata")
            if not isinstance(items, list) or not isinstance(meta, dict):
                raise ClusterError(
                    f"The API server's list of {kind.plural} in {namespace} holds no items; it is tried again."
                )
            found += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]
            token = meta.get("continue")
            if not token:
                return found
            query["continue"] = token
        raise ClusterError(
            f"There are more than {PAGE * MAX_PAGES} objects of kind {kind} in {namespace}; remove those not needed."
        )

    async def apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Server-side apply, by force."""
        return await self._apply(kind, obj, "")

    async def apply_status(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        """Server-side apply of the status; an object that is gone is a Conflict."""
        try:
            return await self._apply(kind, obj, "/status")
        except NotFound as error:
            raise Conflict(f"{kind} {obj['metadata']['name']} is gone; look again.") from error

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete with background propagation; what is gone already is fine."""
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

    async def event(
        self,
        about: Mapping[str, Any],
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the word that events.k8s.io uses
        action: str,
    ) -> None:
        """Tell people what happened to `about`; a failure is logged, never raised."""
        meta = about["metadata"]
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            # Unique, because an Event that is told twice is two Events; 40 + 1 + 32 fit any name limit.
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
            log.warning("event not recorded", reason=reason, name=meta["name"], error=str(error))
        else:
            self._wrote(EVENT, "create")

    async def _apply(self, kind: Kind, obj: Mapping[str, Any], subresource: str) -> Object:
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
        self._check_leader(f"write {kind} {name}")
        # Strict: a field that the cluster's schema does not know is refused instead of silently dropped. A header
        # filter that was dropped would send the canary's requests to the stable's prompt.
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        path = _path(kind, namespace, name) + subresource
        result = await self._api.request("PATCH", path, body=obj, query=query, content_type=APPLY)
        self._wrote(kind, "apply_status" if subresource else "apply")
        return result

    def _check_leader(self, what: str) -> None:
        if not self._may_write():
            raise ClusterError(f"Refused to {what}: this process no longer holds the Lease; it ends by itself.")


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    prefix = "/apis" if "/" in kind.api_version else "/api"
    place = f"/namespaces/{namespace}" if kind.namespaced else ""
    return f"{prefix}/{kind.api_version}{place}/{kind.plural}" + (f"/{name}" if name else "")


def _truncated(note: str) -> str:
    raw = note.encode()
    if len(raw) <= NOTE_BYTES:
        return note
    return raw[: NOTE_BYTES - 3].decode(errors="ignore") + "…"
