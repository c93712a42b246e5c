"""`bench.podsim.measured`: the operator's own measurement and tests say what the compiled comparison says."""

from __future__ import annotations

import pytest

from bench.podsim import compare
from bench.podsim.measured import by_operator
from bench.podsim.trial import Scenario

ALPHA = 0.005
"""The latency's share of falseRollbackRate, beside errors."""


@pytest.mark.parametrize(
    ("scenario", "rolled_back"),
    [
        (Scenario("tpot", 4, 4), False),
        (Scenario("ttft", 4, 4, hit=0.7, cold_seconds=900), False),
        (Scenario("tpot", 4, 4, slow=1.5, pods="sized"), True),
    ],
)
def test_operator_and_compiled_comparison_agree(scenario: Scenario, *, rolled_back: bool) -> None:
    theirs, series = by_operator(scenario, 1)
    ours = compare.by_load(series, ALPHA)

    assert ours.rolled_back == theirs.rolled_back
    assert (theirs.rolled_back is not None) == rolled_back
    assert ours.proven == theirs.proven != rolled_back
    assert ours.noisy == theirs.noisy is False


def test_operator_proves_nothing_of_a_canary_without_a_counterpart() -> None:
    verdict, _ = by_operator(Scenario("ttft", 4, 4, steps=((0, 9800),), seconds=900), 1)

    assert verdict.rolled_back is None
    assert not verdict.proven
    assert verdict.overlap < 0.2
