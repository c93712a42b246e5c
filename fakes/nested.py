"""JSON nested as deep as a test wants, made without recursion."""

from __future__ import annotations

from typing import Any

MOST = 9_900
"""About as deep as an API server takes an object."""


def nested(levels: int, key: str = "a") -> dict[str, Any]:
    """A map in a map in a map: `levels` of them."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {key: value}
    return value
