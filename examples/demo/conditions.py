"""Reads phase, conditions and sides from an LLMDeployment, and the expected conditions. Pure.

Called by scenes and by the end-to-end tests. The rows are what Serin promises to clients that wait for conditions.
"""

from __future__ import annotations

from typing import Any

from examples.demo.cluster import Object

TYPES = (
    "Available",
    "Ready",
    "Reconciling",
    "Stalled",
    "Accepted",
    "CapacityAvailable",
    "RouteProgrammed",
    "MetricsAvailable",
    "SplitInForce",
)
COLUMNS = TYPES[:4]
LOADING = ("False", "False", "True", "False")
STABLE = ("True", "True", "False", "False")
CANARY = ("True", "True", "True", "False")
ROLLED_BACK = ("True", "False", "False", "True")
ON_TRIAL = frozenset({"Preparing", "Ramping", "Paused"})


def status(state: Object) -> dict[str, Any]:
    """The status; empty if there is none yet."""
    found: dict[str, Any] = state.get("status") or {}
    return found


def phase(state: Object) -> str:
    """The phase; empty if there is no status yet."""
    return str(status(state).get("phase", ""))


def is_current(state: Object) -> bool:
    """Whether the status describes the current generation of the spec."""
    return bool(status(state).get("observedGeneration") == state["metadata"]["generation"])


def conditions(state: Object) -> dict[str, dict[str, Any]]:
    """Conditions by type."""
    return {condition["type"]: condition for condition in status(state).get("conditions", ())}


def row(state: Object) -> tuple[str, ...]:
    """The statuses of the conditions in COLUMNS; "" for a missing condition."""
    found = conditions(state)
    return tuple(found[name]["status"] if name in found else "" for name in COLUMNS)


def side(state: Object, which: str) -> dict[str, Any]:
    """`stable` or `canary` of the status; empty if it is missing."""
    found: dict[str, Any] = status(state).get(which) or {}
    return found


def is_settled(state: Object) -> bool:
    """Whether the stable serves the spec and no rollout is in progress."""
    return is_current(state) and phase(state) == "Stable" and row(state) == STABLE


def is_rolled_back(state: Object) -> bool:
    """Whether the spec's revision was rejected and its pods are gone."""
    return is_current(state) and phase(state) == "RolledBack" and row(state) == ROLLED_BACK
