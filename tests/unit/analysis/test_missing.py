"""Requests of the canary that did not arrive or have not ended: when they are called missing, and what that stops."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Interval
from serin.analysis.missing import missing, off_weight, too_many_in_progress
from serin.analysis.presets import DEFAULT_SERIES, arrivals, requests
from serin.analysis.trial_state import Epoch, TrialState, begin_epoch
from serin.analysis.update import advance
from serin.api.status import LLMDeploymentStatus
from serin.evidence.slices import RequestsBySide
from serin.reporting.events import transition_events
from serin.reporting.status import status
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.unit.rollout.cases import (
    BAD,
    BLIND,
    DOUBTFUL,
    GOOD,
    HELD,
    HOUR,
    MINUTE,
    NOON,
    PAUSES,
    A,
    B,
    canary_at,
    in_holdback,
    make_evidence,
    make_spec,
    overdue,
    trial_of,
    weight_of,
)

SLICE = timedelta(seconds=15)
LOST: dict[str, Any] = {"epochs": {1: Epoch(NOON - HOUR, 500)}, "arrived": RequestsBySide(1_400, 38_000)}
HUNG: dict[str, Any] = {"in_progress": {1: RequestsBySide(90, 40)}, "crowded_since": NOON - MINUTE}
GAP = make_evidence(GOOD, **LOST)
STALLED = make_evidence(GOOD, **HUNG)
MISSING = pytest.mark.parametrize(
    ("memory", "said"),
    [
        (
            GAP,
            "About 600 requests did not arrive at the canary: of 39400 requests 3.55 % arrived there",
        ),
        (STALLED, "90 requests arrived at the canary and have not ended, against 40 at the stable"),
    ],
    ids=["did not arrive", "have not ended"],
)


@MISSING
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"step": 0, "held": HELD}, id="when a step could follow"),
        pytest.param({"step": 0, "held": MINUTE}, id="within a hold"),
        pytest.param({"step": 2, "held": HELD}, id="when the promotion could follow"),
    ],
)
def test_missing_requests_hold_canary_with_message_for_each_kind(
    memory: TrialState, said: str, changes: dict[str, Any]
) -> None:
    snapshot = canary_at(**changes, saved_state=memory)
    decision = decide(snapshot)
    assert (decision.phase, decision.reason) == (Phase.RAMPING, Reason.REQUESTS_MISSING)
    assert said in decision.message
    assert "Check " in decision.message
    assert trial_of(decision).step == changes["step"]
    assert weight_of(decision, B) == snapshot.route.weights[B]
    assert decide(replace(snapshot, saved_state=make_evidence(GOOD))).reason is not Reason.REQUESTS_MISSING


@MISSING
def test_missing_requests_are_a_warning_event(memory: TrialState, said: str) -> None:
    snapshot = canary_at(held=HELD, saved_state=memory)
    after = status("triage", 7, snapshot, decide(snapshot), LLMDeploymentStatus())
    (event,) = transition_events(LLMDeploymentStatus(), after)
    assert (event.reason, event.type) == ("RequestsMissing", "Warning")
    assert said in event.message


@MISSING
def test_holdback_does_not_end_while_requests_are_missing(memory: TrialState, said: str) -> None:
    decision = decide(in_holdback(held=2 * HOUR, saved_state=memory))
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.REQUESTS_MISSING)
    assert said in decision.message


@MISSING
@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
def test_deadline_never_promotes_while_requests_are_missing(memory: TrialState, said: str, policy: str) -> None:
    decision = decide(canary_at(2, held=HELD, spec=make_spec(rollout=overdue(policy)), saved_state=memory))
    assert decision.target is not None
    assert said in decision.message
    if policy == "Rollback":
        assert decision.target.rejection is not None
        assert decision.target.rejection.reason == Reason.INCONCLUSIVE
    else:
        assert (decision.phase, decision.stalled) == (Phase.PAUSED, Reason.INCONCLUSIVE)
        assert not trial_of(decision).forced


@pytest.mark.parametrize("facts", [LOST, HUNG], ids=["did not arrive", "have not ended"])
def test_fail_and_human_promotion_win_over_missing_requests(facts: dict[str, Any]) -> None:
    failed = decide(canary_at(held=HELD, saved_state=make_evidence(BAD, **facts)))
    assert failed.reason is Reason.VERDICT_FAILED
    forced = decide(
        canary_at(held=HELD, saved_state=make_evidence(GOOD, **facts), command=parse_command(f"promote@{B}#1"))
    )
    assert forced.reason is not Reason.REQUESTS_MISSING
    assert trial_of(forced).forced


def test_pause_step_and_unavailable_metrics_precede_missing_requests() -> None:
    paused = decide(canary_at(1, held=MINUTE, spec=make_spec(rollout=PAUSES), saved_state=GAP))
    assert paused.reason is Reason.PAUSED_BY_STEP
    assert decide(canary_at(held=HELD, readings=BLIND, saved_state=GAP)).reason is Reason.METRICS_UNAVAILABLE


@pytest.mark.parametrize(("facts", "weight"), [({}, 2_000), (LOST, 500), (HUNG, 500)], ids=["none", "lost", "hung"])
def test_adaptive_weight_does_not_rise_while_requests_are_missing(facts: dict[str, Any], weight: int) -> None:
    memory = make_evidence(GOOD, **facts)
    closed = (replace(metric, tests=metric.tests.close_epoch(1)) for metric in memory.metrics)
    memory = replace(memory, metrics=tuple(closed))
    snapshot = canary_at(
        spec=make_spec(rollout={"ramp": {"adaptive": {}}}), trial={"weight": 500}, saved_state=memory,
        engines=canary_at(2).engines,
    )  # fmt: skip
    assert trial_of(decide(snapshot)).weight == weight


# When they are called missing --------------------------------------------------------------------------------------


def after(state: TrialState, *progress: dict[tuple[str, int], int] | None) -> TrialState:
    intervals = [
        Interval(NOON + number * SLICE, NOON + (number + 1) * SLICE, in_progress=each)
        for number, each in enumerate(progress)
    ]
    return advance(state, intervals, canary=B, stable=A)


CROWDED = {(B, 1): 90, (A, 1): 40}


def test_requests_in_progress_must_be_too_many_for_four_scrapes() -> None:
    state = make_evidence(GOOD)
    assert missing(after(state, *[CROWDED] * 4)) is None, "three scrapes after it was seen first"
    assert "have not ended" in (missing(after(state, *[CROWDED] * 5)) or "")
    assert missing(after(state, *[CROWDED] * 4, {(B, 1): 2, (A, 1): 40}, CROWDED)) is None, "it was over in between"
    assert missing(after(state, *[CROWDED] * 5, None)) is None, "the counters could not be read"


@pytest.mark.parametrize(
    ("in_progress", "crowded"),
    [
        ({1: (90, 40)}, True),
        ({1: (2, 40)}, False),
        ({1: (6, 40)}, False),
        ({1: (4, 0)}, False),
        ({1: (60, 0)}, True),
        ({1: (150, 1_000)}, False),
        ({1: (400, 1_000)}, True),
        ({1: (0, 1_000), 2: (500, 500)}, False),
        ({1: (50, 950), 2: (500, 500)}, False),
        ({1: (400, 950), 2: (500, 500)}, False),
        ({1: (900, 950), 2: (2_500, 500)}, True),
        ({}, False),
    ],
    ids=[
        *("many", "its share", "thrice its share of few", "nobody has many", "only the canary", "thrice its share"),
        *(
            "eight times",
            "a weight that has just changed",
            "two weights",
            "too many of a small weight, on the whole few",
        ),
        *("too many of both", "nothing"),
    ],
)
def test_requests_in_progress_are_compared_with_weight_of_epoch(
    in_progress: dict[int, tuple[int, int]], *, crowded: bool
) -> None:
    epochs = {1: Epoch(NOON - HOUR, 500), 2: Epoch(NOON - MINUTE, 5_000)}
    by_side = {epoch: RequestsBySide(*each) for epoch, each in in_progress.items()}
    assert too_many_in_progress(by_side, epochs) is crowded


def test_no_requests_are_missing_without_middleware() -> None:
    assert arrivals(DEFAULT_SERIES, measured=False) is None
    assert missing(after(make_evidence(DOUBTFUL), None, None)) is None
    assert missing(None) is None


def test_requests_in_progress_need_arrivals_and_ends() -> None:
    came, went = arrivals(DEFAULT_SERIES, measured=True), requests(DEFAULT_SERIES, measured=True)
    both = make_evidence(GOOD, arrivals=came, ended=went)
    assert both.progress_tallies == (came, went)
    assert {came, went} <= set(both.tallies)
    assert make_evidence(GOOD, arrivals=came).progress_tallies is None, "kept by an earlier version"
    wanted = decide(canary_at(held=MINUTE, saved_state=both)).wanted
    assert wanted is not None
    assert wanted.in_progress == (came, went)


def test_arrivals_of_earlier_epochs_count_with_their_own_weights() -> None:
    tally = arrivals(DEFAULT_SERIES, measured=True)
    assert tally
    state = make_evidence(
        GOOD, arrivals=tally, epochs={1: Epoch(NOON - 10 * MINUTE, 500)}, arrived=RequestsBySide(300, 9_500)
    )
    state = begin_epoch(state, 2, 5_000, NOON)
    late = Interval(NOON, NOON + SLICE, {tally: {(B, 1, ""): 7, (A, 1, ""): 100, (B, 2, ""): 70, (A, 2, ""): 100}})
    state = advance(state, [late], canary=B, stable=A)
    assert state.arrived == RequestsBySide(70, 100)
    assert state.arrived_before == {1: RequestsBySide(307, 9_600)}
    assert off_weight(state) is None, "one side may not have shown the end of the epoch before"
    known = replace(state, until=NOON + MINUTE)
    found = off_weight(known)
    assert found
    assert (found.canary, found.stable, found.weight) == (307, 9_600, 0.05)
    whole = off_weight(replace(known, until=NOON + HOUR, arrived=RequestsBySide(280, 430), newest_arrivals=()))
    assert whole
    assert (whole.canary, whole.stable) == (587, 10_030)
    alone = off_weight(replace(known, until=NOON + HOUR, arrived=RequestsBySide(7_000, 10_000), newest_arrivals=()))
    assert alone
    assert (alone.canary, alone.stable) == (7_000, 10_000)
    assert begin_epoch(state, 1, 900, NOON + MINUTE).arrived_before == {2: RequestsBySide(70, 100)}, (
        "the ring has come round"
    )
