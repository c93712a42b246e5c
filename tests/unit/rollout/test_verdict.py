"""Fisher's tail against exact arithmetic, and what follows from it."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serin.rollout.snapshot import Counts
from serin.rollout.verdict import FAIL_BELOW, MINIMUM_REQUESTS, Verdict, fisher_upper_tail, judge


@st.composite
def counts(draw: st.DrawFn, most: int = 60) -> Counts:
    requests = draw(st.integers(0, most))
    return Counts(requests, draw(st.integers(0, requests)))


def exact_upper_tail(canary: Counts, stable: Counts) -> Fraction:
    """The definition, in exact arithmetic."""
    bad = canary.bad + stable.bad
    ways = sum(
        math.comb(canary.requests, j) * math.comb(stable.requests, bad - j)
        for j in range(canary.bad, min(canary.requests, bad) + 1)
    )
    return Fraction(ways, math.comb(canary.requests + stable.requests, bad))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(counts(), counts())
def test_the_tail_is_fishers(canary: Counts, stable: Counts) -> None:
    assert fisher_upper_tail(canary, stable) == pytest.approx(float(exact_upper_tail(canary, stable)), rel=1e-9)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(counts(most=2_000), counts(most=2_000))
def test_the_tail_stays_fishers_with_large_counts(canary: Counts, stable: Counts) -> None:
    exact = exact_upper_tail(canary, stable)
    assume(exact > Fraction(1, 10**280))
    assert fisher_upper_tail(canary, stable) == pytest.approx(float(exact), rel=1e-7)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(counts(), counts())
def test_one_more_bad_request_of_the_canary_never_speaks_for_it(canary: Counts, stable: Counts) -> None:
    assume(canary.bad < canary.requests)
    worse = Counts(canary.requests, canary.bad + 1)
    assert fisher_upper_tail(worse, stable) <= fisher_upper_tail(canary, stable) * (1 + 1e-9)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(counts(), counts())
def test_one_more_bad_request_of_the_stable_never_speaks_against_the_canary(canary: Counts, stable: Counts) -> None:
    assume(stable.bad < stable.requests)
    worse = Counts(stable.requests, stable.bad + 1)
    assert fisher_upper_tail(canary, worse) >= fisher_upper_tail(canary, stable) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("canary", "stable", "expected"),
    [
        pytest.param(Counts(0, 0), Counts(0, 0), Verdict.INCONCLUSIVE, id="silence"),
        pytest.param(Counts(0, 0), Counts(100_000, 100_000), Verdict.INCONCLUSIVE, id="only the stable speaks"),
        pytest.param(Counts(600, 600), Counts(0, 0), Verdict.INCONCLUSIVE, id="nothing to compare with"),
        pytest.param(Counts(600, 600), Counts(600, 0), Verdict.FAIL, id="600 of 600"),
        pytest.param(Counts(600, 600), Counts(600, 600), Verdict.PASS, id="both fail everything"),
        pytest.param(Counts(600, 0), Counts(600, 600), Verdict.PASS, id="the canary heals"),
        pytest.param(Counts(100_000, 0), Counts(100_000, 0), Verdict.PASS, id="a hundred thousand without a fault"),
        pytest.param(Counts(100_000, 100_000), Counts(100_000, 0), Verdict.FAIL, id="a hundred thousand faults"),
        pytest.param(
            Counts(100_000, 1_200), Counts(100_000, 1_000), Verdict.FAIL, id="1.2 against 1 percent, beyond doubt"
        ),
        pytest.param(Counts(100_000, 1_010), Counts(100_000, 1_000), Verdict.PASS, id="1.01 against 1 percent"),
        pytest.param(Counts(5_000, 20), Counts(95_000, 190), Verdict.INCONCLUSIVE, id="worse, not beyond doubt"),
        pytest.param(Counts(29, 0), Counts(1_000, 0), Verdict.INCONCLUSIVE, id="one short of the minimum"),
        pytest.param(Counts(30, 0), Counts(30, 0), Verdict.PASS, id="the minimum"),
        pytest.param(Counts(30, 0), Counts(29, 0), Verdict.INCONCLUSIVE, id="the stable one short"),
        pytest.param(Counts(5, 5), Counts(200, 0), Verdict.FAIL, id="a Fail needs no minimum"),
    ],
)
def test_verdict(canary: Counts, stable: Counts, expected: Verdict) -> None:
    judgement = judge(canary, stable)
    assert judgement.verdict is expected
    (errors,) = judgement.metrics
    assert (errors.canary, errors.stable) == (canary, stable)
    assert 0 <= errors.evidence <= 1
    assert (errors.evidence == 1) == (expected is Verdict.FAIL)


def test_a_side_without_any_series_counts_as_no_requests() -> None:
    judgement = judge(None, None)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert f"needs {MINIMUM_REQUESTS} more of the canary and {MINIMUM_REQUESTS} more of the stable" in judgement.message


@settings(deadline=None, derandomize=True, max_examples=25)
@given(counts(most=10**5), counts(most=10**5))
def test_any_counts_give_a_finite_judgement(canary: Counts, stable: Counts) -> None:
    p = fisher_upper_tail(canary, stable)
    assert 0 <= p <= 1
    judgement = judge(canary, stable)
    assert math.isfinite(judgement.metrics[0].evidence)
    assert (judgement.verdict is Verdict.FAIL) == (p < FAIL_BELOW)
