"""Merges `spec.podTemplate` into the pod template that Serin renders.

Like a strategic merge patch without directives: maps are merged, lists with keys are merged by key, other values are
replaced, null removes a field. In addition, another member of a union (the source of a volume, the handler of a probe,
the value of an environment variable) replaces the existing member, because Kubernetes rejects both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serin.errors import SpecError
from serin.manifests.list_keys import item_key, list_keys

_UNIONS = (
    frozenset({"value", "valueFrom"}),
    frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"}),
)


def lay_over(base: Mapping[str, Any], overlay: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The merged map; `path` is the path in the user's manifest, for messages.

    Raises:
        SpecError: an item of a list with keys has no key, or there is no list where one must be.
    """
    merged = {key: value for key, value in base.items() if not _is_displaced(key, overlay)}
    for key, value in overlay.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _lay_value(merged.get(key), value, key, f"{path}.{key}")
    return merged


def _lay_value(base: Any, overlay: Any, field: str, path: str) -> Any:
    if isinstance(base, list) and not isinstance(overlay, list):
        raise SpecError(f"{path} is not a list; write it as a list, as in the pod spec of Kubernetes.")
    if isinstance(overlay, Mapping):
        return lay_over(base if isinstance(base, Mapping) else {}, overlay, path)
    if isinstance(overlay, list):
        known = base if isinstance(base, list) else []
        keys = list_keys(field, [*known, *overlay])
        return _lay_items(known, overlay, keys, field, path) if keys else overlay
    return overlay


def _lay_items(
    base: Sequence[Any], overlay: Sequence[Any], keys: tuple[str, ...], field: str, path: str
) -> list[dict[str, Any]]:
    merged = {item_key(item, keys): dict(item) for item in base}
    for index, item in enumerate(overlay):
        place = f"{path}[{index}]"
        key = item_key(item, keys)
        if key is None:
            raise SpecError(f"{place} has no {' and '.join(keys)}, which is the key for merging; add it.")
        under = merged.get(key, {})
        if field == "volumes" and not item.keys() <= under.keys():
            under = {}
        merged[key] = lay_over(under, item, place)
    return list(merged.values())


def _is_displaced(key: str, overlay: Mapping[str, Any]) -> bool:
    """Whether the overlay sets another member of the union that this key belongs to."""
    return any(
        key in union and key not in overlay and any(overlay.get(other) is not None for other in union)
        for union in _UNIONS
    )
