"""Reads the status that an object has, and writes a new one if it differs.

Called by both reconcilers. The write is conditional on the resourceVersion that was read, so a replica that has lost
the leader election gets a conflict instead of overwriting the status of the new leader.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from serin.api.status import StatusModel
from serin.cluster.port import Cluster, Kind
from serin.kube_types import Object

Status = TypeVar("Status", bound=StatusModel)


def stored_status(obj: Object, model: type[Status]) -> Status:
    """The status of an object as it was read; an empty one if it cannot be parsed, because it can be rebuilt."""
    try:
        return model.model_validate(obj.get("status") or {})
    except ValidationError:
        return model()


async def write_status(cluster: Cluster, kind: Kind, obj: Object, status: StatusModel) -> bool:
    """Write the status if it differs from that of `obj`; returns whether it was written.

    Raises:
        Conflict: the object has changed since it was read.
        ClusterError: the API server refused the write or did not answer.
    """
    new = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    if new == obj.get("status"):
        return False
    meta = {name: obj["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "status": new}
    await cluster.apply_status(kind, body)
    return True
