"""The benchmark of gateways: when a route counts as programmed, and what a row of its page says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench.gateways.__main__ import Changes, is_programmed


def route(*conditions: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "metadata": {"generation": 2},
        "status": {
            "parents": [
                {
                    "conditions": [
                        {"type": kind, "status": status, "observedGeneration": generation}
                        for kind, status, generation in conditions
                    ]
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("conditions", "programmed"),
    [
        ([("Accepted", "True", 2), ("ResolvedRefs", "True", 2)], True),
        ([("Accepted", "True", 2), ("ResolvedRefs", "True", 1)], False),
        ([("Accepted", "True", 2), ("ResolvedRefs", "False", 2)], False),
        ([("Accepted", "True", 2)], False),
        ([], False),
    ],
    ids=["both", "older generation", "unresolved", "one only", "no status"],
)
def test_route_is_programmed_when_both_conditions_hold_for_its_generation(
    conditions: list[tuple[str, str, int]], *, programmed: bool
) -> None:
    assert is_programmed(route(*conditions)) is programmed


def test_row_lists_requests_failures_by_cause_and_the_delays() -> None:
    changes = Changes(12_345, Counter({"503": 8, "ServerDisconnectedError": 1}), [0.0, 0.4, 2.0])

    assert changes.row == "12,345 | 9 (8 x 503, 1 x ServerDisconnectedError) | 0.4 s | 2.0 s"
    assert Changes(10, late=[0.0]).row == "10 | 0 | 0.0 s | 0.0 s"
