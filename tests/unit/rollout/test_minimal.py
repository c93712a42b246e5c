"""The minimal path: what is decided while something cannot be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import MetricReadings
from serin.rollout import roles
from serin.rollout.decide import decide
from serin.rollout.minimal import assumed_split, newest_promoted, unreadable_stable
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import NO_ROUTE, Fact, RouteView, Snapshot
from tests.unit.rollout.cases import (
    BAD,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    STABLE,
    A,
    B,
    C,
    canary_at,
    make_evidence,
    make_record,
    make_route,
    read_until,
    weight_of,
)
from tests.unit.rollout.worlds import canaries, snapshots

WHY = "list pods is forbidden."
FACTS = [fact for fact in Fact if fact is not Fact.SECRET]


@settings(max_examples=60, deadline=None)
@given(st.one_of(snapshots(), canaries()), st.sets(st.sampled_from(FACTS), min_size=1))
def test_no_weight_grows_and_nothing_is_deleted(seen: Snapshot, facts: set[Fact]) -> None:
    seen = replace(seen, unread=dict.fromkeys(facts, WHY))
    decision, stable = decide(seen), roles.find_stable(seen)
    assert not decision.retired
    assert not decision.forgotten
    assert decision.evicted is None
    assert (decision.phase, decision.reason) == (Phase.BLOCKED, Reason.READ_FAILED)
    assert WHY in decision.message or decision.target is None or decision.target.rejection
    if sum(seen.route.weights.values()) != 10_000:
        return  # edited by hand: any split is new
    rises = {r for r, weight in decision.weights.items() if weight > seen.route.weights.get(r, 0)}
    rejected = {r.revision for r in seen.records if r.rejection}
    assert not rises & rejected or (stable is not None and rises == {stable.revision})
    canary = decision.canary.revision if decision.canary else None
    assert canary not in rises


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact not in {Fact.STATE, Fact.RECORDS}])
def test_bad_canary_is_rejected_whatever_else_is_unread(fact: Fact) -> None:
    decision = decide(canary_at(counts=BAD, unread={fact: WHY}))
    assert weight_of(decision, B) == 0
    assert decision.target
    assert decision.target.rejection
    assert WHY in decision.message
    assert "rolled back" in decision.message


@pytest.mark.parametrize("fact", FACTS)
def test_good_canary_keeps_its_weight(fact: Fact) -> None:
    before = canary_at(counts=GOOD, engines={} if fact in {Fact.PODS, Fact.DEPLOYMENTS} else canary_at().engines)
    decision = decide(replace(before, unread={fact: WHY}))
    assert decision.weights in ({}, dict(before.route.weights))
    assert decision.stalled is None
    lasting = decide(replace(before, unread={fact: WHY}, unread_since=NOON - MINUTE))
    assert lasting.stalled is Reason.READ_FAILED


def test_unread_state_makes_canary_blind_after_its_time() -> None:
    seen = canary_at(saved_state=None, unread={Fact.STATE: WHY}, unread_since=NOON - 9 * MINUTE)
    assert weight_of(decide(seen), B) == weight_of(decide(canary_at()), B)
    assert decide(seen).due_in == MINUTE + timedelta(milliseconds=1)
    late = decide(replace(seen, unread_since=NOON - 11 * MINUTE))
    assert weight_of(late, B) == 0
    assert Reason.BLIND.explanation in late.message


def test_source_without_newer_samples_is_as_blind_as_none() -> None:
    old = canary_at(saved_state=read_until(NOON - HOUR))
    assert weight_of(decide(old), B) > 0, "the operator may only have been away"
    seen = replace(old, readings=MetricReadings(nothing_new=True))
    assert weight_of(decide(seen), B) == 0
    assert "no newer sample" in decide(seen).message


def test_state_alone_takes_weight_from_bad_canary() -> None:
    seen = canary_at(counts=BAD, records=(), target=None, unread={Fact.RECORDS: WHY})
    assert seen.saved_state
    seen = replace(seen, saved_state=replace(seen.saved_state, against=A))
    assert decide(seen).weights == {A: 10_000, B: 0}
    good = replace(seen, saved_state=replace(make_evidence(GOOD), against=A))
    assert decide(good).weights in ({}, dict(good.route.weights))


def test_split_that_is_not_read_is_that_of_the_trial_state() -> None:
    seen = canary_at()
    assert seen.saved_state
    state = replace(seen.saved_state, against=A)
    assert assumed_split(NO_ROUTE, state, seen.records).weights == dict(seen.route.weights)
    assert assumed_split(NO_ROUTE, None, seen.records).weights == dict(seen.route.weights)
    assert assumed_split(seen.route, replace(state, epochs={}), seen.records) == seen.route
    unpromoted = (replace(seen.records[0], promotion=None), make_record(C, promotion=1), seen.records[1])
    assert assumed_split(NO_ROUTE, None, unpromoted).weights == dict(seen.route.weights), "not an earlier stable"
    promoted = replace(seen.records[1], promotion=2, trial=None)
    assert assumed_split(NO_ROUTE, state, (seen.records[0], promoted)) == NO_ROUTE, "the trial has ended"


def test_unread_fact_hides_no_invalid_spec() -> None:
    seen = canary_at(target=None, spec_error="spec.x: no.", spec_reason=Reason.INVALID_SPEC, unread={Fact.PODS: WHY})
    decision = decide(seen)
    assert weight_of(decision, B) == 0
    assert "spec.x: no." in decision.message
    assert WHY in decision.message


@pytest.mark.parametrize(
    ("numbers", "expected"), [({C: 2}, C), ({C: 0}, None), ({C: 1}, None), ({C: 0, B: 3}, B), ({}, None)]
)
def test_stable_is_unreadable_only_if_its_promotion_is_the_newest(
    numbers: dict[str, int], expected: str | None
) -> None:
    seen = canary_at(unreadable_records=numbers)
    assert unreadable_stable(seen, roles.find_stable(seen)) == expected


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("route", [make_route({A: 7_500, B: 2_500}), make_route({A: 10_000}), NO_ROUTE])
@pytest.mark.parametrize("earlier", [(), (make_record(C, promotion=1),)], ids=["alone", "after another"])
def test_unreadable_stable_is_neither_replaced_nor_deleted(
    number: int, route: RouteView, earlier: tuple[Record, ...]
) -> None:
    """Its promotion may be lost, too, and the route; the earlier stable has no pods."""
    canary = canary_at().records[1]
    seen = canary_at(records=(*earlier, canary), route=route, unreadable_records={A: number})
    decision = decide(seen)
    assert decision.phase is Phase.BLOCKED
    assert not decision.retired
    assert all(revision == A or not weight for revision, weight in decision.weights.items())
    assert decision.engines == {e: v.replicas for e, v in seen.engines.items()}
    stable = roles.find_stable(seen)
    assert stable is None or stable in earlier


def test_revision_with_unreadable_record_is_not_unrecorded() -> None:
    """Its pods run and it gets requests, but it is an old canary: the stable goes on without it."""
    seen = canary_at(records=(STABLE,), target=STABLE, unreadable_records={B: 0})
    decision = decide(seen)
    assert roles.unrecorded(seen, STABLE) == ()
    assert decision.reason is not Reason.STABLE_RECORD_MISSING
    assert weight_of(decision, B) == 0


def test_promoted_record_on_trial_is_not_assumed_to_be_the_stable() -> None:
    """Promoted long ago or not, it is the canary."""
    stable, canary = canary_at().records
    again = replace(canary, promotion=(stable.promotion or 0) + 1)
    assert newest_promoted((stable, again)) == roles.find_stable(canary_at(records=(stable, again))) == stable
