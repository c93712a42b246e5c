"""Reads parts of a test's stored state: every number is checked before it becomes part of a test again.

Called by `from_state` of the tests. All functions raise ValueError on anything that `state` does not write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from serin.evidence.frozen_map import FrozenMap
from serin.evidence.slices import Counts, RequestsBySide, Totals

LARGEST = 10**15
"""Largest count: a trial with a million requests per second would take 30 years to reach it."""


def finite(value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is not a finite number")
    return float(value)


def whole(value: object) -> int:
    """A whole number from 0 to `LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError(f"{value!r:.40} is not a whole number from 0 to {LARGEST}")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is neither true nor false")  # noqa: TRY004 - damaged state is a ValueError
    return value


def logs(values: Sequence[Any], *, like: Sequence[float]) -> tuple[float, ...]:
    """Logarithms by alternative, as many as in `like`."""
    if len(values) != len(like):
        raise ValueError(f"{len(values)} alternatives instead of {len(like)}")
    return tuple(map(finite, values))


def totals(values: Sequence[Any]) -> Totals:
    """Totals, written as n1, x1, n0, x0."""
    n1, x1, n0, x0 = map(whole, values)
    return Totals(n1, x1, n0, x0)


def totals_by_epoch(values: Mapping[str, Sequence[Any]], largest: int) -> FrozenMap[int, Totals]:
    """At most `largest` totals."""
    return FrozenMap({int(epoch): totals(each) for epoch, each in bounded(values, largest).items()})


def counts(values: Sequence[Any]) -> Counts:
    """Counts, written as requests, bad."""
    requests, bad = map(whole, values)
    return Counts(requests, bad)


def by_side(values: Sequence[Any]) -> RequestsBySide:
    """Requests by side, written as canary, stable."""
    canary, stable = map(whole, values)
    return RequestsBySide(canary, stable)


def bounded(values: Mapping[str, Any], largest: int) -> Mapping[str, Any]:
    """The mapping, which has at most `largest` keys."""
    if len(values) > largest:
        raise ValueError(f"{len(values)} keys, but at most {largest} are written")
    return values


def written(values: Totals) -> list[int]:
    """What `totals` reads."""
    return [values.n1, values.x1, values.n0, values.x0]
