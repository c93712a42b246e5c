"""The adaptive ramp: budget, bounds and hysteresis."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from serin.evidence.ramp import AdaptiveRamp, default_budget, excess_upper, limit, wilson_upper
from serin.evidence.slices import Slice

totals = st.tuples(st.integers(0, 10**9), st.floats(0, 1), st.integers(0, 10**9), st.floats(0, 1)).map(
    lambda c: Slice(c[0], round(c[0] * c[1]), c[2], round(c[2] * c[3]))
)
rates = st.one_of(st.just(0.0), st.floats(1e-9, 1e6))


@pytest.mark.parametrize(("x", "n"), [(0, 1), (0, 50), (3, 40), (40, 40), (500, 100_000)], ids=str)
def test_upper_bound_matches_scipys_wilson(x: int, n: int) -> None:
    expected = binomtest(x, n, alternative="less").proportion_ci(confidence_level=0.9, method="wilson").high
    assert wilson_upper(x, n) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("rps", "weight"),
    [(200, 0.002), (20, 2 / 300), (2, 2 / 30), (0.5, 0.25), (0, 0.002), (1e9, 0.002)],
    ids=["200 rps", "20 rps", "2 rps", "0.5 rps", "unknown traffic", "1e9 rps"],
)
def test_first_weight_assumes_every_answer_is_bad(rps: float, weight: float) -> None:
    assert AdaptiveRamp(rps).first() == pytest.approx(weight)


def test_target_is_budget_over_possible_excess() -> None:
    seen, ramp = Slice(300, 3, 5_000, 50), AdaptiveRamp(200)
    assert ramp.target(0.02, seen) == pytest.approx(2 / (excess_upper(seen) * 200 * 15))


def test_weight_of_good_canary_grows_fourfold_up_to_maximum() -> None:
    ramp, weights = AdaptiveRamp(200), [0.002]
    for _ in range(6):
        weights.append(ramp.next(weights[-1], Slice(10**9, 0, 10**9, 0)))
    assert weights == pytest.approx([0.002, 0.008, 0.032, 0.128, 0.25, 0.25, 0.25])


def test_weight_of_bad_canary_falls_to_minimum_at_once() -> None:
    assert AdaptiveRamp(200).next(0.25, Slice(750, 600, 2250, 22)) == 0.002


def test_worst_of_several_metrics_decides_weight() -> None:
    ramp, good, bad = AdaptiveRamp(200), Slice(1_000, 10, 10_000, 100), Slice(1_000, 50, 10_000, 100)
    assert ramp.next(0.1, good, bad) == ramp.next(0.1, bad, good) == ramp.next(0.1, bad) < ramp.next(0.1, good)


def test_weight_without_metrics_stays() -> None:
    assert AdaptiveRamp(200).next(0.1) == 0.1


@pytest.mark.parametrize(
    ("weight", "follows"),
    [(0.100, False), (0.105, False), (0.112, True), (0.090, False), (0.079, True)],
    ids=["the same", "little lower", "much lower", "little higher", "much higher"],
)
def test_weight_near_target_stays(weight: float, *, follows: bool) -> None:
    seen = Slice(10_000, 100, 100_000, 1_000)
    ramp = AdaptiveRamp(rps=2 / (0.1 * 15 * excess_upper(seen)))  # where 10 % is right
    assert ramp.target(weight, seen) == pytest.approx(0.1)
    assert (ramp.next(weight, seen) != weight) == follows


def test_maximum_is_reached_despite_hysteresis() -> None:
    assert AdaptiveRamp(200).next(0.24, Slice(10**9, 0, 10**9, 0)) == 0.25


def test_weight_without_hysteresis_follows_every_target() -> None:
    ramp, seen = AdaptiveRamp(200, keep_down=0, keep_up=0), Slice(1_000, 10, 10_000, 100)
    assert ramp.next(0.05, seen) == ramp.target(0.05, seen)


@settings(max_examples=300)
@given(rates, st.floats(0, 1), st.lists(totals, max_size=3))
def test_weight_stays_within_bounds_for_any_counts(rps: float, weight: float, closed: list[Slice]) -> None:
    ramp = AdaptiveRamp(rps)
    for chosen in (ramp.first(), ramp.target(weight, *closed), ramp.next(weight, *closed)):
        assert math.isfinite(chosen)
        assert ramp.w_min <= chosen <= ramp.w_max


@settings(max_examples=200)
@given(totals, st.integers(1, 1000))
def test_more_bad_answers_never_raise_target(closed: Slice, more: int) -> None:
    worse = Slice(closed.n1, min(closed.n1, closed.x1 + more), closed.n0, closed.x0)
    ramp = AdaptiveRamp(20)
    assert ramp.target(0.1, worse) <= ramp.target(0.1, closed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rps": -1},
        {"rps": math.nan},
        {"rps": 1, "dt": 0},
        {"rps": 1, "budget": 0},
        {"rps": 1, "w_min": 0},
        {"rps": 1, "w_min": 0.5},
        {"rps": 1, "w_max": 2},
        {"rps": 1, "keep_down": 1},
        {"rps": 1, "keep_up": -1},
    ],
    ids=str,
)
def test_invalid_ramp_parameters_raise_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="; give "):
        AdaptiveRamp(**wrong)


@pytest.mark.parametrize(
    ("weight", "comparisons", "expected"),
    [
        pytest.param(0.25, [], 0.25, id="nothing compared"),
        pytest.param(0.25, [(0.0, 0.0)], 0.25, id="no proof has begun"),
        pytest.param(0.25, [(0.0, 0.1)], 0.5, id="the proof has begun and nothing speaks against"),
        pytest.param(0.25, [(1e-16, 0.1)], 0.5, id="rounding does not count"),
        pytest.param(0.25, [(0.1, 0.1)], 0.25, id="a little speaks against"),
        pytest.param(0.25, [(-1.0, 2.0), (-1.0, -0.1)], 0.25, id="one of two is not there"),
        pytest.param(0.05, [(-1.0, 2.0)], 0.5, id="the limit does not depend on a small weight"),
        pytest.param(0.5, [(0.4, -1.0)], 0.5, id="a higher weight stays while little speaks against"),
        pytest.param(0.5, [(0.6, 2.0)], 0.25, id="and is taken back when more does"),
    ],
)
def test_limit_rises_when_all_evidence_favours_canary(
    weight: float, comparisons: list[tuple[float, float]], expected: float
) -> None:
    assert limit(weight, (0.25, 0.5), comparisons) == expected


def test_default_budget_is_smaller_with_little_traffic() -> None:
    assert [default_budget(rps) for rps in (0.0, 1.99, 2.0, 200.0)] == [1.0, 1.0, 2.0, 2.0]
