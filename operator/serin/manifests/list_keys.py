"""The key fields by which Kubernetes merges lists.

From the `x-kubernetes-list-map-keys` of the built-in types (Kubernetes 1.35). A list that is not here is atomic: it is
owned and replaced as a whole. Shared by `overlay`, which merges lists, and `contains`, which compares them.
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
"""Defaults of key fields that the API server fills in."""


def list_keys(field: str, items: Sequence[Any]) -> tuple[str, ...] | None:
    """The key fields of a list, or None if it is atomic. The items of `ports` tell whether it belongs to a
    container."""
    if field == "ports":
        return _CONTAINER_PORT if any(isinstance(i, Mapping) and "containerPort" in i for i in items) else _SERVICE_PORT
    return _KEYS.get(field)


def item_key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...] | None:
    """The key of an item, or None if a key field is missing, or holds a map or a list."""
    if not isinstance(item, Mapping):
        return None
    key = tuple([item.get(part, _KEY_DEFAULTS.get(part)) for part in keys])
    return key if all(isinstance(part, str | int | float) for part in key) else None
