"""A FrozenMap behaves like a dict that cannot be changed."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from serin.evidence.frozen_map import FrozenMap

maps = st.dictionaries(st.integers(0, 5), st.integers(), max_size=5)


@given(maps, st.integers(0, 5), st.integers())
def test_put_and_without_equal_dict_and_leave_original_unchanged(items: dict[int, int], key: int, value: int) -> None:
    original = FrozenMap(items)
    remaining = {known: old for known, old in items.items() if known != key}
    assert list(original.put(key, value).items()) == [*remaining.items(), (key, value)]
    assert original.without(key) == remaining
    assert list(original.items()) == list(items.items())
    assert list(original.values()) == list(items.values())
    assert (key in original) == (key in items)
    assert copy.deepcopy(original) == original


@given(maps)
def test_equal_maps_have_equal_hashes_in_any_order(items: dict[int, int]) -> None:
    other = FrozenMap(dict(reversed(items.items())))
    assert (FrozenMap(items), hash(FrozenMap(items))) == (other, hash(other))


def test_change_of_given_dict_does_not_change_map() -> None:
    items = {1: 2}
    frozen = FrozenMap(items)
    items[1] = 3
    assert frozen == {1: 2}
