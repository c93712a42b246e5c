"""By which key Kubernetes tells the items of a list apart.

Facts from the `x-kubernetes-list-map-keys` of the built-in types (Kubernetes 1.35). A list that is not here is atomic:
it is wanted, owned and replaced as a whole. Shared by the overlay, which merges lists, and by `contains`, which
compares them, so that both mean the same by "the same item".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "claims": ("name",),
    "schedulingGates": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
_CONTAINER_PORT = ("containerPort", "protocol")
_SERVICE_PORT = ("port", "protocol")
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Parts of a key that the API server fills in."""


def list_keys(field: str, items: Sequence[Any]) -> tuple[str, ...] | None:
    """The key fields of a list, or None if it is atomic. `ports` means two things, told apart by its items."""
    if field == "ports":
        return _CONTAINER_PORT if any(isinstance(i, Mapping) and "containerPort" in i for i in items) else _SERVICE_PORT
    return _KEYS.get(field)


def item_key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...] | None:
    """What tells this item apart, or None if it lacks a part of its key."""
    if not isinstance(item, Mapping):
        return None
    key = tuple(item.get(part, _KEY_DEFAULTS.get(part)) for part in keys)
    return None if None in key else key
