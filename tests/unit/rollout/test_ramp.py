"""Steps as they are pinned, and the pods that a weight needs."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.measurement import How
from serin.analysis.trial_state import Epoch, TrialState
from serin.evidence.slices import Counts
from serin.rollout.ramp import (
    RATE_AFTER,
    SMALLEST,
    first_weight,
    pin,
    pin_budget,
    pin_holdback,
    pods_at_equal_load,
    pods_for,
    weight_at,
    with_adaptive_weight,
)
from serin.rollout.snapshot import Policy
from serin.rollout.trial import Budget, Step, Trial
from tests.unit.rollout.cases import (
    BAD,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    NOTHING,
    A,
    B,
    make_evidence,
    make_spec,
    make_trial,
    steps,
)


@pytest.mark.parametrize(
    ("replicas", "weight", "expected"),
    [
        pytest.param(3, 500, 1, id="a small share is one pod"),
        pytest.param(3, 3_333, 1, id="just under a third"),
        pytest.param(3, 3_334, 2, id="just over a third"),
        pytest.param(3, 10_000, 3, id="everything"),
        pytest.param(3, 0, 1, id="no weight, still one pod to start with"),
        pytest.param(0, 500, 1, id="scaled to nothing"),
        pytest.param(0, 10_000, 1, id="promotion of what is scaled to nothing"),
        pytest.param(1_000, 1, 1, id="0.01 percent of a thousand"),
        pytest.param(1_000, 9_999, 1_000, id="99.99 percent of a thousand"),
    ],
)
def test_pods_for_weight(replicas: int, weight: int, expected: int) -> None:
    assert pods_for(replicas, weight) == expected


@given(st.integers(0, 1_000), st.integers(0, 10_000))
def test_pods_for_weight_is_the_least_number_that_carries_it(replicas: int, weight: int) -> None:
    pods = pods_for(replicas, weight)
    assert pods * 10_000 >= replicas * weight
    assert pods == 1 or (pods - 1) * 10_000 < replicas * weight


@pytest.mark.parametrize(
    ("replicas", "weight", "expected"),
    [
        (4, 500, 1),
        (4, 2_500, 1),
        (4, 5_000, 4),
        (8, 2_500, 3),
        (3, 5_000, 3),
        (10, 1_000, 1),
        (4, 9_800, 4),
        (0, 500, 1),
    ],
)
def test_pods_at_equal_load(replicas: int, weight: int, expected: int) -> None:
    assert pods_at_equal_load(replicas, weight) == expected


@given(st.integers(1, 200), st.integers(1, 9_999))
def test_no_other_number_of_pods_gives_more_equal_loads(replicas: int, weight: int) -> None:
    pods = pods_at_equal_load(replicas, weight)
    least = pods_for(replicas, weight)
    assert least <= pods <= max(least, replicas)

    def unequal(n: int) -> float:
        return abs(math.log(weight * replicas / (n * (10_000 - weight))))

    for other in range(least, max(least, replicas) + 1):
        assert unequal(pods) <= unequal(other) + 1e-9


@given(st.integers(1, 9_999))
def test_percentage_with_two_decimals_is_pinned_exactly(weight: int) -> None:
    spec = make_spec(rollout=steps({"weight": weight / 100}))
    assert pin(spec.ramp) == (Step(weight, timedelta(minutes=10)),)


def test_pinned_steps_have_holds_except_indefinite_pauses() -> None:
    written = steps({"weight": 5}, {"pause": {}}, {"pause": {"for": "1h"}}, {"weight": 25, "hold": "0s"})
    assert pin(make_spec(rollout=written).ramp) == (
        Step(500, 10 * MINUTE),
        Step(None, None),
        Step(None, 60 * MINUTE),
        Step(2_500, timedelta()),
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(0, 500, id="first weight"),
        pytest.param(1, 500, id="a pause keeps the weight before it"),
        pytest.param(2, 2_500, id="second weight"),
        pytest.param(3, 2_500, id="past the last step"),
    ],
)
def test_weight_at_each_step(step: int, expected: int) -> None:
    assert weight_at(make_trial(step=step, steps=(Step(500), Step(None), Step(2_500)))) == expected


def test_pause_before_first_weight_has_weight_zero() -> None:
    assert weight_at(make_trial(steps=(Step(None), Step(500)))) == 0


# Adaptive and holdback ---------------------------------------------------------------------------------------------

ADAPTIVE = (Step(0, adaptive=True),)
BUDGET = Budget(2.0, 2_500)
DEFAULT = Budget(None, 2_500, 5_000)


def test_adaptive_ramp_is_pinned_as_one_adaptive_step() -> None:
    ramp = make_spec(rollout={"ramp": {"adaptive": {"blastBudget": 3, "maxWeight": 12.5}}}).ramp
    assert (pin(ramp), pin_budget(ramp)) == (ADAPTIVE, Budget(3.0, 1_250))
    assert weight_at(make_trial(steps=ADAPTIVE, weight=77)) == 77
    assert weight_at(make_trial(steps=ADAPTIVE, weight=77, step=1)) == 77


@pytest.mark.parametrize("ramp", [{}, {"adaptive": {}}], ids=["nothing written", "empty"])
def test_default_ramp_is_adaptive_and_has_no_holdback(ramp: dict[str, Any]) -> None:
    spec = make_spec(rollout={"ramp": ramp})
    assert (pin(spec.ramp), pin_budget(spec.ramp)) == (ADAPTIVE, Budget(None, 2_500, 5_000))
    assert pin_holdback(spec.rollout.holdback) is None


@pytest.mark.parametrize(
    ("metric", "adaptive"),
    [
        ({"preset": "ErrorRate"}, True),
        ({"ratio": {"bad": "bad_total", "total": "all_total"}}, True),
        ({"preset": "TimeToFirstToken"}, False),
        ({"histogram": {"buckets": "seconds_bucket"}}, False),
    ],
    ids=["errors", "ratio", "latency", "histogram"],
)
def test_default_ramp_has_steps_where_no_metric_can_drive_it(metric: dict[str, Any], *, adaptive: bool) -> None:
    spec = make_spec(rollout={"ramp": {}}, analysis={"metrics": [{"name": "one", **metric}]})
    fixed = tuple(Step(weight, 10 * MINUTE) for weight in (500, 2_500, 5_000))
    assert pin(spec.ramp) == (ADAPTIVE if adaptive else fixed)
    assert (pin_budget(spec.ramp) is not None) is adaptive


def test_holdback_weight_belongs_to_the_stable() -> None:
    holdback = make_spec(rollout={"holdback": {"weight": 0.5, "for": "2h"}}).rollout.holdback
    assert pin_holdback(holdback) == Step(9_950, 2 * HOUR)
    trial = make_trial(step=3, holdback=Step(9_950, HOUR))
    assert (weight_at(trial), weight_at(make_trial(step=3, holdback=Step(9_950), in_holdback=True))) == (5_000, 9_950)


@pytest.mark.parametrize(
    "facts", [{}, {"step": 3, "in_holdback": True, "holdback": Step(9_800)}], ids=["step", "holdback"]
)
def test_blinded_canary_has_weight_zero(facts: dict[str, object]) -> None:
    assert weight_at(make_trial(blinded=True, **facts)) == 0


@pytest.mark.parametrize(
    ("budget", "rps", "weight"),
    [
        pytest.param(BUDGET, 20.0, 67, id="two of three hundred"),
        pytest.param(BUDGET, 0.0, SMALLEST, id="without traffic"),
        pytest.param(BUDGET, 100_000.0, SMALLEST, id="with very much"),
        pytest.param(BUDGET, 0.01, 2_500, id="with next to none"),
        pytest.param(Budget(2.0, 10), 20.0, 10, id="a maximum below the least weight"),
        pytest.param(DEFAULT, 20.0, 67, id="default budget"),
        pytest.param(DEFAULT, 2.0, 600, id="default budget at two requests per second"),
        pytest.param(DEFAULT, 1.0, 600, id="default budget below"),
        pytest.param(DEFAULT, 0.1, 2_500, id="default budget with little traffic"),
    ],
)
def test_first_adaptive_weight_follows_budget_and_traffic(budget: Budget, rps: float, weight: int) -> None:
    assert first_weight(budget, rps, Policy()) == weight


def weight_after(trial: Trial, state: TrialState, policy: Policy) -> int:
    return with_adaptive_weight(trial, state, policy, NOON).weight


def test_adaptive_weight_changes_only_on_new_strata() -> None:
    trial = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400)
    moved = with_adaptive_weight(trial, make_evidence(GOOD), Policy(), NOON)
    assert moved.weight == 1_600
    assert with_adaptive_weight(moved, make_evidence(GOOD), Policy(), NOON) is moved


def test_adaptive_weight_grows_after_one_slice_and_falls_at_once() -> None:
    trial = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400)
    young = {1: Epoch(NOON - timedelta(seconds=14), 400)}
    assert with_adaptive_weight(trial, make_evidence(GOOD, epochs=young), Policy(), NOON) is trial
    falling = make_evidence(BAD, epochs=young, requests_per_second=200.0)
    assert with_adaptive_weight(trial, falling, Policy(), NOON).weight < 400


def test_adaptive_weight_grows_on_good_and_falls_on_bad_answers() -> None:
    trial = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400)
    assert weight_after(trial, make_evidence(GOOD), Policy()) == 1_600, "at most fourfold at once"
    assert weight_after(trial, make_evidence(BAD, requests_per_second=200.0), Policy()) < 100


def test_adaptive_weight_stays_without_closed_stratum() -> None:
    trial = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400)
    assert weight_after(trial, make_evidence(NOTHING), Policy()) == 400
    assert weight_after(trial, make_evidence({A: Counts(900, 0), B: Counts(0, 0)}), Policy()) == 400


FAVOURED = {A: Counts(10_000, 100), B: Counts(3_000, 25)}
"""Enough for a proof, and nothing against the canary."""
DOUBTED = {A: Counts(10_000, 10), B: Counts(3_000, 25)}


@pytest.mark.parametrize(
    ("budget", "weight", "counts", "expected"),
    [
        pytest.param(DEFAULT, 2_500, FAVOURED, 5_000, id="goes to half once the evidence favours the canary"),
        pytest.param(DEFAULT, 2_500, DOUBTED, 2_500, id="stays at a quarter while counts speak against it"),
        pytest.param(DEFAULT, 5_000, DOUBTED, 2_500, id="goes back to a quarter when they begin to"),
        pytest.param(BUDGET, 2_500, FAVOURED, 2_500, id="never above what is written"),
    ],
)
def test_weight_above_a_quarter_needs_favourable_evidence(
    budget: Budget, weight: int, counts: dict[str, Counts], expected: int
) -> None:
    trial = make_trial(steps=ADAPTIVE, budget=budget, weight=weight)
    assert weight_after(trial, make_evidence(counts, requests_per_second=0.5), Policy()) == expected


def test_weight_above_a_quarter_needs_favourable_latencies_too() -> None:
    state = make_evidence(FAVOURED, requests_per_second=0.5)
    errors = state.metrics[0]
    slower = replace(errors.tests, leaves=make_evidence(DOUBTED).metrics[0].tests.leaves)
    latency = replace(errors, measurement=replace(errors.measurement, how=How.ABOVE), tests=slower)
    trial = make_trial(steps=ADAPTIVE, budget=DEFAULT, weight=2_500)
    both = replace(state, metrics=(errors, latency))
    assert weight_after(trial, both, Policy()) == 2_500
    advisory = replace(latency, measurement=replace(latency.measurement, required=False))
    assert weight_after(trial, replace(both, metrics=(errors, advisory)), Policy()) == 5_000


def test_budget_of_version_0_1_is_read() -> None:
    text = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400).to_json().replace("[2.0,2500,null]", "[2.0,2500]")
    assert "[2.0,2500]" in text
    assert Trial.from_json(text).budget == BUDGET


def test_fixed_steps_ignore_counts() -> None:
    assert weight_after(make_trial(weight=0), make_evidence(BAD), Policy()) == 0


def test_unknown_rate_is_taken_from_trial_after_one_minute() -> None:
    trial = make_trial(steps=ADAPTIVE, budget=BUDGET, weight=400)
    young = make_evidence(GOOD, requests_per_second=0.0, since=NOON - RATE_AFTER / 2)
    old = make_evidence(GOOD, requests_per_second=0.0, since=NOON - HOUR)
    assert (weight_after(trial, young, Policy()), weight_after(trial, old, Policy())) == (SMALLEST, 1_600)


@settings(max_examples=40)
@given(st.integers(1, 9_999), st.floats(0, 1e6), st.sampled_from([GOOD, BAD, NOTHING]), st.integers(1, 9_999))
def test_adaptive_weight_stays_within_bounds(weight: int, rps: float, counts: dict[str, Counts], most: int) -> None:
    trial = make_trial(steps=ADAPTIVE, budget=Budget(2.0, most), weight=min(weight, most))
    after = weight_after(trial, make_evidence(counts, requests_per_second=rps), Policy())
    assert 1 <= after <= most
