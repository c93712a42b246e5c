"""Patience: deadline, blindness and holdback, and what a person may say about each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Baseline, Interval, MetricReadings
from serin.analysis.presets import Series, measurements
from serin.analysis.trial_state import MetricState
from serin.evidence.slices import Totals
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.ramp import pin_holdback
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot
from tests.unit.rollout.cases import (
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
def test_at_the_deadline_a_sample_that_is_only_late_is_waited_for(policy: str) -> None:
    late = canary_at(2, held=HELD, spec=make_spec(rollout=overdue(policy)), saved_state=read_until(NOON - 20 * MINUTE))
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
def test_due_time_is_the_earliest_whatever_guard_speaks(snapshot: Snapshot, due: timedelta) -> None:
    due_in = decide(snapshot).due_in
    assert due_in is not None
    assert due <= due_in <= due + timedelta(milliseconds=1)


def test_a_holdback_ends_neither_on_old_evidence_nor_on_silence() -> None:
    spec = make_spec(rollout={"holdback": {"weight": 2, "for": "1m"}, "minimumBake": "0s"})
    kept = {"holdback": pin_holdback(spec.rollout.holdback), "in_holdback": True, "step": 3}
    facts = {
        "spec": spec,
        "route": make_route({A: 200, B: 9_800}),
        "engines": by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(3))),
    }
    old = decide(canary_at(2, held=HELD, trial=kept, saved_state=read_until(NOON - 20 * MINUTE), **facts))
    assert old.reason is Reason.AWAITING_EVIDENCE
    silent = decide(canary_at(2, held=HELD, trial=kept | {"counted": GOOD[B].requests}, **facts))
    assert silent.reason is Reason.NO_TRAFFIC
    assert decide(canary_at(2, held=HELD, trial=kept, **facts)).reason is Reason.PROMOTED


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
def test_the_deadline_never_promotes_blind_nor_on_silence(step: int, changes: dict[str, Any], policy: str) -> None:
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


def test_at_the_deadline_a_person_is_asked_unless_the_policy_says_otherwise() -> None:
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


def test_the_deadline_promotes_the_unproven_where_the_policy_says_so() -> None:
    snapshot = canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue("Promote")))
    scaling = decide(snapshot)
    assert (scaling.phase, scaling.reason, trial_of(scaling).forced) == (
        Phase.PROMOTING, Reason.CANARY_SCALING, True,
    )  # fmt: skip
    promoted = decide(replace(snapshot, engines=canary_pods(*make_pods(3))))
    assert (promoted.reason, promoted.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


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
    ],
)
def test_the_deadline_skips_no_step_and_nothing_that_a_person_is_asked_for(snapshot: Snapshot) -> None:
    trial = trial_of(decide(snapshot))
    assert not trial.forced
    assert trial.step < len(trial.steps)


def test_a_deadline_counts_the_time_with_traffic_and_not_a_pause() -> None:
    spec = make_spec(paused=True)
    snapshot = canary_at(2, held=HELD, spec=spec, counts=DOUBTFUL, trial={"exposed_since": NOON - MINUTE})
    for minute in range(0, 3 * 24 * 60, 60):
        decision = decide(replace(snapshot, now=NOON + minute * MINUTE))
        assert decision.canary is not None
        snapshot = replace(snapshot, target=decision.canary, records=(snapshot.records[0], decision.canary))
    assert trial_of(decision).exposed(snapshot.now + 72 * HOUR) == MINUTE
    memory = make_evidence(DOUBTFUL, until=NOON + 72 * HOUR)
    freed = decide(
        replace(snapshot, now=NOON + 72 * HOUR, spec=make_spec(rollout=overdue("Rollback")), saved_state=memory)
    )
    assert (freed.phase, freed.reason) == (Phase.RAMPING, Reason.AWAITING_EVIDENCE)
    assert trial_of(freed).exposed_since == NOON + 72 * HOUR


@pytest.mark.parametrize(
    ("age", "weight", "blinded"), [(9 * MINUTE, 2_500, False), (11 * MINUTE, 0, True)], ids=["for a while", "too long"]
)
def test_blind_for_too_long_takes_the_weight_away(age: timedelta, weight: int, *, blinded: bool) -> None:
    spec = make_spec(analysis={"blindTimeout": "10m"})
    decision = decide(canary_at(1, held=HELD, spec=spec, readings=BLIND, saved_state=read_until(NOON - age)))
    assert (weight_of(decision, B), trial_of(decision).blinded) == (weight, blinded)
    assert decision.reason is (Reason.BLIND if blinded else Reason.METRICS_UNAVAILABLE)
    assert (decision.canary and decision.canary.rejection) is None


def test_when_sight_returns_the_ramp_starts_again_from_its_first_step_and_knows_what_it_knew() -> None:
    blind = {"blinded": True, "step": 2, "clock_started_at": None}
    route = make_route({A: 10_000, B: 0})
    still = decide(canary_at(2, trial=blind, route=route, readings=BLIND, saved_state=read_until(NOON - HOUR)))
    assert (weight_of(still, B), trial_of(still).blinded) == (0, True)
    unasked = decide(canary_at(2, trial=blind, route=route))
    assert trial_of(unasked).blinded, "a source that has not been asked yet has not been seen"
    memory, read = read_until(NOON - MINUTE), MetricReadings(intervals=(Interval(NOON - MINUTE, NOON),))
    seeing = decide(canary_at(2, trial=blind, route=route, saved_state=memory, readings=read))
    trial = trial_of(seeing)
    assert (weight_of(seeing, B), trial.step, trial.blinded, trial.counted) == (500, 0, False, GOOD[B].requests)
    assert seeing.trial_state is not None
    assert seeing.trial_state.canary_requests == GOOD[B].requests


def test_a_person_may_promote_while_nobody_sees() -> None:
    snapshot = canary_at(readings=BLIND, saved_state=read_until(NOON - HOUR), engines=canary_pods(*make_pods(3)))
    decision = decide(replace(snapshot, command=parse_command(f"promote@{B}#1")))
    assert (decision.reason, decision.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


# Holdback ----------------------------------------------------------------------------------------------------------


def test_a_canary_that_has_passed_leaves_the_old_stable_a_little_and_all_its_pods() -> None:
    decision = decide(passed())
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.HOLDBACK)
    assert (trial_of(decision).in_holdback, decision.weights) == (True, {A: 200, B: 9_800})
    assert decision.engines == {ENGINE[A]: 3, ENGINE[B]: 3}
    assert decision.target is not None
    assert decision.target.promotion is None


def test_a_holdback_is_held_for_its_time_and_then_promoted() -> None:
    held = decide(in_holdback(held=59 * MINUTE))
    assert (held.phase, held.reason, held.due_in) == (Phase.PROMOTING, Reason.HOLDBACK, MINUTE)
    assert held.weights == {A: 200, B: 9_800}
    over = decide(in_holdback(held=61 * MINUTE))
    assert (over.reason, over.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})


@pytest.mark.parametrize("policy", ["Pause", "Promote", "Rollback"])
def test_a_deadline_means_nothing_to_a_canary_that_was_proven_in_time(policy: str) -> None:
    spec = make_spec(rollout=overdue(policy) | HOLDBACK)
    blind = decide(in_holdback(held=61 * MINUTE, spec=spec, readings=BLIND))
    assert (blind.reason, blind.target and blind.target.rejection) == (Reason.METRICS_UNAVAILABLE, None)
    assert not trial_of(blind).forced


def test_the_end_of_a_holdback_needs_sight_but_no_second_proof() -> None:
    blind = decide(in_holdback(held=61 * MINUTE, readings=BLIND))
    assert (blind.reason, blind.weights) == (Reason.METRICS_UNAVAILABLE, {A: 200, B: 9_800})
    doubtful = decide(in_holdback(held=61 * MINUTE, counts=DOUBTFUL))
    assert doubtful.reason is Reason.PROMOTED


def test_what_the_deadline_promotes_has_its_holdback_as_well() -> None:
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


def test_a_holdback_does_not_end_in_an_outage_that_both_sides_share() -> None:
    decision = decide(limited(*OUTAGE))
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.AWAITING_EVIDENCE)
    assert decision.weights == {A: 200, B: 9_800}
    assert decision.stalled is None
    assert "the canary is not the cause; nothing is promoted until the stable recovers" in decision.message


def test_a_holdback_does_not_end_while_the_canary_is_above_its_limit_whoever_is_to_blame() -> None:
    decision = decide(limited(*ABOVE))
    assert (decision.reason, decision.weights) == (Reason.AWAITING_EVIDENCE, {A: 200, B: 9_800})
    assert (
        "above the limit of 2 %, but is not known to be worse than the stable; it is not promoted" in decision.message
    )


def test_an_advisory_limit_does_not_keep_a_holdback_from_its_end() -> None:
    assert decide(limited(*ABOVE, mode="Advisory")).reason is Reason.PROMOTED


def test_who_waits_beyond_the_deadline_for_the_end_of_a_holdback_calls_a_person_and_does_not_spin() -> None:
    decision = decide(limited(*OUTAGE, rollout=overdue("Promote")))
    assert (decision.phase, decision.stalled) == (Phase.PROMOTING, Reason.AWAITING_EVIDENCE)
    assert decision.due_in is None or decision.due_in > timedelta()


def test_the_deadline_does_not_promote_who_is_above_a_limit() -> None:
    decision = decide(limited(*ABOVE, rollout=overdue("Promote"), trial={"in_holdback": False}))
    assert (decision.phase, decision.reason) == (Phase.PAUSED, Reason.INCONCLUSIVE)


def test_a_person_who_promotes_skips_the_holdback() -> None:
    before = decide(replace(passed(), command=parse_command(f"promote@{B}#1")))
    within = decide(replace(in_holdback(held=MINUTE), command=parse_command(f"promote@{B}#1")))
    assert (before.reason, within.reason) == (Reason.PROMOTED, Reason.PROMOTED)


def test_a_person_who_skips_ends_the_holdback_and_nothing_else() -> None:
    over = decide(replace(in_holdback(held=MINUTE), command=parse_command(f"skip@{B}#1")))
    assert (over.reason, over.weights) == (Reason.PROMOTED, {A: 0, B: 10_000})
    blind = decide(replace(in_holdback(held=MINUTE, readings=BLIND), command=parse_command(f"skip@{B}#1")))
    assert (blind.reason, trial_of(blind).forced) == (Reason.METRICS_UNAVAILABLE, False)
    failing = decide(replace(in_holdback(held=MINUTE, counts=BAD), command=parse_command(f"skip@{B}#1")))
    assert failing.weights == {A: 10_000, B: 0}


def test_blind_for_too_long_in_the_holdback_gives_everything_back_to_the_old_stable() -> None:
    decision = decide(in_holdback(held=MINUTE, readings=BLIND, saved_state=read_until(NOON - 11 * MINUTE)))
    assert (decision.reason, decision.weights) == (Reason.BLIND, {A: 10_000, B: 0})
    assert decision.engines[ENGINE[A]] == 3
