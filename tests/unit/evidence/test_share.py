"""The test of the canary's share of requests: error rate, power, and finite values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.evidence.share import log_e

WEIGHTS = [0.002, 0.01, 0.05, 0.25, 0.5, 0.9]
SURE = math.log(1000)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("at", ["the weight", "the edge"])
def test_correct_share_is_doubted_at_most_at_rate_alpha(weight: float, at: str) -> None:
    random, runs, looks, most = np.random.default_rng(7), 300, 120, 0
    odds = weight / (1 - weight) * (1.1 if at == "the edge" else 1.0)
    for _ in range(runs):
        arrived = np.cumsum(random.binomial(500, odds / (1 + odds), looks))
        most += any(
            log_e(int(canary), 500 * (look + 1) - int(canary), weight, 0.1) >= math.log(20)
            for look, canary in enumerate(arrived)
        )
    assert most / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("times", [0.0, 0.5, 2.0], ids=str)
def test_wrong_share_is_found_within_400_requests(weight: float, times: float) -> None:
    smaller = min(weight, 1 - weight)
    requests = round(400 / smaller)
    odds = weight / (1 - weight) * times
    canary = round(requests * odds / (1 + odds))
    assert log_e(canary, requests - canary, weight, 0.1) >= SURE


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(1, 9_999).map(lambda parts: parts / 10_000),
    st.floats(0.01, 3),
)
def test_log_e_is_finite_and_falls_with_tolerance(canary: int, stable: int, weight: float, tolerance: float) -> None:
    narrow, wide = (log_e(canary, stable, weight, tolerance * factor) for factor in (1, 2))
    assert math.isfinite(narrow)
    assert wide <= narrow + 1e-6 * max(1.0, abs(narrow))


def test_log_e_is_symmetric_in_the_sides() -> None:
    assert log_e(30, 970, 0.05, 0.1) == pytest.approx(log_e(970, 30, 0.95, 0.1))
