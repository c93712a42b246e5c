"""The guards one by one, their order, and the deadline for pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from serin.analysis.counts import MetricReadings
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import EngineView, PodView, Snapshot
from tests.unit.rollout.cases import (
    BAD,
    BLIND,
    DOUBTFUL,
    ENGINE,
    FEW,
    GOOD,
    HELD,
    HOUR,
    MINUTE,
    NOON,
    NOTHING,
    PAUSES,
    TIMED,
    UNSETTLED,
    A,
    B,
    by_name,
    canary_at,
    canary_pods,
    in_holdback,
    make_engine,
    make_evidence,
    make_pods,
    make_route,
    make_spec,
    overdue,
    read_until,
    steps,
    trial_of,
    weight_of,
)

NOT_ARRIVED = make_evidence(GOOD, expected_without_sample=20.0)
CRASHED = PodView("canary-1", ready=False, not_ready_since=NOON - MINUTE, crash="the engine ran out of memory", exits=1)

NO_NODE = {"unschedulable": "0/3 nodes are available."}


ADAPTIVE = {"ramp": {"adaptive": {}}}


def waiting(since: datetime, **facts: Any) -> Snapshot:
    """A trial that began when its pod did, which is not Ready yet."""
    state = {"started_at": since, "step_entered_at": None, "clock_started_at": None, "traffic_since": None}
    base: dict[str, Any] = {"engines": canary_pods(*make_pods(0, 1, since)), "route": make_route({A: 10_000})}
    return canary_at(trial=state, saved_state=None, **({"readings": MetricReadings()} | base | facts))


@pytest.mark.parametrize(
    ("snapshot", "phase", "reason"),
    [
        pytest.param(waiting(NOON - MINUTE), Phase.PREPARING, Reason.CANARY_LOADING, id="loading"),
        pytest.param(
            waiting(NOON - HOUR, engines=canary_pods(*make_pods(0, 1, NOON - HOUR, **NO_NODE))),
            Phase.PREPARING, Reason.WAITING_FOR_CAPACITY, id="no node, however long",
        ),
        pytest.param(
            waiting(NOON - HOUR, engines=canary_pods(replica_failure="exceeded quota", replicas=1)),
            Phase.PREPARING, Reason.WAITING_FOR_CAPACITY, id="no quota, however long",
        ),
        pytest.param(
            canary_at(engines=canary_pods(*make_pods(0, 1))),
            Phase.PREPARING, Reason.CANARY_NOT_READY, id="its pod was lost",
        ),
        pytest.param(
            canary_at(2, engines=canary_pods(*make_pods(1, 1)), route=make_route({A: 7_500, B: 2_500})),
            Phase.PREPARING, Reason.CANARY_SCALING, id="the next weight needs another pod",
        ),
        pytest.param(
            canary_at(spec=make_spec(paused=True)), Phase.PAUSED, Reason.PAUSED, id="paused by the spec"
        ),
        pytest.param(
            canary_at(route=make_route({A: 9_500, B: 500}, refused="No such Gateway.", programmed=False)),
            Phase.PREPARING, Reason.ROUTE_REFUSED, id="the gateway refuses",
        ),
        pytest.param(
            canary_at(route=make_route({A: 9_500, B: 500}, UNSETTLED, refused="BackendNotFound", programmed=False)),
            Phase.RAMPING, Reason.CANARY_ENTERING, id="the gateway does not know a new Service yet",
        ),
        pytest.param(
            canary_at(route=make_route({A: 9_500, B: 500}, UNSETTLED)),
            Phase.RAMPING, Reason.CANARY_ENTERING, id="the weight is not served yet",
        ),
        pytest.param(
            canary_at(1, held=MINUTE, spec=make_spec(rollout=PAUSES)),
            Phase.PAUSED, Reason.PAUSED_BY_STEP, id="a pause for a person",
        ),
        pytest.param(
            canary_at(1, held=MINUTE, spec=make_spec(rollout=TIMED)),
            Phase.PAUSED, Reason.PAUSED_BY_STEP, id="a pause that is not over",
        ),
        pytest.param(canary_at(held=MINUTE), Phase.RAMPING, Reason.CANARY_RUNNING, id="a hold that is not over"),
        pytest.param(
            canary_at(2, held=HELD, counts=FEW), Phase.RAMPING, Reason.AWAITING_EVIDENCE,
            id="the last step, too few requests",
        ),
        pytest.param(
            canary_at(2, held=HELD, counts=DOUBTFUL), Phase.RAMPING, Reason.AWAITING_EVIDENCE,
            id="the last step, in doubt",
        ),
        pytest.param(canary_at(held=HELD, counts=NOTHING), Phase.RAMPING, Reason.NO_TRAFFIC, id="no traffic"),
        pytest.param(
            canary_at(held=HELD, trial={"counted": 1_500}), Phase.RAMPING, Reason.NO_TRAFFIC,
            id="no traffic since the step began",
        ),
        pytest.param(
            canary_at(held=HELD, saved_state=NOT_ARRIVED), Phase.RAMPING, Reason.NO_TRAFFIC,
            id="expected traffic that does not come",
        ),
        pytest.param(
            canary_at(held=MINUTE, saved_state=NOT_ARRIVED), Phase.RAMPING, Reason.NO_TRAFFIC,
            id="expected traffic that does not come, within a hold",
        ),
        pytest.param(
            canary_at(held=MINUTE, saved_state=NOT_ARRIVED, readings=BLIND),
            Phase.RAMPING, Reason.NO_TRAFFIC, id="and Prometheus cannot be asked just now",
        ),
        pytest.param(
            in_holdback(held=MINUTE, saved_state=NOT_ARRIVED), Phase.PROMOTING, Reason.NO_TRAFFIC,
            id="expected traffic that does not come, within the holdback",
        ),
        pytest.param(
            canary_at(held=HELD, readings=BLIND), Phase.RAMPING, Reason.METRICS_UNAVAILABLE, id="metrics unavailable"
        ),
        pytest.param(
            canary_at(held=HELD, saved_state=read_until(NOON - 20 * MINUTE)), Phase.RAMPING, Reason.AWAITING_EVIDENCE,
            id="no sample of the step's own time",
        ),
        pytest.param(
            canary_at(spec=make_spec(rollout=ADAPTIVE), counts=DOUBTFUL, trial={"weight": 2_500}),
            Phase.RAMPING, Reason.AWAITING_EVIDENCE, id="an adaptive weight without proof",
        ),
        pytest.param(
            canary_at(2, held=HELD, spec=make_spec(rollout={"minimumBake": "2h"})), Phase.RAMPING, Reason.BAKING,
            id="proven, but not for long enough",
        ),
    ],
)  # fmt: skip
def test_guard_holds_canary_at_its_weight(snapshot: Snapshot, phase: Phase, reason: Reason) -> None:
    decision = decide(snapshot)
    assert (decision.phase, decision.reason) == (phase, reason)
    assert decision.canary is not None
    assert decision.canary.rejection is None
    assert snapshot.target is not None
    before, after = snapshot.target.trial, decision.canary.trial
    assert before is not None
    assert after is not None
    assert after.step == before.step
    assert weight_of(decision, B) <= snapshot.route.weights.get(B, 0)


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        pytest.param(canary_at(engines=canary_pods(CRASHED)), Reason.CANARY_CRASHED, id="crash"),
        pytest.param(
            canary_at(engines=canary_pods(replace(make_pods(1)[0], exits=3))), Reason.CANARY_CRASHED, id="three exits"
        ),
        pytest.param(
            canary_at(engines=canary_pods(*make_pods(1), CRASHED)), Reason.CANARY_CRASHED, id="crash beside a Ready pod"
        ),
        pytest.param(
            canary_at(engines=canary_pods(CRASHED), spec=make_spec(paused=True)), Reason.CANARY_CRASHED,
            id="crash while paused",
        ),
        pytest.param(canary_at(counts=BAD), Reason.VERDICT_FAILED, id="fail"),
        pytest.param(canary_at(counts=BAD, spec=make_spec(paused=True)), Reason.VERDICT_FAILED, id="fail while paused"),
        pytest.param(
            canary_at(counts=BAD, route=make_route({A: 9_500, B: 500}, UNSETTLED, programmed=False)),
            Reason.VERDICT_FAILED, id="fail before the gateway has confirmed the last change",
        ),
        pytest.param(
            canary_at(counts=BAD, engines=canary_pods(*make_pods(0, 1))), Reason.VERDICT_FAILED,
            id="fail while its pod is away",
        ),
        pytest.param(
            canary_at(1, counts=BAD, spec=make_spec(rollout=PAUSES)), Reason.VERDICT_FAILED, id="fail in a pause step"
        ),
        pytest.param(
            canary_at(counts=BAD, command=parse_command(f"promote@{B}#1")),
            Reason.VERDICT_FAILED,
            id="fail, and a person says promote",
        ),
        pytest.param(canary_at(held=HELD, counts=BAD), Reason.VERDICT_FAILED, id="fail when the hold is over"),
        pytest.param(canary_at(counts=BAD, readings=BLIND), Reason.VERDICT_FAILED, id="fail, then metrics unavailable"),
        pytest.param(in_holdback(counts=BAD), Reason.VERDICT_FAILED, id="fail in the holdback"),
        pytest.param(
            canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue("Rollback"))),
            Reason.INCONCLUSIVE, id="neither proven nor worse at the deadline, and the policy is Rollback",
        ),
        pytest.param(
            canary_at(held=HELD, counts=NOTHING, spec=make_spec(rollout=overdue("Rollback"))),
            Reason.INCONCLUSIVE, id="nothing but silence until the deadline, and the policy is Rollback",
        ),
        pytest.param(waiting(NOON - 31 * MINUTE), Reason.PROGRESS_DEADLINE_EXCEEDED, id="never Ready"),
        pytest.param(canary_at(command=parse_command(f"abort@{B}#1")), Reason.ABORTED, id="a person aborts"),
        pytest.param(
            canary_at(command=parse_command(f"abort@{B}#1"), spec=make_spec(paused=True)),
            Reason.ABORTED,
            id="abort while paused",
        ),
    ],
)  # fmt: skip
def test_rejection_takes_weight_at_once_and_is_recorded(snapshot: Snapshot, reason: Reason) -> None:
    decision = decide(snapshot)
    assert weight_of(decision, B) == 0
    assert weight_of(decision, A) == 10_000
    assert decision.engines[ENGINE[A]] == 3
    assert B in {r.revision for r in decision.records}
    assert decision.target is not None
    assert decision.target.rejection is not None
    assert decision.target.rejection.reason == reason
    assert decision.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    if B in snapshot.route.weights:
        assert (decision.phase, decision.reason) == (Phase.ROLLING_BACK, reason)
        assert ENGINE[B] not in decision.retired, "deleted while it is in the route"


def test_guards_decide_in_their_order() -> None:
    """Each world has all the troubles of the ones after it: the first guard speaks."""
    troubles: list[tuple[Reason, dict[str, Any]]] = [
        (Reason.CANARY_CRASHED, {"engines": canary_pods(CRASHED)}),
        (Reason.VERDICT_FAILED, {"counts": BAD}),
        (Reason.CANARY_NOT_READY, {"engines": canary_pods(*make_pods(0, 1))}),
        (Reason.PAUSED, {"spec": make_spec(paused=True)}),
        (Reason.ROUTE_REFUSED, {"route": make_route({A: 5_000, B: 5_000}, refused="No.", programmed=False)}),
        (Reason.CANARY_ENTERING, {"route": make_route({A: 5_000, B: 5_000}, UNSETTLED)}),
        (Reason.CANARY_RUNNING, {"held": MINUTE}),
        (Reason.METRICS_UNAVAILABLE, {"readings": BLIND}),
        (Reason.AWAITING_EVIDENCE, {"counts": DOUBTFUL}),
        (Reason.BAKING, {"spec": make_spec(rollout={"minimumBake": "2h"}), "held": HELD}),
    ]
    world: dict[str, Any] = {
        "step": 2,
        "engines": canary_pods(*make_pods(2)),
        "route": make_route({A: 5_000, B: 5_000}),
    }
    for reason, trouble in reversed(troubles):
        world |= trouble
        decision = decide(canary_at(**world))
        decided = decision.target.rejection.reason if decision.target and decision.target.rejection else decision.reason
        assert decided == reason


@pytest.mark.parametrize(
    ("snapshot", "step", "weight"),
    [
        pytest.param(canary_at(held=HELD), 1, 2_500, id="to a weight whose pods are there"),
        pytest.param(
            canary_at(held=HELD, counts=DOUBTFUL), 1, 2_500, id="with data of its own and no Fail, proven or not"
        ),
        pytest.param(
            canary_at(held=HELD, counts=FEW, trial={"counted": 9}), 1, 2_500, id="with one request of its own"
        ),
        pytest.param(canary_at(1, held=HELD), 2, 2_500, id="to a weight whose pods are still to come"),
        pytest.param(
            canary_at(1, held=HELD, engines=canary_pods(*make_pods(2))), 2, 5_000, id="to a weight with one pod more"
        ),
        pytest.param(canary_at(held=HELD, spec=make_spec(rollout=PAUSES)), 1, 500, id="to a pause"),
        pytest.param(canary_at(1, held=61 * MINUTE, spec=make_spec(rollout=TIMED)), 2, 500, id="out of a pause"),
        pytest.param(
            canary_at(spec=make_spec(rollout=steps({"weight": 5, "hold": "0s"}, {"weight": 50}))), 1, 500,
            id="at once where nothing is held",
        ),
    ],
)  # fmt: skip
def test_ramp_goes_to_next_step(snapshot: Snapshot, step: int, weight: int) -> None:
    decision = decide(snapshot)
    assert decision.canary is not None
    assert decision.canary.trial is not None
    assert (decision.canary.trial.step, decision.canary.trial.entered_at()) == (step, NOON)
    assert weight_of(decision, B) == weight


def test_promotion_waits_for_all_pods() -> None:
    scaling = decide(canary_at(2, held=HELD))
    assert (scaling.phase, scaling.reason) == (Phase.PROMOTING, Reason.CANARY_SCALING)
    assert (scaling.engines[ENGINE[B]], weight_of(scaling, B)) == (3, 5_000)
    assert scaling.canary is not None
    done = canary_at(2, engines=canary_pods(*make_pods(3)))
    done = replace(done, target=scaling.canary, records=(done.records[0], scaling.canary))
    promoted = decide(done)
    assert (promoted.phase, promoted.reason) == (Phase.PROMOTING, Reason.PROMOTED)
    assert promoted.weights == {A: 0, B: 10_000}
    assert promoted.engines == {ENGINE[A]: 3, ENGINE[B]: 3}
    assert promoted.target is not None
    assert (promoted.target.promotion, promoted.target.trial) == (2, None)


def test_promote_command_waits_for_pods_and_unpaused_spec() -> None:
    loading = decide(canary_at(command=parse_command(f"promote@{B}#1")))
    assert loading.target is not None
    assert loading.target.promotion is None
    frozen = decide(
        canary_at(
            command=parse_command(f"promote@{B}#1"), spec=make_spec(paused=True), engines=canary_pods(*make_pods(3))
        )
    )
    assert frozen.phase is Phase.PAUSED
    assert weight_of(frozen, B) == 500


@pytest.mark.parametrize(
    ("engines", "replicas"),
    [
        pytest.param(canary_pods(*make_pods(1)), 30, id="an autoscaler wants more"),
        pytest.param(canary_pods(PodView("old", ready=True, deleting=True)), 3, id="evicted, no new pod listed yet"),
        pytest.param(canary_pods(replicas=1), 3, id="the quota was freed, no pod listed yet"),
        pytest.param(by_name(make_engine(A, *make_pods(3))), 3, id="the Deployment was deleted by hand"),
    ],
)
@pytest.mark.parametrize("age", [MINUTE, 31 * MINUTE, 48 * HOUR], ids=["young step", "old step", "very old step"])
def test_pods_that_do_not_exist_miss_no_progress_deadline(
    engines: dict[str, EngineView], replicas: int, age: timedelta
) -> None:
    decision = decide(canary_at(held=age, spec=make_spec(replicas=replicas), engines=engines))
    assert decision.canary is not None
    assert decision.phase is Phase.PREPARING
    assert decision.engines[ENGINE[B]] == max(1, replicas // 20 + (replicas % 20 > 0))


def test_progress_deadline_counts_from_longest_waiting_pod_in_step() -> None:
    two = make_pods(0, 1, NOON - 29 * MINUTE) + make_pods(0, 1, NOON - MINUTE)
    assert decide(waiting(NOON - HOUR, engines=canary_pods(*two))).due_in == MINUTE
    entered = waiting(NOON - 10 * MINUTE, engines=canary_pods(*make_pods(0, 1, NOON - HOUR)))
    assert decide(entered).due_in == 20 * MINUTE


def test_missing_capacity_past_deadline_stalls_without_rejection() -> None:
    soon = decide(waiting(NOON - MINUTE, engines=canary_pods(*make_pods(0, 1, NOON - MINUTE, **NO_NODE))))
    late = decide(waiting(NOON - HOUR, engines=canary_pods(*make_pods(0, 1, NOON - HOUR, **NO_NODE))))
    assert (soon.stalled, late.stalled) == (None, Reason.WAITING_FOR_CAPACITY)
    assert late.capacity == "0/3 nodes are available."
    paused = waiting(NOON - HOUR, engines=canary_pods(*make_pods(0, 1, NOON - HOUR, **NO_NODE)))
    assert decide(replace(paused, spec=make_spec(paused=True))).stalled is None


def test_unpaused_canary_is_not_rejected_at_once() -> None:
    """Clocks stop while `spec.paused` is set: the deadline too."""
    snapshot = waiting(NOON - 2 * HOUR)
    for minute in (-119, -60, -1):  # paused for two hours, reconciled now and then
        frozen = decide(replace(snapshot, now=NOON + minute * MINUTE, spec=make_spec(paused=True)))
        assert frozen.canary is not None
        snapshot = replace(snapshot, target=frozen.canary, records=(snapshot.records[0], frozen.canary))
    freed = decide(replace(snapshot, now=NOON))
    assert freed.canary is not None
    assert freed.canary.rejection is None


def test_entered_step_stores_the_count() -> None:
    """So that it ends only with requests of its own."""
    trial = trial_of(decide(canary_at(held=HELD)))
    assert (trial.step, trial.counted) == (1, GOOD[B].requests)


def test_step_entered_by_skip_stores_the_count() -> None:
    decision = decide(replace(canary_at(), command=parse_command(f"skip@{B}#1")))
    assert (trial_of(decision).step, trial_of(decision).counted) == (1, GOOD[B].requests)


def test_more_replicas_lower_canary_weight_to_its_ready_pods() -> None:
    snapshot = canary_at(2, held=MINUTE, spec=make_spec(replicas=4), engines=canary_pods(*make_pods(2)))
    assert weight_of(decide(snapshot), B) == 5_000
    wider = decide(replace(snapshot, spec=make_spec(replicas=5)))
    assert wider.phase is Phase.PREPARING
    assert 5 * weight_of(wider, B) <= 2 * 10_000
