"""A mapping that cannot be changed, for the state of the tests: `put` and `without` return a new one.

The standard library has none that can be hashed. Maps here have at most 64 keys, so copying one costs little.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(Mapping[K, V]):
    """Equal to any mapping with the same items; hashable if its values are. Iterates in the order of insertion."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items  # the inherited one raises and catches KeyError, which takes longer

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    # The inherited ones look up key by key, which takes several times as long.

    def items(self) -> ItemsView[K, V]:
        """A view of the items."""
        return self._items.items()

    def values(self) -> ValuesView[V]:
        """A view of the values."""
        return self._items.values()

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"

    def __deepcopy__(self, memo: object) -> FrozenMap[K, V]:
        return self

    def put(self, key: K, value: V) -> FrozenMap[K, V]:
        """The mapping with this value; the key becomes the last one, also if it was there already."""
        items = dict(self._items)
        items.pop(key, None)
        items[key] = value
        return FrozenMap(items)

    def without(self, key: K) -> FrozenMap[K, V]:
        """The mapping without the key, which may be absent."""
        if key not in self._items:
            return self
        items = dict(self._items)
        del items[key]
        return FrozenMap(items)


EMPTY: FrozenMap[Any, Any] = FrozenMap()
"""A mapping without keys, for defaults."""
