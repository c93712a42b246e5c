"""The proof that a canary is no slower, and limits on rates: valid where they must be, with power where they can."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.no_slower import NoSlower
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Counts, Slice, Totals


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("p0", [0.02, 0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("delta", [0.0, 0.005])
def test_one_stratum_is_fair_where_canary_is_as_slow_as_tolerated(p0: float, delta: float) -> None:
    """By enumeration: the mean of the e-value is at most 1 under the hypothesis, at any rate of the stable."""
    n1, n0, p1 = 8, 6, min(1.0, p0 + delta)
    begin = NoSlower.begin(delta)
    mean = sum(
        binomial(n1, x1, p1) * binomial(n0, x0, p0) * math.exp(begin.add(Totals(n1, x1, n0, x0)).log_e)
        for x1, x0 in product(range(n1 + 1), range(n0 + 1))
    )
    assert mean <= 1 + 1e-9


def test_proof_holds_under_high_load_where_rates_alone_never_prove() -> None:
    proof, rates = NoSlower.begin(0.005), NonInferiority(rho=1.0)
    for _ in range(300):
        stratum = Totals(10, 9, 30, 28)
        proof, rates = proof.add(stratum), rates.add(stratum)
    assert proof.proven
    assert not rates.proven


def test_strata_that_are_all_above_or_all_below_prove_nothing_against_the_canary() -> None:
    proof = NoSlower.begin(0.0)
    for _ in range(100):
        proof = proof.add(Totals(20, 20, 20, 20))
    assert proof.log_e == pytest.approx(math.log(0.5), abs=0.01)


def test_canary_alone_is_compared_with_nothing() -> None:
    proof = NoSlower.begin(0.005)
    assert proof.add_canary_alone(Counts(1000, 900)) == proof


def test_state_continues() -> None:
    proof = NoSlower.begin(0.005).add(Totals(20, 3, 20, 5))
    assert NoSlower.begin(0.005).continued(proof.logs) == proof
    with pytest.raises(ValueError, match="alternatives"):
        proof.continued([0.0] * 8)


def rolled_back(base: float, times: float, margin: float, *, of_rates: bool, seed: int) -> bool:
    draw = random.Random(seed)
    test = ConditionalTest(Parameters(margin=margin, of_rates=of_rates))
    for part in range(120):
        n1, n0 = 40, 80
        x1 = sum(draw.random() < base * times for _ in range(n1))
        x0 = sum(draw.random() < base for _ in range(n0))
        test = test.add(Slice(n1, x1, n0, x0, t=15.0 * part))
        if test.rolled_back:
            return True
    return False


@pytest.mark.parametrize(("base", "margin"), [(0.5, 1.25), (0.3, 1.25), (0.1, 2.0)])
def test_canary_at_exactly_the_margin_of_rates_is_not_rolled_back(base: float, margin: float) -> None:
    runs = range(12)
    assert sum(rolled_back(base, margin, margin, of_rates=True, seed=seed) for seed in runs) <= 1
    if base == 0.5:
        assert all(rolled_back(base, margin, margin, of_rates=False, seed=seed) for seed in runs), "as odds it is"


def test_canary_beyond_the_margin_of_rates_is_rolled_back() -> None:
    assert all(rolled_back(0.02, 5.0, 1.1, of_rates=True, seed=seed) for seed in range(6))
    assert all(rolled_back(0.3, 2.0, 1.25, of_rates=True, seed=seed) for seed in range(6))


def test_canary_that_fails_everything_is_rolled_back_at_any_weight() -> None:
    for n1, n0 in ((3, 60), (60, 60), (60, 6)):
        test = ConditionalTest(Parameters(margin=2.0, of_rates=True))
        for part in range(40):
            test = test.add(Slice(n1, n1, n0, 0, t=15.0 * part))
        assert test.rolled_back, (n1, n0)
