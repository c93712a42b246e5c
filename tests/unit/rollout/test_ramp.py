"""Steps as they are pinned, and the pods that a weight needs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.rollout.ramp import pin, pods_for, weight_at
from serin.rollout.trial import Step
from tests.unit.rollout.cases import MINUTE, make_spec, make_trial, steps


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
def test_pods_for(replicas: int, weight: int, expected: int) -> None:
    assert pods_for(replicas, weight) == expected


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 1_000), st.integers(0, 10_000))
def test_the_pods_carry_the_weight_and_none_is_too_many(replicas: int, weight: int) -> None:
    pods = pods_for(replicas, weight)
    assert pods * 10_000 >= replicas * weight
    assert pods == 1 or (pods - 1) * 10_000 < replicas * weight


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 9_999))
def test_a_percentage_with_two_decimals_is_pinned_exactly(weight: int) -> None:
    spec = make_spec(rollout=steps({"weight": weight / 100}))
    assert pin(spec.rollout.ramp) == (Step(weight, timedelta(minutes=10)),)


def test_pinning_writes_every_hold_out_but_that_of_a_person() -> None:
    written = steps({"weight": 5}, {"pause": {}}, {"pause": {"for": "1h"}}, {"weight": 25, "hold": "0s"})
    assert pin(make_spec(rollout=written).rollout.ramp) == (
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
def test_weight_at(step: int, expected: int) -> None:
    assert weight_at(make_trial(step=step, steps=(Step(500), Step(None), Step(2_500)))) == expected


def test_a_pause_before_any_weight_holds_at_nothing() -> None:
    assert weight_at(make_trial(steps=(Step(None), Step(500)))) == 0
