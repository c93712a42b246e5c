"""Every split has its own epoch, the trial state says since when, and a lost state starts again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from serin.analysis.counts import EPOCHS, Interval, MetricReadings
from serin.analysis.trial_state import Epoch
from serin.evidence.slices import Totals
from serin.rollout.decide import decide
from serin.rollout.snapshot import NO_ROUTE, Snapshot
from tests.unit.rollout.cases import (
    ENGINE,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    STABLE,
    A,
    B,
    by_name,
    canary_at,
    make_engine,
    make_evidence,
    make_pods,
    make_record,
    make_route,
    make_spec,
    serving,
    steps,
    weight_of,
)
from tests.unit.rollout.worlds import REQUESTS, canaries, snapshots

every_world = settings(max_examples=80)
NEXT = canary_at(held=11 * MINUTE, engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(1))))
"""The first step is over: the second weight is due."""


def at_epoch(snapshot: Snapshot, epoch: int | None) -> Snapshot:
    return replace(snapshot, route=replace(snapshot.route, epoch=epoch))


@every_world
@given(snapshots())
def test_changed_split_gets_new_epoch_and_same_split_keeps_it(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    before = snapshot.route.epoch
    assert 0 <= decision.epoch < EPOCHS
    if not decision.weights or before is None:
        return
    if decision.weights != snapshot.route.weights:
        assert decision.epoch == (before + 1) % EPOCHS
    elif decision.trial_state is None:
        assert decision.epoch == before


@every_world
@given(canaries())
def test_canary_gets_requests_only_in_epochs_of_the_trial_state(snapshot: Snapshot) -> None:
    """The evidence is written before the route: it knows of every epoch that the route will stamp."""
    decision = decide(snapshot)
    if decision.trial_state is None or decision.canary is None or not (weight := weight_of(decision, B)):
        return
    begun = decision.trial_state.epochs[decision.epoch]
    if decision.weights != snapshot.route.weights:
        assert begun == Epoch(NOON, weight)


@pytest.mark.parametrize(
    ("now", "then"),
    [(0, 1), (30, 31), (31, 0), (None, 2)],
    ids=["the next", "the last", "around", "no epoch on the route"],
)
def test_epochs_are_used_in_turn(now: int | None, then: int) -> None:
    """Where the route does not say, the one after the newest that the evidence knows."""
    decision = decide(at_epoch(NEXT, now))
    assert decision.trial_state is not None
    assert (decision.epoch, weight_of(decision, B)) == (then, 2_500)
    assert decision.trial_state.epochs[then] == Epoch(NOON, 2_500)


@pytest.mark.parametrize(
    ("in_force", "highest", "then"),
    [
        (1, 33, 34),
        (1, 40, 41),
        (10, 41, 43),
        (1, 30, 34),
        (1, 32, 34),
    ],
    ids=["the next", "a document is ahead", "its epoch is in force", "the highest document is lost", "one is lost"],
)
def test_number_of_a_split_was_never_used(in_force: int, highest: int, then: int) -> None:
    """The trial state knows the epoch 1."""
    route = replace(NEXT.route, epoch=in_force, sequence=highest)
    decision = decide(replace(NEXT, route=route))
    assert decision.sequence == then
    assert decision.epoch == then % 32 != in_force


def test_unchanged_split_has_no_new_number() -> None:
    assert decide(canary_at(held=MINUTE)).sequence is None


def test_unchanged_split_keeps_its_epoch_and_start() -> None:
    snapshot = canary_at(held=MINUTE)
    decision = decide(snapshot)
    assert (decision.epoch, decision.trial_state) == (1, snapshot.saved_state)


@pytest.mark.parametrize("epoch", [None, 7], ids=["taken away", "another one"])
def test_epoch_edited_by_hand_is_replaced_by_a_new_one(epoch: int | None) -> None:
    """Or nothing would be counted any more, and the canary would wait for ever."""
    decision = decide(at_epoch(canary_at(held=MINUTE), epoch))
    assert decision.weights == {A: 9_500, B: 500}
    assert decision.trial_state is not None
    assert decision.trial_state.epochs[decision.epoch] == Epoch(NOON, 500)
    assert decision.epoch != epoch


def test_reused_epoch_value_closes_its_old_stratum() -> None:
    """Two requests of each side wait for a third; under the next meaning of the value they must not meet any."""
    saved = make_evidence(GOOD, epochs={1: Epoch(NOON - HOUR, 500), 2: Epoch(NOON - 2 * HOUR, 500)})
    errors, *others = saved.metrics
    tests = errors.tests.add([Totals(2, 1, 2, 0)], t=300.0, epoch=2, settled=True)
    saved = replace(saved, metrics=(replace(errors, tests=tests), *others))
    before = tests.comparisons[0].test
    assert 2 in before.open
    decision = decide(replace(NEXT, saved_state=saved))
    assert decision.epoch == 2
    assert decision.trial_state is not None
    after = decision.trial_state.metrics[0].tests.comparisons[0].test
    assert 2 not in after.open
    assert after.closed.n1 == before.closed.n1 + 2


def test_nothing_is_counted_while_canary_has_no_weight() -> None:
    """Its pods were lost: the stable's requests alone would be compared with the canary's of another time."""
    lost = canary_at(held=MINUTE, engines=by_name(make_engine(A, *make_pods(3))))
    decision = decide(lost)
    assert decision.trial_state is not None
    assert (weight_of(decision, B), decision.epoch, decision.trial_state.epochs[2]) == (0, 2, Epoch(NOON, 0))
    end = NOON + timedelta(seconds=15)
    grown = {REQUESTS: {(A, 2, "ok"): 1_000, (B, 2, "ok"): 3, (A, 1, "ok"): 20, (B, 1, "ok"): 1}}
    later = replace(
        lost,
        now=end,
        route=make_route(decision.weights, NOON, epoch=2),
        saved_state=decision.trial_state,
        readings=replace(lost.readings, intervals=(Interval(NOON, end, grown),)),
    )
    assert decision.target is not None
    later = replace(later, target=decision.target, records=(STABLE, decision.target))
    seen = decide(later).trial_state
    assert seen is not None
    now, before = (state.metrics[0].tests.totals[0] for state in (seen, decision.trial_state))
    assert (now.n1 - before.n1, now.n0 - before.n0) == (1, 20)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"saved_state": None}, id="lost"),
        pytest.param({"saved_state": make_evidence(GOOD, trial=f"{B}@7")}, id="of another attempt"),
        pytest.param({"saved_state": make_evidence(GOOD, trial=f"{A}@1")}, id="of another revision"),
    ],
)
def test_trial_without_its_state_starts_again(changes: Mapping[str, object]) -> None:
    snapshot = replace(at_epoch(canary_at(2, held=11 * MINUTE), 9), **changes)  # type: ignore[arg-type]
    decision = decide(snapshot)
    assert decision.canary is not None
    trial = decision.canary.trial
    assert trial is not None
    assert (trial.attempt, trial.step, trial.started_at) == (2, 0, NOON)
    assert weight_of(decision, B) == 500, "the first step's weight, not that of the last"
    assert decision.trial_state is not None
    assert (decision.trial_state.trial, decision.trial_state.canary_requests) == (f"{B}@2", 0)
    assert decision.trial_state.epochs == {10: Epoch(NOON, 500)}


def test_state_lost_in_first_step_starts_with_new_epoch() -> None:
    """The split stays; with its old epoch nothing would be counted, and the canary would be held forever."""
    decision = decide(replace(at_epoch(canary_at(), 4), saved_state=None))
    assert decision.weights == {A: 9_500, B: 500}
    assert decision.trial_state is not None
    assert (decision.epoch, decision.trial_state.epochs) == (5, {5: Epoch(NOON, 500)})


@pytest.mark.parametrize(
    "readings",
    [MetricReadings(error="Prometheus is down."), MetricReadings()],
    ids=["no metrics", "no baseline"],
)
def test_canary_with_lost_state_gets_no_traffic_until_measurable(readings: MetricReadings) -> None:
    decision = decide(replace(canary_at(2, held=MINUTE), saved_state=None, readings=readings))
    assert (decision.trial_state, weight_of(decision, B)) == (None, 0)
    assert decision.wanted is not None
    assert (decision.wanted.read_until, decision.wanted.baseline_of) == (None, A)


def test_first_install_has_no_trial_state() -> None:
    new = make_record(A, recorded=False)
    decision = decide(serving(target=new, records=(), engines={}, route=NO_ROUTE))
    assert (decision.trial_state, decision.epoch) == (None, 0)


def test_rollback_saves_trial_state_and_changes_epoch() -> None:
    saved = make_evidence({A: GOOD[A], B: replace(GOOD[B], bad=300)})
    decision = decide(canary_at(saved_state=saved))
    assert decision.weights == {A: 10_000, B: 0}
    assert (decision.epoch, decision.engines[ENGINE[A]]) == (2, 3)
    assert decision.trial_state is not None
    assert decision.trial_state.metrics[0].tests.rolled_back
    quiet = decide(
        replace(
            serving(target=decision.target, spec=make_spec(rollout=steps({"weight": 5}))),
            records=(STABLE, *(r for r in decision.records if r.revision == B)),
            saved_state=decision.trial_state,
            route=make_route({A: 10_000}, epoch=3),
        )
    )
    assert (quiet.trial_state, quiet.epoch) == (None, 3)
