"""A canary whose requests are lost: it loses its weight, a person resumes it, and its promotion needs a proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.presets import DEFAULT_SERIES, arrivals
from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import Epoch, TrialState
from serin.analysis.verdict import AGAINST
from serin.evidence.lost import BEYOND_DOUBT, NOTHING_LOST
from serin.evidence.metric import MetricTests
from serin.evidence.slices import RequestsBySide
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.unit.rollout.cases import GOOD, HELD, HOUR, NOON, B, canary_at, make_evidence, make_spec, trial_of, weight_of

STARTED = arrivals(DEFAULT_SERIES, measured=True)
ALL_ARRIVED: dict[str, Any] = {
    "arrivals": STARTED,
    "epochs": {1: Epoch(NOON - HOUR, 5_000)},
    "arrived": RequestsBySide(40_000, 40_000),
}


def losing(log_e: float = BEYOND_DOUBT) -> TrialState:
    """A trial with the evidence that 830 requests were lost."""
    logs = tuple(log + log_e for log in NOTHING_LOST.logs)
    return make_evidence(GOOD, **ALL_ARRIVED, lost=replace(NOTHING_LOST, logs=logs, lost=830.0))


def rollout(on_inconclusive: str = "Pause") -> Any:
    return make_spec(rollout={"onInconclusive": on_inconclusive})


def test_canary_that_loses_requests_beyond_doubt_loses_its_weight_and_is_not_rejected() -> None:
    decision = decide(canary_at(step=1, saved_state=losing()))
    assert (weight_of(decision, B), decision.phase, decision.stalled) == (0, Phase.PAUSED, Reason.REQUESTS_LOST)
    assert decision.target is not None
    assert decision.target.rejection is None
    for part in (
        "About 830 requests did not arrive",
        "Check the gateway's errors",
        f"serin.dev/do=resume@{B}#",
        "abort",
    ):
        assert part in decision.message
    assert decision.trial_state is not None
    assert decision.trial_state.lost == NOTHING_LOST, "a person who resumes begins anew"


@pytest.mark.parametrize(
    ("seconds", "slice_seconds", "weight"), [(105, 15.0, 5_000), (120, 15.0, 0), (120, 60.0, 5_000), (240, 60.0, 0)]
)
def test_canary_without_arrivals_loses_its_weight_after_a_pod_could_have_restarted(
    seconds: float, slice_seconds: float, weight: int
) -> None:
    """A restart of 40 s and three failed scrapes hide a canary's arrivals for 105 s."""
    state = losing(0.0)
    silent = replace(
        state,
        slice_seconds=slice_seconds,
        canary_arrival_at=state.until - timedelta(seconds=seconds),
        expected_without_arrival=500.0,
    )
    decision = decide(canary_at(step=2, saved_state=silent))
    assert weight_of(decision, B) == weight
    assert ("none did" in decision.message) is (weight == 0)


def test_withdrawn_canary_stays_so_with_its_sentence_until_resume_begins_the_ramp_again() -> None:
    first = decide(canary_at(step=1, saved_state=losing()))
    again = canary_at(
        step=1, saved_state=first.trial_state, trial={"withdrawn_because": trial_of(first).withdrawn_because}
    )
    second = decide(again)
    assert (weight_of(second, B), second.message) == (0, first.message)
    resumed = decide(replace(again, command=parse_command(f"resume@{B}#1")))
    trial = trial_of(resumed)
    assert (trial.step, trial.withdrawn_because) == (0, None)
    assert weight_of(resumed, B) > 0


def test_withdrawn_canary_is_rejected_where_on_inconclusive_asks_for_it() -> None:
    decision = decide(canary_at(step=1, saved_state=losing(), spec=rollout("Rollback")))
    assert decision.target is not None
    assert decision.target.rejection is not None
    assert "830 requests" in decision.target.rejection.message


def test_lost_requests_take_no_weight_where_clients_stay_at_one_backend() -> None:
    snapshot = canary_at(step=1, held=HELD, saved_state=replace(losing(), sticky=True))
    decision = decide(snapshot)
    assert weight_of(decision, B) > 0
    assert decision.reason == Reason.REQUESTS_MISSING


def test_weight_does_not_grow_while_arrivals_speak_against_the_canary() -> None:
    held = decide(canary_at(step=0, held=HELD, saved_state=losing(AGAINST + 0.1)))
    assert trial_of(held).step == 0
    assert "Fewer requests arrive at the canary" in held.message
    assert trial_of(decide(canary_at(step=0, held=HELD, saved_state=losing(0.0)))).step == 1


@pytest.mark.parametrize(("weight", "arrived"), [(55, (240, 43_400)), (99, (430, 43_000))])
def test_arrivals_below_one_percent_hold_no_weight(weight: int, arrived: tuple[int, int]) -> None:
    now = {"epochs": {1: Epoch(NOON - HOUR, weight)}, "arrived": RequestsBySide(*arrived)}
    state = replace(losing(AGAINST + 0.1), **now)
    assert trial_of(decide(canary_at(step=0, held=HELD, saved_state=state))).step == 1


@pytest.mark.parametrize(
    ("arrived", "said"),
    [
        (RequestsBySide(40_000, 40_000), None),
        (RequestsBySide(200, 200), "more requests of both sides to prove that less than 10 %"),
        (RequestsBySide(36_200, 40_000), "it cannot be proven that less than 10 % are lost"),
    ],
    ids=["all arrived", "too few", "nine of ten"],
)
def test_promotion_needs_proof_that_few_requests_are_lost(arrived: RequestsBySide, said: str | None) -> None:
    state = make_evidence(GOOD, **(ALL_ARRIVED | {"arrived": arrived}))
    decision = decide(canary_at(step=2, held=HELD, saved_state=state))
    assert (said is None) is (decision.reason == Reason.PROMOTED or trial_of(decision).is_past_ramp)
    assert said is None or said in decision.message


def test_weight_does_not_grow_while_counts_speak_against_the_canary() -> None:
    state = make_evidence(GOOD, **ALL_ARRIVED)
    (metric, *others) = state.metrics
    tests = metric.tests
    (leaf, *leaves) = tests.comparisons
    against = replace(leaf, test=replace(leaf.test, boosted=AGAINST + 0.1 - leaf.test.log_e + leaf.test.boosted))
    speaking = replace(
        state,
        metrics=(replace(metric, tests=replace(tests, leaves=(against, *leaves))), *others),
    )
    assert isinstance(speaking.metrics[0].tests, MetricTests)
    held = decide(canary_at(step=0, held=HELD, saved_state=speaking))
    assert trial_of(held).step == 0
    assert "its weight does not grow" in held.message
    assert "more canary requests" not in held.message
    assert trial_of(decide(canary_at(step=0, held=HELD, saved_state=state))).step == 1


def test_what_is_known_of_lost_requests_survives_a_restart() -> None:
    state = replace(losing(), expected_without_arrival=3.5, canary_arrival_at=NOON, sticky=True)
    assert from_json(to_json(state)) == state
