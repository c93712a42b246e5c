"""How deep JSON is nested, measured without recursion.

Kubernetes stores objects up to about 10,000 levels deep. Code that walks JSON recursively (pydantic, hashing, merging,
comparing) fails far earlier. So depth is checked first, wherever JSON that others wrote comes in: `parse` checks specs,
`serin.manifests` checks records and annotations.
"""

from __future__ import annotations

import json
from typing import Any

MAX_LEVELS = 64
"""Levels of maps and lists in a spec, the spec itself included. A pod template needs about 15."""

# What JSON decoders make: exact types, which are quicker to compare than isinstance.
_NESTED = frozenset({dict, list, tuple})


def is_deeper_than(value: object, levels: int) -> bool:
    """Whether maps and lists are nested deeper than `levels`; a map of texts has one level."""
    nodes: list[Any] = [value] if type(value) in _NESTED else []
    for _ in range(levels):
        # Only maps and lists go on: most of what an object holds are texts.
        nodes = [
            child
            for node in nodes
            for child in (node.values() if type(node) is dict else node)
            if type(child) in _NESTED
        ]
        if not nodes:
            return False
    return bool(nodes)


def elements(value: object) -> int:
    """The number of brackets and commas in the JSON of a value, those in texts not counted."""
    count, nodes = 0, [value]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict | list | tuple):
            count += 2 + max(0, len(node) - 1)
            nodes.extend(node.values() if isinstance(node, dict) else node)
    return count


def load_json(text: str, levels: int = MAX_LEVELS) -> Any:
    """The value that a JSON text of at most so many levels holds.

    Raises:
        ValueError: the text is not JSON, or nested deeper.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {levels} levels deep") from error
    if is_deeper_than(value, levels):
        raise ValueError(f"it is nested more than {levels} levels deep")
    return value
