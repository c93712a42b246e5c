"""The tests of one metric: leaves, their shares of alpha, rollback, proof, and stored state."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.evidence.metric import Comparison, MetricParameters, MetricTests
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import RequestsBySide, Slice, Totals
from tests.unit.evidence.metric_cases import FOUR, LIMIT, ONE, Four, fed

# Shares of alpha -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "leaves"), [(ONE, 1), (FOUR, 4), (LIMIT, 1)], ids=["ratio", "four cuts", "limit"]
)
def test_leaves_share_alpha_equally(parameters: MetricParameters, leaves: int) -> None:
    metric = MetricTests.begin(parameters)
    assert len(metric.leaves) == leaves == len(metric.totals)
    assert all(leaf.threshold == pytest.approx(math.log(leaves / 0.01)) for leaf in metric.leaves)


def test_comparison_uses_margin_for_test_and_tolerance_for_proof() -> None:
    parameters = MetricParameters(alpha=0.02, margin=1.1, ratio=1.5, absolute=0.01)
    (leaf,) = MetricTests.begin(parameters).comparisons
    assert (leaf.test.parameters.alpha, leaf.test.parameters.margin) == (0.02, 1.1)
    assert (leaf.proof.rho, leaf.proof.delta) == (1.5, 0.01)


# Verdict -------------------------------------------------------------------------------------------------------------


def test_one_leaf_rolls_back_the_metric_and_is_strongest() -> None:
    slow: list[Four] = [(100, 50, 100, 50), (100, 90, 100, 10), (100, 5, 100, 5), (100, 0, 100, 0)]
    metric = fed(FOUR, *([slow] * 4))
    assert (metric.rolled_back, metric.strongest, metric.proven) == (True, 1, False)
    assert metric.evidence == pytest.approx(1.0)


def test_rolled_back_metric_stays_rolled_back() -> None:
    metric = fed(ONE, *[[(100, 60, 100, 1)]] * 4)
    assert metric.rolled_back
    for number in range(50):
        metric = metric.add([Totals(100, 0, 100, 30)], t=1_000.0 + number, epoch=1, settled=True)
        assert metric.rolled_back


def test_strongest_is_first_of_equal_leaves() -> None:
    assert MetricTests.begin(FOUR).strongest == 0


@pytest.mark.parametrize(("requests", "proven"), [(300, False), (9_000, True)], ids=["a few requests", "thousands"])
def test_metric_is_proven_only_if_every_leaf_is(requests: int, *, proven: bool) -> None:
    part = requests // 10
    even: list[Four] = [(part, part // 2, part, part // 2)] * 4
    metric = fed(FOUR, *([even] * 10))
    assert metric.proven == proven
    leaf, missing = metric.still_needed()
    assert (missing == 0.0) == proven
    unproven: list[Four] = [*even[:3], (0, 0, part, 0)]
    assert not fed(FOUR, *([unproven] * 10)).proven
    assert 0 <= leaf < 4


def test_still_needed_returns_leaf_that_needs_most() -> None:
    """A leaf without canary requests can never be proven, so it needs the most."""
    leaf, missing = fed(FOUR, *[[(30, 1, 30, 1), (30, 0, 30, 0), (30, 0, 30, 0), (0, 0, 30, 0)]] * 3).still_needed()
    assert (leaf, missing) == (3, None)


def test_unsettled_slices_can_roll_back_but_not_prove() -> None:
    good, bad = [[(1_000, 0, 1_000, 10)]] * 9, [[(1_000, 500, 1_000, 10)]] * 9
    assert not fed(ONE, *good, settled=False).proven
    assert fed(ONE, *good).proven
    assert fed(ONE, *bad, settled=False).rolled_back


def test_metric_without_requests_is_not_exposed() -> None:
    assert not MetricTests.begin(ONE).exposed
    assert not fed(ONE, [(0, 0, 0, 0)]).exposed
    assert fed(ONE, [(0, 0, 1, 0)]).exposed
    assert fed(ONE, [(1, 0, 0, 0)]).exposed


def test_totals_are_sums_over_epochs_by_leaf() -> None:
    metric = MetricTests.begin(FOUR)
    for epoch in range(3):
        metric = metric.add([Totals(10, leaf, 20, leaf) for leaf in range(4)], t=15.0, epoch=epoch, settled=False)
    assert metric.totals == tuple(Totals(30, 3 * leaf, 60, 3 * leaf) for leaf in range(4))


def test_close_epoch_closes_it_in_every_leaf() -> None:
    metric = fed(FOUR, [(2, 1, 2, 0)] * 4)
    assert all(0 in leaf.test.open for leaf in metric.comparisons)
    metric = metric.close_epoch(0)
    assert not any(leaf.test.open or leaf.pools for leaf in metric.comparisons)
    assert all(leaf.test.closed.n1 == 2 for leaf in metric.comparisons)


FAILURES: list[tuple[MetricParameters, list[Four]]] = [
    (ONE, [(60, 60, 0, 0)]),  # time-outs; the stable has no requests left in the epoch
    (ONE, [(60, 60, 2, 0)]),  # the stable has few requests left
    (ONE, [(0, 60, 0, 0)]),  # bad requests counted later than their requests
    (LIMIT, [(0, 200, 0, 0)]),
    (FOUR, [(60, 0, 0, 0), (60, 0, 0, 0), (60, 60, 0, 0), (60, 0, 0, 0)]),  # at one boundary
]


@pytest.mark.parametrize(
    ("parameters", "late"),
    FAILURES,
    ids=["time-outs", "few stable requests", "carried over", "carried over, ceiling", "at a boundary"],
)
def test_late_canary_failures_without_stable_requests_end_proof(parameters: MetricParameters, late: list[Four]) -> None:
    metric = fed(parameters, *[[(600, 0, 1_000, 10)] * parameters.leaves] * 4)
    assert metric.proven
    metric = metric.add([Totals(*each) for each in late], t=90.0, epoch=0, settled=True)
    assert not metric.proven
    leaf, needed = metric.still_needed()
    assert needed is None or needed > 0
    assert metric.totals_with_carried_over(leaf).x1 >= 60, "the counts in messages contain them"
    assert not metric.rolled_back, "there are no stable requests to compare with"

    again = MetricTests.from_state(parameters, json.loads(json.dumps(metric.state())))
    assert not again.proven, "nor after a restart"
    again = again.close_epoch(0)
    assert not again.proven, "nor when the label is used again"


@pytest.mark.parametrize(
    "parts",
    [
        [(100, 1, 0, 0), (0, 0, 300, 9)],
        [(0, 0, 300, 9), (100, 1, 0, 0)],
        [(60, 0, 300, 9), (40, 1, 0, 0)],
        [(100, 1, 200, 5), (2, 0, 100, 4)],
    ],
    ids=["canary first", "stable first", "the canary's rest", "mostly the stable's rest"],
)
def test_sides_scraped_one_interval_apart_give_same_proof(parts: list[Four]) -> None:
    """At the end of an epoch, one side's counts can come an interval later than the other's."""
    metric, expected = MetricTests.begin(ONE), NonInferiority()
    for number, counts in enumerate(parts, start=1):
        metric = metric.add([Totals(*counts)], t=15.0 * number, epoch=0, settled=True)
        metric = metric.nothing_ended({0})
    metric = metric.nothing_ended({1})
    expected = expected.add(metric.totals[0])
    (leaf,) = metric.comparisons
    assert (leaf.proof.logs, leaf.pools) == (pytest.approx(expected.logs), {})


def test_close_epoch_adds_small_pool_with_both_sides() -> None:
    metric = fed(ONE, [(2, 1, 60, 30)])
    metric = metric.close_epoch(0)
    (leaf,) = metric.comparisons
    both = NonInferiority()
    both = both.add(Slice(2, 1, 60, 30))
    assert (leaf.proof.logs, leaf.pools) == (pytest.approx(both.logs), {})


@pytest.mark.parametrize("canary_first", [True, False])
def test_canary_at_tolerance_is_proven_at_most_at_rate_beta(*, canary_first: bool) -> None:
    """The proof is read after every interval. Each interval has counts of one side; an epoch lasts four intervals."""
    numbers, proven, runs = random.Random(7), 0, 400
    for _ in range(runs):
        metric = MetricTests.begin(ONE)
        for interval in range(120):
            epoch = interval // 4 % 32
            if interval % 4 == 0:
                metric = metric.close_epoch(epoch)
            if (interval % 2 == 0) == canary_first:
                n1 = numbers.randrange(60)
                counts = (n1, sum(numbers.random() < 1.25 * 0.02 + 0.005 for _ in range(n1)), 0, 0)
            else:
                n0 = numbers.randrange(200)
                counts = (0, 0, n0, sum(numbers.random() < 0.02 for _ in range(n0)))
            metric = metric.add([Totals(*counts)], t=15.0 * interval, epoch=epoch, settled=True)
            metric = metric.nothing_ended({epoch})
            if metric.proven:
                proven += 1
                break
    assert proven <= 0.05 * runs


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [([(1, 0, 1, 0)] * 3, "shorter|longer"), ([(-1, 0, 1, 0)] * 4, "negative")],
    ids=["too few leaves", "negative"],
)
def test_impossible_counts_raise_error(counts: list[Four], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        MetricTests.begin(FOUR).add([Totals(*each) for each in counts], t=15.0, epoch=0, settled=True)


def test_equal_canary_rolls_back_at_most_at_rate_alpha_under_drift() -> None:
    """Four dependent boundaries, a base rate that drifts from 1 to 20 %, and a read after every slice."""
    numbers, alpha, fired = random.Random(7), 0.1, 0
    for _ in range(120):
        metric = MetricTests.begin(
            MetricParameters(alpha=alpha, margin=1, ratio=1.25, absolute=0, boundaries=(1, 2, 3, 4))
        )
        for tick in range(40):
            base = 0.01 + 0.19 * tick / 40
            sides = [[numbers.random() for _ in range(numbers.randint(2, n))] for n in (8, 30)]
            counts: list[Totals] = []
            for leaf in range(4):
                (n1, x1), (n0, x0) = ((len(s), sum(u < base / (1 + leaf) for u in s)) for s in sides)
                counts.append(Totals(n1, x1, n0, x0))
            metric = metric.add(counts, t=15.0 * tick, epoch=tick // 10, settled=True)
        fired += metric.rolled_back
    assert fired <= 120 * alpha + 3 * math.sqrt(120 * alpha * (1 - alpha))


# Stored state --------------------------------------------------------------------------------------------------------

leaf_counts = st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1)).map(
    lambda c: (c[0], round(c[0] * c[2]), c[1], round(c[1] * c[3]))
)


@settings(max_examples=40)
@given(
    st.sampled_from([ONE, FOUR, LIMIT]),
    st.lists(st.tuples(st.lists(leaf_counts, min_size=4, max_size=4), st.integers(0, 3), st.booleans()), max_size=8),
)
def test_metric_restored_after_each_slice_equals_original(
    parameters: MetricParameters, slices: list[tuple[list[Four], int, bool]]
) -> None:
    original, restarted = MetricTests.begin(parameters), MetricTests.begin(parameters)
    for number, (values, epoch, settled) in enumerate(slices):
        facts: dict[str, Any] = {"t": 15.0 * number, "epoch": epoch, "settled": settled}
        counts = [Totals(*each) for each in values[: parameters.leaves]]
        original = original.add(counts, **facts)
        stored = json.loads(json.dumps(restarted.state(), allow_nan=False))
        restarted = MetricTests.from_state(parameters, stored).add(counts, **facts)
    assert restarted == original
    assert restarted.state() == original.state()


GOOD_STATE = fed(FOUR, [(10, 1, 10, 1)] * 4).state()
LIMIT_STATE = fed(LIMIT, [(10, 1, 10, 1)]).state()


@pytest.mark.parametrize(
    ("parameters", "state"),
    [
        (FOUR, {}),
        (FOUR, None),
        (FOUR, []),
        (FOUR, GOOD_STATE | {"leaves": GOOD_STATE["leaves"][:3]}),
        (FOUR, GOOD_STATE | {"totals": GOOD_STATE["totals"][:3]}),
        (FOUR, GOOD_STATE | {"totals": [[1, 2, 3]] * 4}),
        (FOUR, GOOD_STATE | {"leaves": [leaf | {"proof": [0.0]} for leaf in GOOD_STATE["leaves"]]}),
        (FOUR, GOOD_STATE | {"leaves": [leaf | {"test": None} for leaf in GOOD_STATE["leaves"]]}),
        (ONE, GOOD_STATE),
        (LIMIT, fed(ONE, [(1, 0, 1, 0)]).state()),
        (
            LIMIT,
            LIMIT_STATE
            | {"leaves": [LIMIT_STATE["leaves"][0] | {"canary": {"above": [0.0], "keeps": [], "beyond": False}}]},
        ),
        (LIMIT, LIMIT_STATE | {"leaves": [LIMIT_STATE["leaves"][0] | {"below": []}]}),
    ],
    ids=[
        "nothing",
        "null",
        "a list",
        "a leaf is missing",
        "a total is missing",
        "totals of another shape",
        "another proof",
        "no test",
        "another number of leaves",
        "a comparison for a limit",
        "another number of alternatives above",
        "another number of alternatives below",
    ],
)
def test_damaged_state_raises_error(parameters: MetricParameters, state: Any) -> None:
    with pytest.raises(ValueError, match=r"^The stored state of the [a-z ]+ is damaged: "):
        MetricTests.from_state(parameters, state)


def test_comparison_exposes_values_of_its_test() -> None:
    (leaf,) = fed(ONE, *[[(100, 60, 100, 1)]] * 4).comparisons
    assert isinstance(leaf, Comparison)
    assert (leaf.log_e, leaf.threshold, leaf.rolled_back) == (leaf.test.log_e, leaf.test.threshold, True)


def test_late_bad_requests_are_counted_with_next_requests() -> None:
    metric = fed(ONE, [(1, 0, 100, 0)], [(0, 1, 100, 0)], [(1, 1, 100, 0)])
    assert metric.totals == (Totals(2, 1, 300, 0),)
    assert metric.carried_over == {0: RequestsBySide(1, 0)}
    again = MetricTests.from_state(ONE, json.loads(json.dumps(metric.state())))
    again = again.add([Totals(2, 0, 0, 0)], t=60.0, epoch=0, settled=True)
    assert again.totals == (Totals(4, 2, 300, 0),)
