"""Carries out a plan: adopts orphans, makes the writes in order, and reports what the API server refused.

Called by the reconciler. Each write relies on the writes before it: no pods without their record, no backend without
its Service. So the first refusal stops all that follow, except a route and split documents that only take weight from a
canary: a refused Deployment must not delay a rollback. Nothing relies on a deletion, so a failed one stops no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serin.cluster.port import Cluster, kind_of
from serin.errors import ClusterError, Conflict
from serin.kube_types import Object
from serin.manifests.owner import Owner
from serin.manifests.split_document import refuse_if_too_large
from serin.planner import Plan, without_owner


class ChangedError(Conflict):
    """An object was not deleted because it has changed since it was read; the next reconcile reads it again."""


@dataclass(frozen=True)
class Failures:
    """What of a plan was not carried out."""

    write: ClusterError | None = None
    """The first refused write; the writes after it were not made."""
    deletion: ClusterError | None = None
    """A failed deletion: the first one that was refused, else a `ChangedError`."""

    @property
    def first(self) -> ClusterError | None:
        """The failure for which the reconcile is retried."""
        return self.write or self.deletion

    @property
    def refusal(self) -> ClusterError | None:
        """The failure that readers of the status must know; not a `ChangedError`, which a retry resolves."""
        return self.write or (None if isinstance(self.deletion, ChangedError) else self.deletion)


async def execute(cluster: Cluster, owner: Owner, plan: Plan) -> Failures:
    """Adopt, make the writes, then the deletions.

    Raises:
        Conflict: an object has changed since it was read, so the decision relies on an old read.
    """
    versions, refused = await _adopt(cluster, plan)
    if refused := await _apply(cluster, plan, versions, refused):
        return Failures(write=refused)
    return Failures(deletion=await _delete(cluster, owner, plan))


async def _adopt(cluster: Cluster, plan: Plan) -> tuple[dict[str, str], ClusterError | None]:
    """The new resourceVersions of what was adopted, by uid, and the first refusal, which stops the adoptions."""
    versions: dict[str, str] = {}
    for obj in plan.adopt:
        try:
            adopted = await cluster.adopt(kind_of(obj), obj)
        except ClusterError as error:
            if isinstance(error, Conflict) and await _has_changed(cluster, obj):
                raise
            return versions, error
        versions[obj["metadata"]["uid"]] = adopted["metadata"]["resourceVersion"]
    return versions, None


def _after_adoption(obj: Object, plan: Plan, versions: Mapping[str, str]) -> Object:
    """The write of an object, fit to what became of its adoption."""
    meta = obj["metadata"]
    if meta.get("uid") in versions:
        return obj | {"metadata": meta | {"resourceVersion": versions[meta["uid"]]}}
    if meta.get("uid") in {orphan["metadata"]["uid"] for orphan in plan.adopt}:
        # It still has its old owner, and an object has one controller: the write would be refused for that.
        return without_owner(obj)
    return obj


async def _apply(
    cluster: Cluster, plan: Plan, versions: Mapping[str, str], first: ClusterError | None
) -> ClusterError | None:
    """The first refusal, which may be that of an adoption."""
    for wanted in plan.apply:
        if first and not plan.carries_split(wanted):
            continue
        obj = _after_adoption(wanted, plan, versions)
        try:
            refuse_if_too_large(obj)
            await cluster.apply(kind_of(obj), obj)
        except ClusterError as error:
            if isinstance(error, Conflict) and await _has_changed(cluster, obj):
                raise
            first = first or error
            if lesser := plan.lesser_of(wanted):
                await _apply_lesser(cluster, _after_adoption(lesser, plan, versions))
    return first


async def _apply_lesser(cluster: Cluster, obj: Object) -> None:
    """Write the weights alone: what else is new in the object, or its owner, may be why it was refused."""
    try:
        await cluster.apply(kind_of(obj), obj)
    except ClusterError as error:
        if isinstance(error, Conflict) and await _has_changed(cluster, obj):
            raise


async def _delete(cluster: Cluster, owner: Owner, plan: Plan) -> ClusterError | None:
    failure: ClusterError | None = None
    for obj in plan.delete:
        meta = obj["metadata"]
        try:
            await cluster.delete(
                kind_of(obj), owner.namespace, meta["name"], uid=meta["uid"], version=meta["resourceVersion"]
            )
        except ClusterError as error:
            changed = isinstance(error, Conflict) and await _has_changed(cluster, obj)
            if failure is None or isinstance(failure, ChangedError):
                failure = ChangedError(str(error)) if changed else error
    return failure


async def _has_changed(cluster: Cluster, obj: Object) -> bool:
    """Whether the object differs from what was read; if not, an admission webhook answered 409 and will again.

    An apply without resourceVersion takes the object as it is, so it cannot conflict with another writer.
    """
    meta = obj["metadata"]
    if "resourceVersion" not in meta:
        return False
    try:
        current = await cluster.get(kind_of(obj), meta["namespace"], meta["name"])
    except ClusterError:
        return True
    now = current["metadata"] if current else {}
    return any(meta.get(field) != now.get(field) for field in ("uid", "resourceVersion"))
