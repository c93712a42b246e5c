"""How deep JSON is nested, whatever the recursion limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.nested import nested
from serin.api.nesting import is_deeper_than, load_json

JSON = st.recursive(
    st.none() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "levels"), [("text", 0), ({}, 1), ([], 1), ({"a": "b"}, 1), ({"a": [{}]}, 3), (nested(9_900), 9_900)]
)
def test_levels_of_maps_and_lists_are_counted(value: Any, levels: int) -> None:
    assert not is_deeper_than(value, levels)
    assert levels == 0 or is_deeper_than(value, levels - 1)


@given(JSON, st.integers(min_value=0, max_value=6))
def test_a_recursive_count_says_the_same(value: Any, levels: int) -> None:
    def depth(node: Any) -> int:
        below = node.values() if isinstance(node, dict) else node
        return 1 + max(map(depth, below), default=0) if isinstance(node, dict | list) else 0

    assert is_deeper_than(value, levels) == (depth(value) > levels)


def test_json_of_64_levels_is_loaded() -> None:
    assert load_json("[" * 64 + "]" * 64) == json.loads("[" * 64 + "]" * 64)


@pytest.mark.parametrize("levels", [65, 900, 100_000])
def test_deeper_json_is_a_value_error(levels: int) -> None:
    with pytest.raises(ValueError, match="nested more than 64 levels deep"):
        load_json("[" * levels + "]" * levels)
