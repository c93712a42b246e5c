"""A limit: who is above it, who is to blame, who is proven below, and for how long an outage counts."""

from __future__ import annotations

import json
import math
import random

import pytest

from serin.evidence.ceiling import CeilingTest
from serin.evidence.metric import MetricEvidence, MetricParameters
from serin.evidence.slices import Totals
from tests.unit.evidence.metric_cases import LIMIT, fed


def test_a_limit_does_more_than_compare() -> None:
    metric = MetricEvidence(LIMIT)
    assert metric.comparisons == []
    assert isinstance(metric.leaves[0], CeilingTest)


def test_who_is_above_the_limit_is_found_and_who_is_below_is_proven() -> None:
    above = fed(LIMIT, *[[(100, 12, 1_000, 10)]] * 8)
    below = fed(LIMIT, *[[(100, 2, 1_000, 10)]] * 8)
    assert (above.rolled_back, above.proven, above.shared) == (True, False, False)
    assert (below.rolled_back, below.proven, below.shared) == (False, True, False)


def test_in_a_shared_outage_nobody_is_blamed_and_nobody_is_promoted() -> None:
    metric = MetricEvidence(LIMIT)
    for number in range(40):
        metric.add([(20, 6, 400, 120)], t=15.0 * number, epoch=0, settled=True)
        assert not metric.rolled_back, "the stable is above the limit as well"
    assert metric.shared
    for number in range(300):
        metric.add([(200, 0, 4, 4)], t=1_000.0 + number, epoch=0, settled=True)
    assert not metric.proven, "the outage is not over for the stable"


@pytest.mark.parametrize("weight", [0.5, 0.98], ids=["half", "holdback"])
@pytest.mark.parametrize("outage", [0.1, 0.2, 0.5], ids=["10 %", "20 %", "50 %"])
def test_a_stable_that_has_too_few_requests_to_show_an_outage_does_not_make_it_the_canarys(
    weight: float, outage: float
) -> None:
    chance = random.Random(20261126)

    def of(requests: int, rate: float) -> int:
        return sum(chance.random() < rate for _ in range(requests))

    def requests(bad: float) -> list[Totals]:
        canary = of(150, weight)
        return [(canary, of(canary, bad), 150 - canary, of(150 - canary, bad))]

    def rolls_back() -> bool:
        return fed(LIMIT, *(requests(0.005) for _ in range(6)), *(requests(outage) for _ in range(10))).rolled_back

    assert sum(rolls_back() for _ in range(100)) <= 2


def test_a_limit_on_what_the_stable_never_shows_stands_alone() -> None:
    alone: list[list[Totals]] = [[(100, 12, 0, 0)]] * 8
    assert fed(LIMIT, *alone).rolled_back
    assert not fed(LIMIT, *alone, settled=False).rolled_back, "the stable may be scraped a moment later"
    assert not fed(LIMIT, [(0, 0, 1, 0)], *alone).rolled_back


def test_a_limits_state_of_before_it_compared_is_read() -> None:
    metric = fed(LIMIT, [(100, 6, 1_000, 40)])
    state = json.loads(json.dumps(metric.state()))
    again = MetricEvidence(LIMIT)
    again.restore(state)
    assert again == metric
    (old,) = state["leaves"]
    sides = (("above", old.pop("canary")), ("stableAbove", old.pop("stable")))
    old.update({name: side["above"] for name, side in sides})
    del old["worse"], old["stableSeen"]
    again = MetricEvidence(LIMIT)
    again.restore(state)
    assert not again.rolled_back
    for number in range(8):
        again.add([(100, 12, 0, 0)], t=100.0 + number, epoch=0, settled=True)
    assert not again.rolled_back, "the stable was there before the upgrade"
    state["totals"] = [[100, 6, 0, 0]]
    again = MetricEvidence(LIMIT)
    again.restore(state)
    for number in range(8):
        again.add([(100, 12, 0, 0)], t=100.0 + number, epoch=0, settled=True)
    assert again.rolled_back, "the stable never showed any"


def test_an_outage_that_is_over_is_soon_forgotten_however_bad_it_was() -> None:
    metric = fed(LIMIT, *[[(980, 490, 20, 10)]] * 40)
    assert metric.shared
    slices = 0
    while metric.shared or metric.exceeded:
        metric.add([(980, 2, 20, 0)], t=1_000.0 + slices, epoch=0, settled=True)
        slices += 1
        assert slices <= 15, "300 good ones of the stable are enough"
    assert not metric.rolled_back


@pytest.mark.parametrize("rate", [0.065, 0.07], ids=["6.5 %", "7 %"])
def test_a_limit_that_goes_on_being_broken_does_not_look_kept_in_between(rate: float) -> None:
    """The evidence wavers; what follows from it must not, or somebody is promoted at the first dip."""
    chance = random.Random(20261126)
    metric = fed(LIMIT, [(1_500, 1, 10_000, 10)])
    wavered = False
    for number in range(400):
        bad = sum(chance.random() < rate for _ in range(147))
        before = metric.exceeded
        metric.add([(147, bad, 3, 0)], t=100.0 + number, epoch=0, settled=True)
        (leaf,) = metric.leaves
        assert isinstance(leaf, CeilingTest)
        wavered |= leaf.canary.beyond and not leaf.canary.shown
        assert metric.exceeded or not before
    assert wavered


def test_nobody_is_proven_to_keep_a_limit_while_what_has_not_settled_breaks_it() -> None:
    metric = fed(LIMIT, *[[(300, 1, 2_000, 8)]] * 3)
    assert metric.proven
    metric.add([(1_300, 200, 1, 0)], t=200.0, epoch=0, settled=False)
    assert (metric.exceeded, metric.proven, metric.rolled_back) == (True, False, False)


def test_when_a_shared_outage_is_over_for_the_stable_the_canary_answers_for_itself() -> None:
    outage, canary_alone = [[(20, 6, 400, 120)]] * 4, [[(20, 6, 400, 0)]] * 100
    metric = fed(LIMIT, *outage)
    assert (metric.shared, metric.rolled_back) == (True, False)
    metric = fed(LIMIT, *outage, *canary_alone)
    assert (metric.shared, metric.rolled_back) == (False, True)


def test_only_settled_slices_prove_that_a_limit_is_kept() -> None:
    assert not fed(LIMIT, *[[(100, 0, 1_000, 0)]] * 20, settled=False).proven


@pytest.mark.parametrize(
    ("rate", "reachable"), [(0.02, True), (0.049, False), (0.2, False)], ids=["below", "at the limit", "above"]
)
def test_what_a_limit_still_needs(rate: float, *, reachable: bool) -> None:
    n = 1_000
    leaf, missing = fed(LIMIT, [(n, round(n * rate), n, 0)]).still_needed()
    assert leaf == 0
    assert (missing is not None) == reachable
    assert MetricEvidence(LIMIT).still_needed() == (0, None)


def test_at_its_limit_a_canary_is_hardly_ever_rolled_back_however_often_one_looks() -> None:
    """The rate is the worst that H0 allows; alpha is large, so that 400 runs can tell it from twice as much."""
    numbers, alpha, fired = random.Random(20_260_504), 0.1, 0
    for _ in range(400):
        test = MetricEvidence(MetricParameters(alpha=alpha, margin=1, ratio=1.25, absolute=0, ceiling=0.05))
        for tick in range(60):
            n1 = numbers.randint(0, 20)
            x1 = sum(numbers.random() < 0.05 for _ in range(n1))
            test.add([(n1, x1, 30, 0)], t=15.0 * tick, epoch=0, settled=True)
        fired += test.rolled_back
    assert fired <= 400 * alpha + 3 * math.sqrt(400 * alpha * (1 - alpha))


def test_an_outage_that_both_sides_share_after_good_times_is_not_the_canarys_fault() -> None:
    """The stable has far more good times to forget than the canary; it must not notice the outage later for that."""
    good: list[list[Totals]] = [[(50, 0, 250, 1)]] * 200
    bad: list[list[Totals]] = [[(50, 25, 250, 125)]] * 20
    metric = fed(LIMIT, *good, *bad)
    assert metric.shared
    assert not metric.rolled_back
    assert not metric.proven
    alone = fed(LIMIT, *good, *([[(50, 25, 250, 1)]] * 60))
    assert alone.rolled_back
