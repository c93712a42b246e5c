"""Deadline, unavailable metrics and holdback, and the commands that end each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Baseline, Interval, MetricReadings
from serin.analysis.presets import Series, measurements
from serin.analysis.trial_state import MetricState
from serin.analysis.verdict import Verdict
from serin.evidence.slices import Totals
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.ramp import pin_holdback
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot
from tests.unit.rollout.cases import (
    AGAINST,
    BAD,
    BLIND,
    DOUBTFUL,
    ENGINE,
    FEW,
    GOOD,
    HELD,
    HOLDBACK,
    HOUR,
    MINUTE,
    NOON,
    NOTHING,
    PAUSES,
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
    passed,
    read_until,
    trial_of,
    weight_of,
)


@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
def test_late_sample_at_deadline_is_waited_for(policy: str) -> None:
    """Later than usual, but not for so long that the clocks must be checked: the deadline has no say yet."""
    late = canary_at(2, held=HELD, spec=make_spec(rollout=overdue(policy)), saved_state=read_until(NOON - 4 * MINUTE))
    decision = decide(late)
    assert (decision.phase, decision.reason, decision.stalled) == (Phase.RAMPING, Reason.AWAITING_EVIDENCE, None)


@pytest.mark.parametrize(
    ("snapshot", "due"),
    [
        pytest.param(
            canary_at(
                2, held=HELD, spec=make_spec(rollout={"deadline": "2h"}), saved_state=read_until(NOON - 20 * MINUTE)
            ),
            HOUR, id="the deadline, while a sample is waited for",
        ),
        pytest.param(
            canary_at(held=MINUTE, spec=make_spec(rollout={"deadline": "65m"})), 5 * MINUTE,
            id="the deadline, in a hold",
        ),
        pytest.param(
            canary_at(2, held=HELD, counts=FEW, spec=make_spec(rollout={"minimumBake": "61m"})), MINUTE,
            id="minimumBake, while a proof is missing",
        ),
        pytest.param(
            canary_at(held=MINUTE, readings=BLIND, saved_state=read_until(NOON - 9 * MINUTE)), MINUTE,
            id="blindTimeout, in a hold",
        ),
        pytest.param(
            canary_at(1, held=MINUTE, spec=make_spec(rollout=PAUSES), readings=BLIND, saved_state=read_until(NOON)),
            10 * MINUTE, id="blindTimeout, in a pause for a person",
        ),
        pytest.param(
            canary_at(spec=make_spec(paused=True), readings=BLIND, saved_state=read_until(NOON)), 10 * MINUTE,
            id="blindTimeout, in a paused spec",
        ),
    ],
)  # fmt: skip
def test_due_time_is_the_earliest_under_every_finding(snapshot: Snapshot, due: timedelta) -> None:
    due_in = decide(snapshot).due_in
    assert due_in is not None
    assert due <= due_in <= due + timedelta(milliseconds=1)


def test_counts_that_stay_too_old_leave_the_decision_to_the_deadline() -> None:
    """Prometheus answers and its counts stay 20 minutes old: a proven canary is not held for ever."""
    facts = {"held": HELD, "saved_state": read_until(NOON - 20 * MINUTE)}
    waiting = decide(canary_at(**facts))
    assert (waiting.reason, waiting.stalled) == (Reason.AWAITING_EVIDENCE, None)
    assert "although Prometheus answers; check its clock" in waiting.message
    spec = make_spec(rollout={"deadline": "1m"})
    late = decide(canary_at(**facts, spec=spec))
    assert late.reason is Reason.INCONCLUSIVE


def test_usual_age_of_counts_includes_late_samples_and_skew() -> None:
    readings = MetricReadings(late=timedelta(minutes=21))
    decision = decide(canary_at(held=HELD, saved_state=read_until(NOON - 20 * MINUTE), readings=readings))
    assert "although Prometheus answers" not in decision.message


@pytest.mark.parametrize(("share", "requests", "held"), [(0.9, 100, True), (0.4, 100, False), (0.9, 19, False)])
def test_gateway_that_drops_the_epoch_keeps_the_canary_at_zero(share: float, requests: float, held: bool) -> None:  # noqa: FBT001
    baseline = Baseline(NOON, 10.0, without_epoch=share, stable_requests=requests)
    route = make_route({A: 10_000, B: 0})
    decision = decide(
        canary_at(
            trial={"traffic_since": None}, saved_state=None, route=route, readings=MetricReadings(baseline=baseline)
        )
    )
    said = "The gateway drops the header x-serin-epoch: 90 % of the stable's requests" in decision.message
    assert said is held
    assert (decision.weights or route.weights).get(B, 0) == (0 if held else 500)


def test_holdback_does_not_end_on_old_samples_or_without_requests() -> None:
    spec = make_spec(rollout={"holdback": {"weight": 2, "for": "1m"}, "minimumBake": "0s"})
    begun = {"holdback": pin_holdback(spec.rollout.holdback), "in_holdback": True, "step": 3}
    facts = {
        "spec": spec,
        "route": make_route({A: 200, B: 9_800}),
        "engines": by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(3))),
    }
    old = decide(canary_at(2, held=HELD, trial=begun, saved_state=read_until(NOON - 20 * MINUTE), **facts))
    assert old.reason is Reason.AWAITING_EVIDENCE
    silent = decide(canary_at(2, held=HELD, trial=begun | {"counted": GOOD[B].requests}, **facts))
    assert silent.reason is Reason.NO_TRAFFIC
    assert decide(canary_at(2, held=HELD, trial=begun, **facts)).reason is Reason.PROMOTED


@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
@pytest.mark.parametrize(
    ("step", "changes"),
    [
        pytest.param(2, {"readings": BLIND}, id="blind"),
        pytest.param(2, {"saved_state": make_evidence(DOUBTFUL, expected_without_sample=25.0)}, id="silent by now"),
        pytest.param(2, {"counts": NOTHING}, id="silent all the time"),
        pytest.param(0, {"counts": NOTHING}, id="silent in the first step"),
    ],
)
def test_deadline_never_promotes_without_metrics_or_requests(step: int, changes: dict[str, Any], policy: str) -> None:
    decision = decide(canary_at(step, held=HELD, spec=make_spec(rollout=overdue(policy)), **changes))
    assert decision.target is not None
    rejected = decision.target.rejection is not None
    # Whoever cannot see does not condemn, either.
    assert rejected == (policy == "Rollback" and changes.get("readings") is not BLIND)
    if not rejected:
        assert (decision.phase, decision.reason, decision.stalled) == (
            Phase.PAUSED, Reason.INCONCLUSIVE, Reason.INCONCLUSIVE,
        )  # fmt: skip
        assert not trial_of(decision).forced


def test_inconclusive_canary_at_deadline_follows_policy() -> None:
    snapshot = canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue("Pause")))
    decision = decide(snapshot)
    assert (decision.phase, decision.reason, decision.stalled) == (
        Phase.PAUSED, Reason.INCONCLUSIVE, Reason.INCONCLUSIVE,
    )  # fmt: skip
    assert "needs about" in decision.message
    assert (weight_of(decision, B), decision.canary and decision.canary.rejection) == (5_000, None)
    proof = decide(replace(snapshot, saved_state=make_evidence(GOOD)))
    assert (proof.phase, proof.reason) == (Phase.PROMOTING, Reason.CANARY_SCALING), (
        "proof that comes later still counts"
    )
    fail = decide(replace(snapshot, saved_state=make_evidence(BAD)))
    assert fail.target is not None
    assert fail.target.rejection is not None


def test_deadline_promotes_unproven_canary_with_policy_promote() -> None:
    snapshot = canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue("Promote")))
    scaling = decide(snapshot)
    assert (scaling.phase, scaling.reason, trial_of(scaling).forced) == (
        Phase.PROMOTING, Reason.CANARY_SCALING, True,
    )  # fmt: skip
    promoted = decide(replace(snapshot, engines=canary_pods(*make_pods(3))))
    assert (promoted.reason, promoted.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


@pytest.mark.parametrize(("policy", "rejected"), [("Pause", False), ("Promote", False), ("Rollback", True)])
@pytest.mark.parametrize("step", [0, 2])
def test_deadline_never_promotes_while_counts_speak_against_canary(step: int, policy: str, *, rejected: bool) -> None:
    decision = decide(canary_at(step, held=HELD, counts=AGAINST, spec=make_spec(rollout=overdue(policy))))
    assert decision.target is not None
    assert (decision.target.rejection is not None, decision.weights.get(B, 0) > 0) == (rejected, not rejected)
    if not rejected:
        trial = trial_of(decision)
        assert (decision.phase, decision.stalled) == (Phase.PAUSED, Reason.INCONCLUSIVE)
        assert (trial.forced, trial.step) == (False, step)
        assert "errors: the counts speak against the canary" in decision.message


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param(canary_at(held=MINUTE, spec=make_spec(rollout=overdue("Promote"))), id="a hold that is not over"),
        pytest.param(
            canary_at(1, held=HELD, spec=make_spec(rollout=PAUSES | overdue("Promote"))), id="a pause for a person"
        ),
        pytest.param(
            canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(paused=True, rollout=overdue("Promote"))),
            id="a paused spec",
        ),
        pytest.param(canary_at(held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue("Promote"))), id="a step"),
        pytest.param(
            canary_at(held=HELD, counts=AGAINST, spec=make_spec(rollout=overdue("Promote"))),
            id="a step in which counts speak against the canary",
        ),
    ],
)
def test_deadline_skips_no_step_and_no_pause(snapshot: Snapshot) -> None:
    trial = trial_of(decide(snapshot))
    assert not trial.forced
    assert trial.step < len(trial.steps)


def test_deadline_counts_time_with_traffic_without_pauses() -> None:
    spec = make_spec(paused=True)
    snapshot = canary_at(2, held=HELD, spec=spec, counts=DOUBTFUL, trial={"exposed_since": NOON - MINUTE})
    for minute in range(0, 3 * 24 * 60, 60):
        decision = decide(replace(snapshot, now=NOON + minute * MINUTE))
        assert decision.canary is not None
        snapshot = replace(snapshot, target=decision.canary, records=(snapshot.records[0], decision.canary))
    assert trial_of(decision).exposed(snapshot.now + 72 * HOUR) == MINUTE
    saved = make_evidence(DOUBTFUL, until=NOON + 72 * HOUR)
    freed = decide(
        replace(snapshot, now=NOON + 72 * HOUR, spec=make_spec(rollout=overdue("Rollback")), saved_state=saved)
    )
    assert (freed.phase, freed.reason) == (Phase.RAMPING, Reason.AWAITING_EVIDENCE)
    assert trial_of(freed).exposed_since == NOON + 72 * HOUR


@pytest.mark.parametrize(
    ("age", "weight", "blinded"), [(9 * MINUTE, 2_500, False), (11 * MINUTE, 0, True)], ids=["for a while", "too long"]
)
def test_canary_loses_weight_after_blind_timeout(age: timedelta, weight: int, *, blinded: bool) -> None:
    spec = make_spec(analysis={"blindTimeout": "10m"})
    decision = decide(canary_at(1, held=HELD, spec=spec, readings=BLIND, saved_state=read_until(NOON - age)))
    assert (weight_of(decision, B), trial_of(decision).blinded) == (weight, blinded)
    assert decision.reason is (Reason.BLIND if blinded else Reason.METRICS_UNAVAILABLE)
    assert (decision.canary and decision.canary.rejection) is None


def test_ramp_restarts_with_its_counts_when_metrics_return() -> None:
    blind = {"blinded": True, "step": 2, "clock_started_at": None}
    route = make_route({A: 10_000, B: 0})
    still = decide(canary_at(2, trial=blind, route=route, readings=BLIND, saved_state=read_until(NOON - HOUR)))
    assert (weight_of(still, B), trial_of(still).blinded) == (0, True)
    unasked = decide(canary_at(2, trial=blind, route=route))
    assert trial_of(unasked).blinded, "a source that has not been asked yet has not been seen"
    saved, read = read_until(NOON - MINUTE), MetricReadings(intervals=(Interval(NOON - MINUTE, NOON),))
    seeing = decide(canary_at(2, trial=blind, route=route, saved_state=saved, readings=read))
    trial = trial_of(seeing)
    assert (weight_of(seeing, B), trial.step, trial.blinded, trial.counted) == (500, 0, False, GOOD[B].requests)
    assert seeing.trial_state is not None
    assert seeing.trial_state.canary_requests == GOOD[B].requests


def test_person_can_promote_without_metrics() -> None:
    snapshot = canary_at(readings=BLIND, saved_state=read_until(NOON - HOUR), engines=canary_pods(*make_pods(3)))
    decision = decide(replace(snapshot, command=parse_command(f"promote@{B}#1")))
    assert (decision.reason, decision.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


# Holdback ----------------------------------------------------------------------------------------------------------


def test_holdback_does_not_ask_for_requests_of_a_second_proof() -> None:
    decision = decide(in_holdback(held=MINUTE, counts=DOUBTFUL))
    assert decision.reason is Reason.HOLDBACK
    assert decision.judgement is not None
    assert decision.judgement.verdict is Verdict.INCONCLUSIVE
    assert "errors: no second proof is needed: canary 3 bad of 1000" in decision.message
    assert not any("needs about" in text for text in (decision.message, decision.judgement.message))
    assert "needs about" in decide(canary_at(2, held=MINUTE, counts=DOUBTFUL)).message


def test_holdback_leaves_old_stable_its_weight_and_all_pods() -> None:
    decision = decide(passed())
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.HOLDBACK)
    assert (trial_of(decision).in_holdback, decision.weights) == (True, {A: 200, B: 9_800})
    assert decision.engines == {ENGINE[A]: 3, ENGINE[B]: 3}
    assert decision.target is not None
    assert decision.target.promotion is None


def test_holdback_is_held_for_its_time_then_promoted() -> None:
    held = decide(in_holdback(held=59 * MINUTE))
    assert (held.phase, held.reason, held.due_in) == (Phase.PROMOTING, Reason.HOLDBACK, MINUTE)
    assert held.weights == {A: 200, B: 9_800}
    over = decide(in_holdback(held=61 * MINUTE))
    assert (over.reason, over.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
def test_deadline_does_not_apply_in_holdback(policy: str) -> None:
    spec = make_spec(rollout=overdue(policy) | HOLDBACK)
    blind = decide(in_holdback(held=61 * MINUTE, spec=spec, readings=BLIND))
    assert (blind.reason, blind.target and blind.target.rejection) == (Reason.METRICS_UNAVAILABLE, None)
    assert not trial_of(blind).forced


def test_end_of_holdback_needs_metrics_but_no_second_proof() -> None:
    blind = decide(in_holdback(held=61 * MINUTE, readings=BLIND))
    assert (blind.reason, blind.weights) == (Reason.METRICS_UNAVAILABLE, {A: 200, B: 9_800})
    doubtful = decide(in_holdback(held=61 * MINUTE, counts=DOUBTFUL))
    assert doubtful.reason is Reason.PROMOTED


def test_canary_promoted_by_deadline_has_a_holdback() -> None:
    spec = make_spec(rollout=overdue("Promote") | HOLDBACK)
    decision = decide(passed(held=61 * MINUTE, spec=spec, counts=DOUBTFUL))
    assert (decision.reason, trial_of(decision).in_holdback) == (Reason.HOLDBACK, True)


def limited(*counts: tuple[int, int, int, int], mode: str = "Required", **more: Any) -> Snapshot:
    """In a holdback whose time is over, with a limit of 2 %, after a slice of good answers and then these."""
    limit = {"name": "limit", "ceiling": {"of": "errors", "rate": 0.02}, "mode": mode}
    analysis = {"metrics": [{"name": "errors", "preset": "ErrorRate"}, limit]}
    spec = make_spec(rollout=HOLDBACK | more.pop("rollout", {}), analysis=analysis)
    measured = measurements(spec.analysis, Series(), Baseline(NOON, 10.0), measured=True)
    metrics = list(map(MetricState.begin, measured))
    for turn, each in enumerate([(1_500, 1, 10_000, 10), *counts]):
        facts: dict[str, Any] = {"t": 100.0 * (turn + 1), "epoch": 1, "settled": True}
        metrics = [replace(metric, tests=metric.tests.add([Totals(*each)], **facts)) for metric in metrics]
    memory = make_evidence(GOOD, metrics=tuple(metrics))
    return in_holdback(held=61 * MINUTE, spec=spec, saved_state=memory, **more)


OUTAGE = (*([(0, 0, 60, 20)] * 4), *([(900, 280, 20, 7)] * 4))
ABOVE = [(1_300, 120, 1, 0)]
"""Sure to be above the limit, and not to be worse than a stable that gets next to nothing."""


def test_holdback_does_not_end_in_outage_of_both_sides() -> None:
    decision = decide(limited(*OUTAGE))
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.AWAITING_EVIDENCE)
    assert decision.weights == {A: 200, B: 9_800}
    assert decision.stalled is None
    assert "the canary is not the cause; nothing is promoted until the stable recovers" in decision.message


def test_holdback_does_not_end_while_canary_is_above_limit() -> None:
    decision = decide(limited(*ABOVE))
    assert (decision.reason, decision.weights) == (Reason.AWAITING_EVIDENCE, {A: 200, B: 9_800})
    assert (
        "above the limit of 2 %, but is not known to be worse than the stable; it is not promoted" in decision.message
    )


def test_advisory_limit_does_not_hold_the_holdback() -> None:
    assert decide(limited(*ABOVE, mode="Advisory")).reason is Reason.PROMOTED


def test_holdback_past_deadline_stalls_without_requeue_loop() -> None:
    decision = decide(limited(*OUTAGE, rollout=overdue("Promote")))
    assert (decision.phase, decision.stalled) == (Phase.PROMOTING, Reason.AWAITING_EVIDENCE)
    assert decision.due_in is None or decision.due_in > timedelta()


def test_deadline_does_not_promote_canary_above_limit() -> None:
    decision = decide(limited(*ABOVE, rollout=overdue("Promote"), trial={"in_holdback": False}))
    assert (decision.phase, decision.reason) == (Phase.PAUSED, Reason.INCONCLUSIVE)


def test_promote_command_skips_the_holdback() -> None:
    before = decide(replace(passed(), command=parse_command(f"promote@{B}#1")))
    within = decide(replace(in_holdback(held=MINUTE), command=parse_command(f"promote@{B}#1")))
    assert (before.reason, within.reason) == (Reason.PROMOTED, Reason.PROMOTED)


def test_skip_command_ends_only_the_holdback() -> None:
    over = decide(replace(in_holdback(held=MINUTE), command=parse_command(f"skip@{B}#1")))
    assert (over.reason, over.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})
    blind = decide(replace(in_holdback(held=MINUTE, readings=BLIND), command=parse_command(f"skip@{B}#1")))
    assert (blind.reason, trial_of(blind).forced) == (Reason.METRICS_UNAVAILABLE, False)
    failing = decide(replace(in_holdback(held=MINUTE, counts=BAD), command=parse_command(f"skip@{B}#1")))
    assert failing.weights == {A: 10_000, B: 0}


def test_blind_timeout_in_holdback_returns_traffic_to_old_stable() -> None:
    decision = decide(in_holdback(held=MINUTE, readings=BLIND, saved_state=read_until(NOON - 11 * MINUTE)))
    assert (decision.reason, decision.weights) == (Reason.BLIND, {A: 10_000, B: 0})
    assert decision.engines[ENGINE[A]] == 3
