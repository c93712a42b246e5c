"""A trial survives being written, and its clock counts exactly the time in force."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.errors import RecordError
from serin.rollout.trial import Budget, Step, Trial
from tests.unit.rollout.cases import MINUTE, NOON, A, make_trial

moments = st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 hypothesis adds it
spans = st.timedeltas(timedelta(), timedelta(days=60))
trials = st.builds(
    Trial,
    attempt=st.integers(1, 99),
    against=st.just(A),
    steps=st.lists(
        st.builds(Step, weight=st.none() | st.integers(1, 9_999), hold=st.none() | spans, adaptive=st.booleans()),
        min_size=1,
        max_size=32,
    ).map(tuple),
    started_at=moments,
    step=st.integers(0, 32),
    step_entered_at=st.none() | moments,
    held_before=spans,
    clock_started_at=st.none() | moments,
    traffic_since=st.none() | moments,
    counted=st.integers(0, 10**12),
    forced=st.booleans(),
    frozen_at=st.none() | moments,
    budget=st.none()
    | st.builds(Budget, st.none() | st.floats(0.001, 1000), st.integers(1, 9_999), st.none() | st.integers(1, 9_999)),
    weight=st.integers(0, 9_999),
    holdback=st.none() | st.builds(Step, st.integers(1, 9_999), spans),
    in_holdback=st.booleans(),
    blinded=st.booleans(),
    withdrawn_because=st.none() | st.text(),
    exposed_before=spans,
    exposed_since=st.none() | moments,
)
LATER = ("counted", "forced", "frozenAt", "budget", "weight", "holdback", "inHoldback", "blinded", "exposedSeconds")
"""What an annotation of an earlier version has not."""


def changed(**keys: Any) -> str:
    """The annotation of a trial with other values for these keys."""
    return json.dumps(json.loads(make_trial().to_json()) | keys)


@settings(max_examples=200)
@given(trials)
def test_trial_round_trips_through_json(trial: Trial) -> None:
    text = trial.to_json()
    assert "\n" not in text
    assert Trial.from_json(text) == trial


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="an empty object"),
        pytest.param("null", id="null"),
        pytest.param(make_trial().to_json().replace('"attempt":1', '"attempt":"many"'), id="a number that is none"),
        pytest.param(make_trial().to_json().replace("2026-05-04", "yesterday"), id="a time that is none"),
        pytest.param(make_trial().to_json().replace('"steps":[{', '"steps":[3,{'), id="a step that is none"),
        pytest.param(changed(heldSeconds="x"), id="a span that is none"),
        pytest.param(changed(heldSeconds=float("inf")), id="a span without end"),
        pytest.param(changed(heldSeconds=True), id="a span that is true"),
        pytest.param(changed(startedAt="2026-05-04T12:00:00"), id="a time without offset"),
        pytest.param(changed(step=-1), id="a step before the first"),
        pytest.param(changed(steps=[]), id="no steps"),
        pytest.param(changed(budget=[2.0]), id="half a budget"),
        pytest.param(changed(weight=10_001), id="a weight above all traffic"),
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_damaged_trial_raises_record_error_with_remedy(text: str) -> None:
    with pytest.raises(RecordError, match="remove it to start a new trial"):
        Trial.from_json(text)


@given(st.lists(st.tuples(spans, spans), max_size=12))
def test_step_clock_counts_only_time_in_force(turns: list[tuple[timedelta, timedelta]]) -> None:
    trial, now, ran = make_trial(), NOON, timedelta()
    for running, standing in turns:
        trial = trial.with_clock(now, running=True)
        now, ran = now + running, ran + running
        assert trial.held(now) == ran
        trial = Trial.from_json(trial.with_clock(now, running=False).to_json())  # as if the operator had restarted
        now += standing
        assert trial.held(now) == ran


def test_step_clock_in_wanted_state_is_unchanged() -> None:
    standing = make_trial()
    assert standing.with_clock(NOON, running=False) is standing
    running = standing.with_clock(NOON, running=True)
    assert running.with_clock(NOON + MINUTE, running=True) is running


def test_next_step_starts_with_stopped_clock_at_zero() -> None:
    trial = make_trial(traffic_since=NOON).with_clock(NOON, running=True).at_step(1, NOON + MINUTE)
    assert (trial.step, trial.entered_at()) == (1, NOON + MINUTE)
    assert trial.held(NOON + 60 * MINUTE) == timedelta()
    assert trial.traffic_since == NOON


def test_first_step_is_entered_at_start_of_trial() -> None:
    assert make_trial(started_at=NOON).entered_at() == NOON


def test_clock_set_back_keeps_held_time() -> None:
    trial = make_trial(held_before=5 * MINUTE, clock_started_at=NOON)
    earlier = NOON - 180 * MINUTE
    assert trial.held(earlier) == 5 * MINUTE
    assert trial.with_clock(earlier, running=False).held(earlier) == 5 * MINUTE


def test_key_of_newer_version_is_ignored() -> None:
    step = {"weight": 500, "holdSeconds": 60, "shadow": True}
    assert Trial.from_json(changed(shadow={"weight": 5}, steps=[step])) == make_trial(steps=(Step(500, MINUTE),))


def test_trial_without_newer_values_is_written_as_version_0_1_reads_it() -> None:
    """That version reads a budget of two numbers only."""
    trial = make_trial(budget=Budget(2.0, 2_500))
    again = json.loads(replace(trial, budget=Budget(2.0, 2_500, 5_000), withdrawn_because="30 of 90.").to_json())

    written = json.loads(trial.to_json())

    assert (written["budget"], again["budget"]) == ([2.0, 2_500], [2.0, 2_500, 5_000])
    assert set(again) - set(written) == {"withdrawnBecause"}


def test_trial_without_newer_keys_has_their_defaults() -> None:
    trial = make_trial(step=1, traffic_since=NOON)
    written = json.loads(trial.to_json())
    for name in (*LATER, "exposedSince"):
        del written[name]
    for step in written["steps"]:
        step.pop("adaptive", None)
    assert Trial.from_json(json.dumps(written)) == trial


@given(st.lists(st.tuples(spans, spans), max_size=12))
def test_exposure_counts_only_time_with_traffic(turns: list[tuple[timedelta, timedelta]]) -> None:
    trial, now, ran = make_trial(), NOON, timedelta()
    for running, standing in turns:
        trial = trial.with_exposure(now, running=True)
        now, ran = now + running, ran + running
        assert trial.exposed(now) == ran
        trial = Trial.from_json(trial.with_exposure(now, running=False).to_json())
        now += standing
        assert trial.exposed(now) == ran
    assert trial.at_step(1, now).exposed(now) == ran, "a step begins with a clock at zero; exposure goes on"


def test_exposure_clock_in_wanted_state_is_unchanged() -> None:
    standing = make_trial()
    assert standing.with_exposure(NOON, running=False) is standing
    running = standing.with_exposure(NOON, running=True)
    assert running.with_exposure(NOON + MINUTE, running=True) is running
    assert running.exposed(NOON - MINUTE) == timedelta()


def test_next_step_keeps_count_when_new_count_is_unknown() -> None:
    trial = make_trial(counted=7)
    assert (trial.at_step(1, NOON).counted, trial.at_step(1, NOON, 12).counted) == (7, 12)
