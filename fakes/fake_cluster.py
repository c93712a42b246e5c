"""An API server in memory, with the semantics of `serin.cluster.port.Cluster` that rollouts depend on.

Used by stories and unit tests; `tests/contract/test_cluster_port.py` compares it with a real API server. It has no
controllers: objects change only by writes. `put`, `set_status` and `remove` simulate writes of users, controllers and
the gateway. Apply replaces lists as a whole, because no other writer owns parts of them.
"""

from __future__ import annotations

import builtins
import itertools
import marshal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, cast

from serin.api.names import FIELD_MANAGER
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, POD, SERVICE, Kind, kind_of
from serin.errors import ClusterError, Conflict, Invalid
from serin.kube_types import Object

_Value = TypeVar("_Value")
Place = tuple[Kind, str, str]
"""Kind, namespace, name."""
_LEAVES = frozenset({str, int, float, bool, type(None)})
_WITHOUT_REFERENCES = 2
"""A format of `marshal` in which a part that occurs twice is written twice, so that no copy shares it."""


@dataclass(frozen=True)
class Call:
    """One request, as passed to the hooks `before` and `after`."""

    verb: Literal["get", "list", "apply", "apply_status", "annotate", "adopt", "delete", "evict", "event"]
    kind: Kind
    namespace: str
    name: str
    body: Mapping[str, Any] | None = None

    @property
    def writes(self) -> bool:
        """Whether the request writes; events are writes, too."""
        return self.verb not in {"get", "list"}

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


@dataclass(frozen=True)
class FakeEvent:
    """An Event that was written."""

    namespace: str
    name: str
    reason: str
    message: str
    type: str
    action: str


class FakeCluster:
    """The in-memory cluster.

    `clock` gives the times of managedFields and creation. `before` and `after`, if set, are called around every
    request; to simulate a crash or an API server that is down, they raise.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.before: Callable[[Call], None] | None = None
        self.after: Callable[[Call], None] | None = None
        self.writes: list[Call] = []
        """All successful writes, also those that changed nothing."""
        self.events: list[FakeEvent] = []
        self.changes = 0
        """How often an object was stored or removed; as long as it stays, so do all objects."""
        self._objects: dict[Place, Object] = {}
        self._packed: dict[Place, bytes] = {}
        """The objects that were read since they were stored, as bytes, from which a copy is quick to make."""
        self._applied: dict[Place, Object] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # What the port promises ------------------------------------------------------------------------------------------

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        self._begin(Call("get", kind, namespace, name))
        return self.find(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        self._begin(Call("list", kind, namespace, ""))
        return self.all(kind, namespace, labels)

    async def apply(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        call = self._begin(Call("apply", kind, *_name(obj), body=obj))
        place = (kind, *_name(obj))
        have = self._objects.get(place)
        self._check_preconditions(obj, have)
        want = _main_part(kind, obj)
        merged = _merge(have or {}, self._applied.get(place, {}), want)
        if "ownerReferences" in want["metadata"]:
            merged["metadata"]["ownerReferences"] = _owners(have or {}, self._applied.get(place, {}), want)
        self._applied[place] = _copy(want)
        self._store(place, merged, manager=FIELD_MANAGER)
        return self._finish(call, self._unpacked(place))

    async def apply_status(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        call = self._begin(Call("apply_status", kind, *_name(obj), body=obj))
        place = (kind, *_name(obj))
        have = self._objects.get(place)
        if have is None:
            raise Conflict(f"{kind} {place[2]} is gone; look again.")
        self._check_preconditions(obj, have)
        new = _copy(have) | {"status": _copy(dict(obj["status"]))}
        self._store(place, new, manager=FIELD_MANAGER, operation="Update", subresource="status")
        return self._finish(call, self._unpacked(place))

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str], *, uid: str
    ) -> None:
        call = self._begin(Call("annotate", kind, namespace, name, body={"annotations": dict(annotations)}))
        have = self._objects.get((kind, namespace, name))
        if have is None or have["metadata"]["uid"] != uid:
            raise Conflict(f"{kind} {name} is not what it was when it was read; look again.")
        new = _copy(have)
        new["metadata"]["annotations"] = dict(new["metadata"].get("annotations") or {}) | _copy(dict(annotations))
        self._store((kind, namespace, name), new, manager=FIELD_MANAGER, operation="Update")
        self._finish(call, {})

    async def adopt(self, kind: Kind, obj: Mapping[str, Any]) -> Object:
        call = self._begin(Call("adopt", kind, *_name(obj), body=obj))
        place = (kind, *_name(obj))
        have = self._objects.get(place)
        if have is None:
            raise Conflict(f"{kind} {place[2]} is gone; look again.")
        self._check_preconditions(obj, have)
        new = _copy(have)
        new["metadata"]["ownerReferences"] = _copy(obj["metadata"]["ownerReferences"])
        _refuse_two_controllers(new)
        # What `managedFields` would say: from now on Serin manages its annotations, and the spec of a route.
        applied = self._applied.setdefault(place, {"metadata": {}})
        taken = {k: v for k, v in (new["metadata"].get("annotations") or {}).items() if k.startswith("serin.dev/")}
        applied["metadata"]["annotations"] = applied["metadata"].get("annotations", {}) | taken
        if kind == HTTP_ROUTE:
            applied["spec"] = _copy(new["spec"])
        self._store(place, new, manager=FIELD_MANAGER, operation="Update")
        return self._finish(call, self._unpacked(place))

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, version: str | None = None
    ) -> None:
        call = self._begin(Call("delete", kind, namespace, name))
        have = self._objects.get((kind, namespace, name))
        wanted = {"uid": uid, "resourceVersion": version}
        if have is not None and any(value not in {None, have["metadata"][field]} for field, value in wanted.items()):
            raise Conflict(f"{kind} {name} is not what it was when it was read; look again.")
        self.remove(kind, namespace, name)
        self._finish(call, {})

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        call = self._begin(Call("evict", POD, namespace, name))
        have = self._objects.get((POD, namespace, name))
        if have is not None and have["metadata"]["uid"] != uid:
            raise Conflict(f"Pod {name} is not what it was when it was read; look again.")
        self.remove(POD, namespace, name)
        self._finish(call, {})

    async def event(
        self,
        about: Mapping[str, Any],
        reason: str,
        message: str,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the port's own word
        action: str,
    ) -> None:
        namespace, name = _name(about)
        try:
            call = self._begin(Call("event", kind_of(about), namespace, name, body={"reason": reason}))
        except ClusterError:
            return  # as in the real cluster: an event that cannot be written is not an error
        self.events.append(FakeEvent(namespace, name, reason, message, type, action))
        self._finish(call, {})

    # For those who play the rest of the world ------------------------------------------------------------------------

    def all(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> builtins.list[Object]:
        """Copies of all objects of a kind with these labels, sorted by name."""
        places = [
            place
            for place, obj in self._objects.items()
            if place[0] == kind and namespace in {None, place[1]} and _carries(obj, labels or {})
        ]
        return [self._unpacked(place) for place in sorted(places, key=lambda p: (p[1], p[2]))]

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """A copy of one object, or None; without the hooks."""
        place = (kind, namespace, name)
        return self._unpacked(place) if place in self._objects else None

    def put(self, obj: Mapping[str, Any], manager: str = "test") -> Object:
        """Create or replace an object as another field manager; keeps status and the API server's metadata."""
        kind = kind_of(obj)
        place = (kind, *_name(obj))
        have = self._objects.get(place, {})
        new = _copy(dict(obj))
        if _has_status(kind) and "status" in have:
            new["status"] = _copy(have["status"])
        self._store(place, new, manager=manager, operation="Update")
        return self._unpacked(place)

    def set_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any] | None) -> Object:
        """Replace the status of an object as its controller; None removes it, as restoring a backup does."""
        new = _copy(self._objects[kind, namespace, name])
        new.pop("status", None)
        if status is not None:
            new["status"] = _copy(dict(status))
        place = (kind, namespace, name)
        self._store(place, new, manager="test", operation="Update", subresource="status")
        return self._unpacked(place)

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove an object; the objects that it owns stay until `collect_garbage`."""
        place = (kind, namespace, name)
        self.changes += place in self._objects
        self._objects.pop(place, None)
        self._packed.pop(place, None)
        self._applied.pop(place, None)

    def collect_garbage(self) -> None:
        """Remove objects whose owners do not exist any more, as the garbage collector does."""
        while True:
            living = {obj["metadata"]["uid"] for obj in self._objects.values()}
            orphans = [
                place
                for place, obj in self._objects.items()
                if (owners := obj["metadata"].get("ownerReferences")) and not any(o["uid"] in living for o in owners)
            ]
            if not orphans:
                return
            for place in orphans:
                self.remove(*place)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _begin(self, call: Call) -> Call:
        if self.before:
            self.before(call)
        return call

    def _finish(self, call: Call, result: Object) -> Object:
        self.writes.append(call)
        if self.after:
            self.after(call)
        return result

    def _check_preconditions(self, obj: Mapping[str, Any], have: Mapping[str, Any] | None) -> None:
        for field in ("resourceVersion", "uid"):
            wanted = obj["metadata"].get(field)
            if have is None and field == "resourceVersion":
                continue  # apply creates a missing object, also with a resourceVersion
            if wanted is not None and (have is None or have["metadata"][field] != wanted):
                raise Conflict(f"{obj.get('kind')} {obj['metadata']['name']} has changed meanwhile; look again.")

    def _store(
        self, place: Place, new: Object, *, manager: str, operation: str = "Apply", subresource: str = ""
    ) -> None:
        kind, namespace, name = place
        have = self._objects.get(place)
        meta = new.setdefault("metadata", {})
        old_meta = have["metadata"] if have else {}
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        meta["name"], meta["namespace"] = name, namespace
        for field in ("uid", "creationTimestamp", "generation", "resourceVersion", "managedFields"):
            meta.pop(field, None)
            if field in old_meta:
                meta[field] = _copy(old_meta[field])
        if have == new:
            return  # nothing changed: resourceVersion and times stay
        now = self.clock().replace(microsecond=0).isoformat().replace("+00:00", "Z")
        meta.setdefault("uid", f"uid-{next(self._uids)}")
        meta.setdefault("creationTimestamp", now)
        if kind not in {POD, SERVICE, CONTROLLER_REVISION}:
            changed = have is None or _desired(kind, have) != _desired(kind, new)
            meta["generation"] = old_meta.get("generation", 0) + changed
        entry = {"manager": manager, "operation": operation, "apiVersion": kind.api_version, "time": now}
        meta["managedFields"] = _managed(
            old_meta.get("managedFields", []), entry | ({"subresource": subresource} if subresource else {})
        )
        meta["resourceVersion"] = str(next(self._versions))
        self.changes += 1
        self._objects[place] = new
        self._packed.pop(place, None)

    def _unpacked(self, place: Place) -> Object:
        """A copy of a stored object."""
        packed = self._packed.get(place)
        if packed is None:
            packed = self._packed[place] = marshal.dumps(self._objects[place], _WITHOUT_REFERENCES)
        return cast("Object", marshal.loads(packed))  # noqa: S302 - from the line above


def _copy(value: _Value) -> _Value:
    """A deep copy of JSON, without subclasses of its types."""
    kind, made = type(value), cast("Any", value)
    if kind is dict:
        return cast("_Value", {key: item if type(item) in _LEAVES else _copy(item) for key, item in made.items()})
    if kind is list:
        return cast("_Value", [item if type(item) in _LEAVES else _copy(item) for item in made])
    if isinstance(value, str):
        made = str.__str__(value)
    elif isinstance(value, Mapping):
        made = {key: _copy(item) for key, item in value.items()}
    elif isinstance(value, list):
        made = [_copy(item) for item in value]
    return cast("_Value", made)


def _name(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _has_status(kind: Kind) -> bool:
    return kind != CONTROLLER_REVISION


def _carries(obj: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return bool(labels.items() <= obj["metadata"].get("labels", {}).items())


def _desired(kind: Kind, obj: Mapping[str, Any]) -> dict[str, Any]:
    """What the generation counts changes of; for Deployments the API server includes the annotations."""
    desired = {key: value for key, value in obj.items() if key not in {"metadata", "status"}}
    return desired | ({"annotations": obj["metadata"].get("annotations") or {}} if kind == DEPLOYMENT else {})


def _main_part(kind: Kind, obj: Mapping[str, Any]) -> Object:
    want = _copy(dict(obj))
    want["metadata"] = {k: v for k, v in want["metadata"].items() if k not in {"resourceVersion", "uid"}}
    if _has_status(kind):
        want.pop("status", None)  # the main endpoint ignores the status of kinds with a status subresource
    return want


def _merge(have: Mapping[str, Any], before: Mapping[str, Any], want: Mapping[str, Any]) -> Object:
    """The result of apply: fields wanted now, plus fields of others, minus fields that were wanted before only."""
    merged = {k: _copy(v) for k, v in have.items() if k in want or k not in before}
    for key in before.keys() - want.keys():
        if isinstance(before[key], Mapping) and isinstance(have.get(key), Mapping):
            kept = _merge(have[key], before[key], {})
            if kept:
                merged[key] = kept
    for key, value in want.items():
        if isinstance(value, Mapping):
            ours_before = before.get(key)
            inner_have = have.get(key)
            merged[key] = _merge(
                inner_have if isinstance(inner_have, Mapping) else {},
                ours_before if isinstance(ours_before, Mapping) else {},
                value,
            )
        else:
            merged[key] = _copy(value)
    return merged


def _owners(have: Mapping[str, Any], before: Mapping[str, Any], want: Mapping[str, Any]) -> list[Object]:
    """The merged `ownerReferences`, a list with the key uid."""
    owners = {
        ref["uid"]: ref
        for ref in have.get("metadata", {}).get("ownerReferences") or ()
        if ref["uid"] not in {own["uid"] for own in before.get("metadata", {}).get("ownerReferences") or ()}
    }
    owners |= {ref["uid"]: ref for ref in want["metadata"]["ownerReferences"]}
    merged = _copy(list(owners.values()))
    _refuse_two_controllers({"metadata": {"ownerReferences": merged, "name": want["metadata"]["name"]}})
    return merged


def _refuse_two_controllers(obj: Mapping[str, Any]) -> None:
    meta = obj["metadata"]
    if sum(bool(ref.get("controller")) for ref in meta["ownerReferences"]) > 1:
        detail = "metadata.ownerReferences: Only one reference can have Controller set to true"
        raise Invalid(f"{meta['name']} was refused: {detail}.", detail)


def _managed(old: list[Object], entry: Object) -> list[Object]:
    def identity(one: Object) -> tuple[str, str, str]:
        return one["manager"], one["operation"], one.get("subresource", "")

    return [*_copy([one for one in old if identity(one) != identity(entry)]), entry]
