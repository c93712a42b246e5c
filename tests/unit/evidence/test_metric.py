"""One metric: its leaves, what they may spend, what fires, what is proven, and that it survives being written."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.evidence.metric import Comparison, MetricEvidence, MetricParameters
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Slice, Totals
from tests.unit.evidence.metric_cases import FOUR, LIMIT, ONE, fed

# What each leaf may spend ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "leaves"), [(ONE, 1), (FOUR, 4), (LIMIT, 1)], ids=["ratio", "four cuts", "limit"]
)
def test_the_leaves_share_alpha_equally(parameters: MetricParameters, leaves: int) -> None:
    metric = MetricEvidence(parameters)
    assert len(metric.leaves) == leaves == len(metric.totals)
    assert all(leaf.threshold == pytest.approx(math.log(leaves / 0.01)) for leaf in metric.leaves)


def test_a_comparison_tests_with_the_margin_and_proves_with_the_tolerance() -> None:
    parameters = MetricParameters(alpha=0.02, margin=1.1, ratio=1.5, absolute=0.01)
    (leaf,) = MetricEvidence(parameters).comparisons
    assert (leaf.test.parameters.alpha, leaf.test.parameters.margin) == (0.02, 1.1)
    assert (leaf.proof.rho, leaf.proof.delta) == (1.5, 0.01)


# Verdict -----------------------------------------------------------------------------------------------------------


def test_one_leaf_that_fires_is_enough_and_is_named() -> None:
    slow: list[Totals] = [(100, 50, 100, 50), (100, 90, 100, 10), (100, 5, 100, 5), (100, 0, 100, 0)]
    metric = fed(FOUR, *([slow] * 4))
    assert (metric.rolled_back, metric.strongest, metric.proven) == (True, 1, False)
    assert metric.evidence == pytest.approx(1.0)


def test_a_metric_that_fired_stays_so_whatever_follows() -> None:
    metric = fed(ONE, *[[(100, 60, 100, 1)]] * 4)
    assert metric.rolled_back
    for number in range(50):
        metric.add([(100, 0, 100, 30)], t=1_000.0 + number, epoch=1, settled=True)
        assert metric.rolled_back


def test_the_strongest_is_the_first_of_equals() -> None:
    assert MetricEvidence(FOUR).strongest == 0


@pytest.mark.parametrize(("requests", "proven"), [(300, False), (9_000, True)], ids=["a few requests", "thousands"])
def test_a_proof_needs_every_leaf(requests: int, *, proven: bool) -> None:
    part = requests // 10
    even: list[Totals] = [(part, part // 2, part, part // 2)] * 4
    metric = fed(FOUR, *([even] * 10))
    assert metric.proven == proven
    leaf, missing = metric.still_needed()
    assert (missing == 0.0) == proven
    unproven: list[Totals] = [*even[:3], (0, 0, part, 0)]
    assert not fed(FOUR, *([unproven] * 10)).proven
    assert 0 <= leaf < 4


def test_the_leaf_that_needs_most_is_named() -> None:
    """The rarer what is bad, the sooner it is excluded by the absolute tolerance; half of all takes longest."""
    leaf, missing = fed(FOUR, *[[(30, 1, 30, 1), (30, 0, 30, 0), (30, 0, 30, 0), (0, 0, 30, 0)]] * 3).still_needed()
    assert (leaf, missing) == (3, None)


def test_what_has_not_settled_speaks_against_the_canary_and_never_for_it() -> None:
    good, bad = [[(1_000, 0, 1_000, 10)]] * 9, [[(1_000, 500, 1_000, 10)]] * 9
    assert not fed(ONE, *good, settled=False).proven
    assert fed(ONE, *good).proven
    assert fed(ONE, *bad, settled=False).rolled_back


def test_silence_is_no_exposure() -> None:
    assert not MetricEvidence(ONE).exposed
    assert not fed(ONE, [(0, 0, 0, 0)]).exposed
    assert fed(ONE, [(0, 0, 1, 0)]).exposed
    assert fed(ONE, [(1, 0, 0, 0)]).exposed


def test_totals_add_up_over_all_epochs_and_leaves() -> None:
    metric = MetricEvidence(FOUR)
    for epoch in range(3):
        metric.add([(10, leaf, 20, leaf) for leaf in range(4)], t=15.0, epoch=epoch, settled=False)
    assert metric.totals == [(30, 3 * leaf, 60, 3 * leaf) for leaf in range(4)]


def test_closing_an_epoch_closes_it_in_every_leaf() -> None:
    metric = fed(FOUR, [(2, 1, 2, 0)] * 4)
    assert all(0 in leaf.test.open for leaf in metric.comparisons)
    metric.close_epoch(0)
    assert not any(leaf.test.open or leaf.waiting for leaf in metric.comparisons)
    assert all(leaf.test.closed.n1 == 2 for leaf in metric.comparisons)


FAILURES: list[tuple[MetricParameters, list[Totals]]] = [
    (ONE, [(60, 60, 0, 0)]),  # time-outs, of which the stable has none: nobody is beside them
    (ONE, [(60, 60, 2, 0)]),  # hardly anybody
    (ONE, [(0, 60, 0, 0)]),  # told later than their requests
    (LIMIT, [(0, 200, 0, 0)]),
    (FOUR, [(60, 0, 0, 0), (60, 0, 0, 0), (60, 60, 0, 0), (60, 0, 0, 0)]),  # at one boundary
]


@pytest.mark.parametrize(
    ("parameters", "late"), FAILURES, ids=["time-outs", "few beside", "owed", "owed to a limit", "at a boundary"]
)
def test_failures_that_come_when_the_stable_has_nothing_left_to_answer_stand_against_the_proof(
    parameters: MetricParameters, late: list[Totals]
) -> None:
    metric = fed(parameters, *[[(600, 0, 1_000, 10)] * parameters.leaves] * 4)
    assert metric.proven
    metric.add(late, t=90.0, epoch=0, settled=True)
    assert not metric.proven
    leaf, needed = metric.still_needed()
    assert needed is None or needed > 0
    shown = metric.shown(leaf)
    assert shown[1] >= 60, "whoever reads the sentence sees them"
    assert not metric.rolled_back, "there is nothing to compare them with"

    again = MetricEvidence(parameters)
    again.restore(json.loads(json.dumps(metric.state())))
    assert not again.proven, "nor after a restart"
    again.close_epoch(0)
    assert not again.proven, "nor when the label is used again"


@pytest.mark.parametrize(
    "apart",
    [
        [(100, 1, 0, 0), (0, 0, 300, 9)],
        [(0, 0, 300, 9), (100, 1, 0, 0)],
        [(60, 0, 300, 9), (40, 1, 0, 0)],
        [(100, 1, 200, 5), (2, 0, 100, 4)],
    ],
    ids=["canary first", "stable first", "the canary's rest", "mostly the stable's rest"],
)
def test_pods_that_are_scraped_one_after_the_other_prove_as_much_as_together(apart: list[Totals]) -> None:
    """At the end of an epoch: what comes first is not charged for what comes an interval later."""
    metric, expected = MetricEvidence(ONE), NonInferiority()
    for number, counts in enumerate(apart, start=1):
        metric.add([counts], t=15.0 * number, epoch=0, settled=True)
        metric.nothing_ended({0})
    metric.nothing_ended({1})
    n1, x1, n0, x0 = metric.totals[0]
    expected.add(Slice(n1, x1, n0, x0))
    (leaf,) = metric.comparisons
    assert (leaf.proof.logs, leaf.waiting) == (pytest.approx(expected.logs), {})


def test_a_label_that_is_used_again_closes_a_thin_pool_with_both_halves() -> None:
    metric = fed(ONE, [(2, 1, 60, 30)])
    metric.close_epoch(0)
    (leaf,) = metric.comparisons
    both = NonInferiority()
    both.add(Slice(2, 1, 60, 30))
    assert (leaf.proof.logs, leaf.waiting) == (pytest.approx(both.logs), {})


@pytest.mark.parametrize("canary_first", [True, False])
def test_who_is_as_bad_as_the_tolerance_is_seldom_proven_whichever_side_is_scraped_first(*, canary_first: bool) -> None:
    """Looked at after every interval, each of which shows one side; an epoch lasts four of them."""
    numbers, proven, runs = random.Random(7), 0, 400
    for _ in range(runs):
        metric = MetricEvidence(ONE)
        for interval in range(120):
            epoch = interval // 4 % 32
            if interval % 4 == 0:
                metric.close_epoch(epoch)
            if (interval % 2 == 0) == canary_first:
                n1 = numbers.randrange(60)
                counts = (n1, sum(numbers.random() < 1.25 * 0.02 + 0.005 for _ in range(n1)), 0, 0)
            else:
                n0 = numbers.randrange(200)
                counts = (0, 0, n0, sum(numbers.random() < 0.02 for _ in range(n0)))
            metric.add([counts], t=15.0 * interval, epoch=epoch, settled=True)
            metric.nothing_ended({epoch})
            if metric.proven:
                proven += 1
                break
    assert proven <= 0.05 * runs


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [([(1, 0, 1, 0)] * 3, "shorter|longer"), ([(-1, 0, 1, 0)] * 4, "negative")],
    ids=["too few leaves", "negative"],
)
def test_counts_that_cannot_be_are_refused(counts: list[Totals], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        MetricEvidence(FOUR).add(counts, t=15.0, epoch=0, settled=True)


def test_a_canary_that_is_no_worse_is_hardly_ever_rolled_back_whatever_the_base_rate_does() -> None:
    """Four boundaries that hang together, a base rate that drifts from 1 to 20 %, a look at every slice."""
    numbers, alpha, fired = random.Random(7), 0.1, 0
    for _ in range(120):
        metric = MetricEvidence(
            MetricParameters(alpha=alpha, margin=1, ratio=1.25, absolute=0, boundaries=(1, 2, 3, 4))
        )
        for tick in range(40):
            base = 0.01 + 0.19 * tick / 40
            sides = [[numbers.random() for _ in range(numbers.randint(2, n))] for n in (8, 30)]
            counts: list[Totals] = []
            for leaf in range(4):
                (n1, x1), (n0, x0) = ((len(s), sum(u < base / (1 + leaf) for u in s)) for s in sides)
                counts.append((n1, x1, n0, x0))
            metric.add(counts, t=15.0 * tick, epoch=tick // 10, settled=True)
        fired += metric.rolled_back
    assert fired <= 120 * alpha + 3 * math.sqrt(120 * alpha * (1 - alpha))


# Kept --------------------------------------------------------------------------------------------------------------

leaf_counts = st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1)).map(
    lambda c: (c[0], round(c[0] * c[2]), c[1], round(c[1] * c[3]))
)


@settings(max_examples=40)
@given(
    st.sampled_from([ONE, FOUR, LIMIT]),
    st.lists(st.tuples(st.lists(leaf_counts, min_size=4, max_size=4), st.integers(0, 3), st.booleans()), max_size=8),
)
def test_written_and_read_back_after_any_slice_it_goes_on_as_if_nothing_had_happened(
    parameters: MetricParameters, slices: list[tuple[list[Totals], int, bool]]
) -> None:
    calm, restarted = MetricEvidence(parameters), MetricEvidence(parameters)
    for number, (counts, epoch, settled) in enumerate(slices):
        told: dict[str, Any] = {"t": 15.0 * number, "epoch": epoch, "settled": settled}
        calm.add(counts[: parameters.leaves], **told)
        kept = json.loads(json.dumps(restarted.state(), allow_nan=False))
        restarted = MetricEvidence(parameters)
        restarted.restore(kept)
        restarted.add(counts[: parameters.leaves], **told)
    assert restarted == calm
    assert restarted.state() == calm.state()


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
def test_a_damaged_state_is_an_error(parameters: MetricParameters, state: Any) -> None:
    with pytest.raises(ValueError, match="start the trial anew"):
        MetricEvidence(parameters).restore(state)


def test_a_comparison_shows_what_its_test_shows() -> None:
    (leaf,) = fed(ONE, *[[(100, 60, 100, 1)]] * 4).comparisons
    assert isinstance(leaf, Comparison)
    assert (leaf.log_e, leaf.threshold, leaf.rolled_back) == (leaf.test.log_e, leaf.test.threshold, True)


def test_bad_ones_that_are_found_later_than_their_requests_are_counted_with_the_next() -> None:
    metric = fed(ONE, [(1, 0, 100, 0)], [(0, 1, 100, 0)], [(1, 1, 100, 0)])
    assert metric.totals == [(2, 1, 300, 0)]
    assert metric.owed == {0: (1, 0)}
    again = MetricEvidence(ONE)
    again.restore(json.loads(json.dumps(metric.state())))
    again.add([(2, 0, 0, 0)], t=60.0, epoch=0, settled=True)
    assert again.totals == [(4, 2, 300, 0)]
