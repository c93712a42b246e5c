"""What holds for every decision, whatever the world looks like; single situations are in the other files."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serin.analysis.counts import MetricReadings
from serin.analysis.trial_state import Epoch
from serin.api.names import FULL_WEIGHT
from serin.api.status import LLMDeploymentStatus
from serin.reporting.conditions import TYPES
from serin.reporting.status import status
from serin.rollout.commands import carry_out
from serin.rollout.decide import decide
from serin.rollout.drain import is_drained
from serin.rollout.phases import Phase
from serin.rollout.ramp import weight_at
from serin.rollout.reasons import Reason
from serin.rollout.roles import find_stable
from serin.rollout.snapshot import PodView, Snapshot
from tests.unit.rollout.cases import (
    BAD,
    ENGINE,
    GOOD,
    MINUTE,
    NOON,
    A,
    B,
    C,
    by_name,
    canary_at,
    make_engine,
    make_evidence,
    make_record,
    make_route,
    make_trial,
    serving,
    weight_of,
)
from tests.unit.rollout.worlds import canaries, snapshots

every_world = settings(max_examples=80)


@every_world
@given(snapshots())
def test_same_snapshot_gives_same_decision(snapshot: Snapshot) -> None:
    assert decide(snapshot) == decide(snapshot)


@every_world
@given(snapshots())
def test_every_decision_is_complete(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    assert not decision.weights or sum(decision.weights.values()) == FULL_WEIGHT
    assert min(decision.weights.values(), default=0) >= 0
    assert min(decision.engines.values(), default=0) >= 0
    assert not decision.retired & decision.engines.keys()
    assert decision.retired | decision.engines.keys() >= snapshot.engines.keys(), (
        "an engine is neither wanted nor deleted"
    )
    assert not decision.forgotten & {r.revision for r in (decision.stable, decision.canary, decision.target) if r}
    assert not decision.forgotten & snapshot.route.weights.keys()
    assert len({r.revision for r in decision.records}) == len(decision.records)
    assert all(r.recorded for r in decision.records)
    assert decision.due_in is None or decision.due_in >= timedelta()
    assert decision.message


@every_world
@given(snapshots())
def test_every_decision_has_a_stable_status(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    reported = status("triage", 1, snapshot, decision, LLMDeploymentStatus())
    assert [condition.type for condition in reported.conditions] == list(TYPES)
    before_it_is_due = NOON + (MINUTE if decision.due_in is None else min(MINUTE, decision.due_in / 2))
    again = status("triage", 1, replace(snapshot, now=before_it_is_due), decision, reported)
    assert again == reported, "the clock alone changed what readers see"


@every_world
@given(snapshots())
def test_only_stable_and_canary_gain_weight(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    may = {r.revision for r in (decision.stable, decision.canary) if r}
    for revision, weight in decision.weights.items():
        assert revision in may or weight <= snapshot.route.weights.get(revision, 0)


@every_world
@given(snapshots())
def test_rejected_revision_never_gains_weight(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    after = {r.revision: r for r in (*snapshot.records, *decision.records)}
    for revision, weight in decision.weights.items():
        record = after.get(revision)
        if record and record.rejection and record.promotion is None:
            assert weight <= snapshot.route.weights.get(revision, 0)


@every_world
@given(canaries(), st.sampled_from(["crash", "fail"]))
def test_crash_or_fail_takes_canary_weight_at_once(snapshot: Snapshot, trouble: str) -> None:
    """Whatever the step, the pause, the route, the pods and the command that stands."""
    assert snapshot.target is not None
    assert snapshot.target.trial is not None
    attempt = snapshot.target.trial.attempt
    if trouble == "crash":
        crashed = PodView("crashed", ready=False, not_ready_since=NOON, crash="OOMKilled", exits=1)
        snapshot = replace(snapshot, engines=dict(snapshot.engines) | by_name(make_engine(B, crashed)))
    else:
        snapshot = replace(snapshot, saved_state=make_evidence(BAD, attempt=attempt))
    decision = decide(snapshot)
    assert weight_of(decision, B) == 0
    assert decision.target is not None
    assert decision.target.rejection is not None
    assert decision.target in decision.records


@every_world
@given(canaries())
def test_canary_weight_never_exceeds_step_or_ready_pods(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    weight = weight_of(decision, B)
    if decision.stable and decision.stable.revision == B:
        return  # promoted
    assert decision.target is not None
    trial = decision.target.trial
    assert weight <= (weight_at(trial) if trial and not decision.target.rejection else 0)
    engine = snapshot.engines.get(ENGINE[B])
    assert weight == 0 or (engine and engine.ready * 10_000 >= snapshot.spec.replicas * weight and engine.ready)


@every_world
@given(snapshots())
def test_pods_that_may_have_requests_are_not_deleted(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    engine_of = {r.revision: r.engine_revision for r in snapshot.records}
    serving_now = {engine_of.get(r) for r in snapshot.route.weights}
    assert not decision.retired & serving_now
    for engine in decision.retired:
        assert is_drained(snapshot, engine, settled=True)


@every_world
@given(snapshots())
def test_only_command_or_finished_ramp_promotes(snapshot: Snapshot) -> None:
    before = {r.revision: r.promotion for r in snapshot.records}
    for record in decide(snapshot).records:
        if record.promotion == before.get(record.revision):
            continue
        stable = find_stable(snapshot)
        installs = stable is None
        witnessed = stable is not None and stable.revision == record.revision
        if installs or witnessed:
            continue
        assert snapshot.target is not None
        target = snapshot.target
        if snapshot.command:
            target, _ = carry_out(snapshot.command, target, stable, NOON)
        assert record.revision == target.revision
        assert target.trial is not None
        assert target.trial.step >= len(target.trial.steps)
        assert not snapshot.spec.paused
        assert snapshot.engines[target.engine_revision].ready >= snapshot.spec.replicas


@every_world
@given(snapshots())
def test_serving_revision_without_record_is_not_replaced(snapshot: Snapshot) -> None:
    unknown = {r for r, w in snapshot.route.weights.items() if w} - {r.revision for r in snapshot.records}
    most = max((snapshot.route.weights[r] for r in unknown), default=0)
    assume(most > FULL_WEIGHT // 2)
    decision = decide(snapshot)
    for revision, weight in decision.weights.items():
        assert weight <= snapshot.route.weights.get(revision, 0)


@pytest.mark.parametrize("revision", [B, C], ids=["an old canary", "a new canary"])
def test_trial_against_another_stable_starts_again(revision: str) -> None:
    snapshot = canary_at(2)
    route = make_route({A: 5_000, revision: 5_000})
    target = replace(make_record(revision), trial=make_trial(step=2, against=C, attempt=3))
    decision = decide(replace(snapshot, target=target, records=(snapshot.records[0], target), route=route))
    assert decision.canary is not None
    trial = decision.canary.trial
    assert trial is not None
    assert (trial.attempt, trial.against, trial.step, trial.started_at) == (4, A, 0, NOON)
    assert weight_of(decision, revision) <= 500


def test_trial_state_starts_with_first_weight() -> None:
    entering = canary_at(route=make_route({A: 10_000, B: 0}), trial={"traffic_since": None, "clock_started_at": None})
    decision = decide(entering)
    assert weight_of(decision, B) == 500
    assert decision.trial_state is not None
    assert (decision.trial_state.since, decision.trial_state.until) == (NOON, NOON)
    assert decision.trial_state.epochs == {decision.epoch: Epoch(NOON, 500)}
    sides = ((B, ENGINE[B]), (A, ENGINE[A]))
    assert decision.wanted is not None
    assert (decision.wanted.read_until, decision.wanted.engine_of) == (NOON, sides)
    assert (decision.wanted.tallies, decision.wanted.baseline_of) == (decision.trial_state.tallies, None)
    absent = decide(replace(entering, route=make_route({A: 10_000})))
    # Watched all the same: a canary that could not be must not get traffic.
    assert (weight_of(absent, B), absent.trial_state) == (0, None)
    assert absent.wanted is not None
    assert (absent.wanted.read_until, absent.wanted.engine_of, absent.wanted.baseline_of) == (None, sides, A)
    assert absent.wanted.tallies
    assert set(absent.wanted.traffic_of) == {record.revision for record in entering.records} >= {A}
    assert absent.wanted.requests in absent.wanted.tallies


def test_canary_gets_no_traffic_before_baseline_is_known() -> None:
    entering = canary_at(route=make_route({A: 10_000, B: 0}), trial={"traffic_since": None}, readings=MetricReadings())
    decision = decide(entering)
    assert (decision.reason, weight_of(decision, B)) == (Reason.AWAITING_BASELINE, 0)


def test_step_clock_runs_only_while_weight_is_served_and_not_paused() -> None:
    running = decide(canary_at(held=MINUTE)).canary
    assert running
    assert running.trial
    assert running.trial.clock_started_at == NOON - MINUTE
    for still in (
        canary_at(held=MINUTE, spec=serving().spec.model_copy(update={"paused": True})),
        canary_at(held=MINUTE, route=make_route({A: 9_500, B: 500}, programmed=False)),
        canary_at(held=MINUTE, route=make_route({A: 9_900, B: 100})),
    ):
        stopped = decide(still).canary
        assert stopped
        assert stopped.trial
        assert (stopped.trial.clock_started_at, stopped.trial.held_before) == (None, MINUTE)


def test_settled_world_asks_for_no_writes() -> None:
    decision = decide(serving())
    assert (decision.phase, decision.records, decision.due_in, decision.wanted) == (Phase.STABLE, (), None, None)
    assert decision.engines == {ENGINE[A]: 3}
    running = decide(canary_at(held=MINUTE, counts=GOOD))
    assert running.records == ()
    assert running.due_in == 9 * MINUTE
