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


def is_deeper_than(value: object, levels: int) -> bool:
    """Whether maps and lists are nested deeper than `levels`; a map of texts has one level."""
    nodes = [value]
    for _ in range(levels):
        children: list[object] = []
        for node in nodes:
            if isinstance(node, dict):
                children += node.values()
            elif isinstance(node, list | tuple):
                children += node
        if not children:
            return False
        nodes = children
    return any(isinstance(node, dict | list | tuple) for node in nodes)


def load_json(text: str) -> Any:
    """The value that a JSON text of at most MAX_LEVELS levels holds.

    Raises:
        ValueError: the text is not JSON, or nested deeper.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_LEVELS} levels deep") from error
    if is_deeper_than(value, MAX_LEVELS):
        raise ValueError(f"it is nested more than {MAX_LEVELS} levels deep")
    return value
