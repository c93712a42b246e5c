"""The test of a ceiling: rollback, shared outages, proof, and stored state."""

from __future__ import annotations

import json
import math
import random

import pytest

from serin.evidence.ceiling import CeilingTest
from serin.evidence.metric import MetricParameters, MetricTests
from serin.evidence.slices import Totals
from tests.unit.evidence.metric_cases import LIMIT, Four, fed


def test_ceiling_leaf_is_not_a_comparison() -> None:
    metric = MetricTests.begin(LIMIT)
    assert metric.comparisons == ()
    assert isinstance(metric.leaves[0], CeilingTest)


def test_canary_above_ceiling_rolls_back_and_below_is_proven() -> None:
    above = fed(LIMIT, *[[(100, 12, 1_000, 10)]] * 8)
    below = fed(LIMIT, *[[(100, 2, 1_000, 10)]] * 8)
    assert (above.rolled_back, above.proven, above.shared) == (True, False, False)
    assert (below.rolled_back, below.proven, below.shared) == (False, True, False)


def test_shared_outage_neither_rolls_back_nor_proves() -> None:
    metric = MetricTests.begin(LIMIT)
    for number in range(40):
        metric = metric.add([Totals(20, 6, 400, 120)], t=15.0 * number, epoch=0, settled=True)
        assert not metric.rolled_back, "the stable is above the limit as well"
    assert metric.shared
    for number in range(300):
        metric = metric.add([Totals(200, 0, 4, 4)], t=1_000.0 + number, epoch=0, settled=True)
    assert not metric.proven, "the stable is still above the limit"


@pytest.mark.parametrize("weight", [0.5, 0.98], ids=["half", "holdback"])
@pytest.mark.parametrize("outage", [0.1, 0.2, 0.5], ids=["10 %", "20 %", "50 %"])
def test_shared_outage_with_few_stable_requests_does_not_roll_back(weight: float, outage: float) -> None:
    chance = random.Random(20261126)

    def of(requests: int, rate: float) -> int:
        return sum(chance.random() < rate for _ in range(requests))

    def requests(bad: float) -> list[Four]:
        canary = of(150, weight)
        return [(canary, of(canary, bad), 150 - canary, of(150 - canary, bad))]

    def rolls_back() -> bool:
        return fed(LIMIT, *(requests(0.005) for _ in range(6)), *(requests(outage) for _ in range(10))).rolled_back

    assert sum(rolls_back() for _ in range(100)) <= 2


def test_ceiling_without_stable_requests_decides_alone() -> None:
    alone: list[list[Four]] = [[(100, 12, 0, 0)]] * 8
    assert fed(LIMIT, *alone).rolled_back
    assert not fed(LIMIT, *alone, settled=False).rolled_back, "the stable's pods may be scraped later"
    assert not fed(LIMIT, [(0, 0, 1, 0)], *alone).rolled_back


def test_ceiling_state_of_earlier_release_is_restored() -> None:
    metric = fed(LIMIT, [(100, 6, 1_000, 40)])
    state = json.loads(json.dumps(metric.state()))
    again = MetricTests.from_state(LIMIT, state)
    assert again == metric
    (old,) = state["leaves"]
    sides = (("above", old.pop("canary")), ("stableAbove", old.pop("stable")))
    old.update({name: side["above"] for name, side in sides})
    del old["worse"], old["stableSeen"]
    again = MetricTests.from_state(LIMIT, state)
    assert not again.rolled_back
    for number in range(8):
        again = again.add([Totals(100, 12, 0, 0)], t=100.0 + number, epoch=0, settled=True)
    assert not again.rolled_back, "the stable had requests before the upgrade"
    state["totals"] = [[100, 6, 0, 0]]
    again = MetricTests.from_state(LIMIT, state)
    for number in range(8):
        again = again.add([Totals(100, 12, 0, 0)], t=100.0 + number, epoch=0, settled=True)
    assert again.rolled_back, "the stable never had a request"


def test_shared_outage_ends_soon_after_recovery() -> None:
    metric = fed(LIMIT, *[[(980, 490, 20, 10)]] * 40)
    assert metric.shared
    slices = 0
    while metric.shared or metric.exceeded:
        metric = metric.add([Totals(980, 2, 20, 0)], t=1_000.0 + slices, epoch=0, settled=True)
        slices += 1
        assert slices <= 15, "300 good requests of the stable are enough"
    assert not metric.rolled_back


@pytest.mark.parametrize("rate", [0.065, 0.07], ids=["6.5 %", "7 %"])
def test_ceiling_stays_exceeded_while_evidence_dips(rate: float) -> None:
    """The evidence rises and falls. The result must not, or the canary is promoted when the evidence first falls."""
    chance = random.Random(20261126)
    metric = fed(LIMIT, [(1_500, 1, 10_000, 10)])
    dipped = False
    for number in range(400):
        bad = sum(chance.random() < rate for _ in range(147))
        before = metric.exceeded
        metric = metric.add([Totals(147, bad, 3, 0)], t=100.0 + number, epoch=0, settled=True)
        (leaf,) = metric.leaves
        assert isinstance(leaf, CeilingTest)
        dipped |= leaf.canary.above_limit and not leaf.canary.reaches_threshold
        assert metric.exceeded or not before
    assert dipped


def test_unsettled_breach_of_ceiling_prevents_proof() -> None:
    metric = fed(LIMIT, *[[(300, 1, 2_000, 8)]] * 3)
    assert metric.proven
    metric = metric.add([Totals(1_300, 200, 1, 0)], t=200.0, epoch=0, settled=False)
    assert (metric.exceeded, metric.proven, metric.rolled_back) == (True, False, False)


def test_canary_rolls_back_after_stable_recovers_from_outage() -> None:
    outage, canary_alone = [[(20, 6, 400, 120)]] * 4, [[(20, 6, 400, 0)]] * 100
    metric = fed(LIMIT, *outage)
    assert (metric.shared, metric.rolled_back) == (True, False)
    metric = fed(LIMIT, *outage, *canary_alone)
    assert (metric.shared, metric.rolled_back) == (False, True)


def test_unsettled_slices_do_not_prove_ceiling() -> None:
    assert not fed(LIMIT, *[[(100, 0, 1_000, 0)]] * 20, settled=False).proven


@pytest.mark.parametrize(
    ("rate", "reachable"), [(0.02, True), (0.049, False), (0.2, False)], ids=["below", "at the limit", "above"]
)
def test_ceiling_still_needed_is_none_at_or_above_limit(rate: float, *, reachable: bool) -> None:
    n = 1_000
    leaf, missing = fed(LIMIT, [(n, round(n * rate), n, 0)]).still_needed()
    assert leaf == 0
    assert (missing is not None) == reachable
    assert MetricTests.begin(LIMIT).still_needed() == (0, None)


def test_canary_at_ceiling_rolls_back_at_most_at_rate_alpha() -> None:
    """The rate is the highest that H0 allows; alpha is large, so that 400 runs can distinguish it from twice alpha."""
    numbers, alpha, fired = random.Random(20_260_504), 0.1, 0
    for _ in range(400):
        test = MetricTests.begin(MetricParameters(alpha=alpha, margin=1, ratio=1.25, absolute=0, ceiling=0.05))
        for tick in range(60):
            n1 = numbers.randint(0, 20)
            x1 = sum(numbers.random() < 0.05 for _ in range(n1))
            test = test.add([Totals(n1, x1, 30, 0)], t=15.0 * tick, epoch=0, settled=True)
        fired += test.rolled_back
    assert fired <= 400 * alpha + 3 * math.sqrt(400 * alpha * (1 - alpha))


def test_shared_outage_after_good_past_does_not_roll_back() -> None:
    """The stable has more good requests before the outage than the canary, but must be found to be above it as soon."""
    good: list[list[Four]] = [[(50, 0, 250, 1)]] * 200
    bad: list[list[Four]] = [[(50, 25, 250, 125)]] * 20
    metric = fed(LIMIT, *good, *bad)
    assert metric.shared
    assert not metric.rolled_back
    assert not metric.proven
    alone = fed(LIMIT, *good, *([[(50, 25, 250, 1)]] * 60))
    assert alone.rolled_back
