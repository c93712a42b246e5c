"""Compares a stored object with a rendered one, so that Serin writes only what changes something.

Called before every server-side apply. The comparison follows the API server: lists with keys are compared by key, other
lists as a whole, quantities by value. Additional fields from the API server or other managers are ignored. Fields that
Serin has applied before and no longer renders count as a difference; `managedFields` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from serin.api.names import FIELD_MANAGER, GROUP
from serin.api.quantity import amount
from serin.manifests.list_keys import item_key, list_keys

_QUANTITY_MAPS = frozenset({"limits", "requests", "overhead"})
_QUANTITY_FIELDS = frozenset({"sizeLimit", "divisor"})

_LEAVES = frozenset({str, int, float, bool, type(None)})
"""Exact types of most values; comparing them is quicker than `isinstance`."""

_WHOLLY_OURS: Mapping[str, str] = {"HTTPRoute": "spec"}
"""Fields that must match completely: the lists of a route are atomic, so `managedFields` does not cover their items."""

_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "group": ("", "gateway.networking.k8s.io"),
    "kind": ("Service", "Gateway"),
    "weight": (1,),
    "type": ("Exact", "PathPrefix"),
    "value": ("/",),
    "path": ({"type": "PathPrefix", "value": "/"},),
    "statusCode": (302,),
    "denominator": (100,),
    "maxAge": (5,),
}
"""Defaults that the API server adds to a route (CRDs of Gateway API 1.3)."""


def contains(have: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Whether applying `want` would not change `have`, the stored object."""
    whole = _WHOLLY_OURS.get(str(want.get("kind")))
    for field, wanted in want.items():
        if not _covers(have.get(field), wanted, field, whole=field == whole):
            return False
    owned = _owned_fields(have)
    if owned is not None:
        return not _leftover(owned, want)
    return all(_same_marks(have, want, field) for field in ("labels", "annotations"))


def _covers(have: Any, want: Any, field: str, *, whole: bool, parent: str = "") -> bool:
    if have is None and _is_nothing(want):
        return True
    if type(want) not in _LEAVES:
        if isinstance(want, Mapping):
            return isinstance(have, Mapping) and _covers_map(have, want, field, whole=whole)
        if isinstance(want, list | tuple):
            return isinstance(have, list | tuple) and _covers_list(have, want, field, whole=whole)
    is_quantity = parent in _QUANTITY_MAPS or field in _QUANTITY_FIELDS
    return _is_same(have, want) or (is_quantity and _is_same_amount(have, want))


def _covers_map(have: Mapping[str, Any], want: Mapping[str, Any], field: str, *, whole: bool) -> bool:
    if whole and any(key not in want and not _is_default(key, value) for key, value in have.items()):
        return False
    for key, value in want.items():
        there = have.get(key)
        # What was read from the object itself, and most texts.
        if there is value or (type(value) is str and there == value):
            continue
        if not _covers(there, value, key, whole=whole, parent=field):
            return False
    return True


def _covers_list(have: Sequence[Any], want: Sequence[Any], field: str, *, whole: bool) -> bool:
    keys = None if whole else list_keys(field, want)
    if keys is None:
        return len(have) == len(want) and all(
            (type(wanted) is str and there == wanted) or _covers(there, wanted, field, whole=whole)
            for there, wanted in zip(have, want, strict=True)
        )
    found = {item_key(item, keys): item for item in have}
    return all(_covers(found.get(item_key(item, keys)), item, field, whole=whole) for item in want)


def _is_same(have: Any, want: Any) -> bool:
    """Equality of JSON values; true is not equal to 1."""
    return bool(have == want) and isinstance(have, bool) == isinstance(want, bool)


def _is_same_amount(have: Any, want: Any) -> bool:
    if not all(isinstance(value, int | str) and not isinstance(value, bool) for value in (have, want)):
        return False
    wanted = amount(want)
    return wanted is not None and wanted == amount(have)


def _is_nothing(value: Any) -> bool:
    """Whether the API server omits the value when it stores an object."""
    return value is None or value is False or value in ("", [], (), {})


def _is_default(key: str, value: Any) -> bool:
    return value in _DEFAULTS.get(key, ())


def _owned_fields(have: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The fields that Serin has applied, from `managedFields`; None if they are not listed."""
    for entry in (have.get("metadata") or {}).get("managedFields") or ():
        ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource") and entry.get("fieldsV1") is not None:
            fields: Mapping[str, Any] = entry["fieldsV1"]
            return fields
    return None


def _leftover(owned: Mapping[str, Any], want: Any) -> bool:
    """Whether Serin owns a field that is not in `want`. `f:` is a field, `k:` an item by key, `v:` an item by value."""
    for path, below in owned.items():
        kind, _, name = path.partition(":")
        if kind == "f":
            if not isinstance(want, Mapping) or want.get(name) is None or _leftover(below, want[name]):
                return True
        elif kind == "k":
            item = _item(want, json.loads(name))
            if item is None or _leftover(below, item):
                return True
        elif kind == "v" and (not isinstance(want, list | tuple) or json.loads(name) not in want):
            return True
    return False


def _item(want: Any, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not isinstance(want, list | tuple):
        return None
    for item in want:
        if isinstance(item, Mapping) and all(item.get(part, value) == value for part, value in key.items()):
            return item
    return None


def _same_marks(have: Mapping[str, Any], want: Mapping[str, Any], field: str) -> bool:
    """Whether `have` has no unwanted labels or annotations of serin.dev; used if `managedFields` does not list them."""
    there, wanted = ((obj.get("metadata") or {}).get(field) or {} for obj in (have, want))
    return all(name in wanted for name in there if name.split("/", 1)[0] == GROUP)
