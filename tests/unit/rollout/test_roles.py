"""Which revision is the stable, above all when records are damaged; which records are pruned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.roles import closed_trials, find_stable, next_promotion, prunable
from serin.rollout.snapshot import NO_ROUTE, RouteView, Snapshot
from tests.unit.rollout.cases import (
    ENGINE,
    REJECTION,
    STABLE,
    A,
    B,
    C,
    by_name,
    canary_at,
    make_engine,
    make_pods,
    make_record,
    make_route,
    make_spec,
    make_trial,
    serving,
    weight_of,
)

UNANNOTATED = make_record(A)
"""The stable after its annotations were lost."""
REJECTED = canary_at(record={"rejection": REJECTION, "trial": None})


@pytest.mark.parametrize(
    ("records", "route", "expected"),
    [
        pytest.param((), NO_ROUTE, None, id="nothing there"),
        pytest.param((make_record(A),), NO_ROUTE, A, id="nothing is installed over what runs"),
        pytest.param((make_record(C),), NO_ROUTE, None, id="a record that is not the target and does not run"),
        pytest.param((STABLE, make_record(B)), NO_ROUTE, A, id="the promoted one, route or not"),
        pytest.param(
            (STABLE, make_record(B, promotion=2)), make_route({A: 10_000}), B, id="the newest promotion, route or not"
        ),
        pytest.param(
            (make_record(A, promotion=3), make_record(B, promotion=2)),
            make_route({B: 5_000, A: 5_000}),
            A,
            id="promoted again after another",
        ),
        pytest.param((UNANNOTATED, make_record(B)), make_route({A: 9_500, B: 0}), A, id="the route as witness"),
        pytest.param((UNANNOTATED, make_record(B)), make_route({A: 4_000, B: 6_000}), None, id="the one or the other"),
        pytest.param((UNANNOTATED,), make_route({A: 0, B: 10_000}), None, id="no witness for a backend at 0"),
    ],
)
def test_find_stable_from_records_and_route(
    records: tuple[Record, ...], route: RouteView, expected: str | None
) -> None:
    stable = find_stable(serving(records=records, route=route, target=make_record(C, recorded=False)))
    assert (stable.revision if stable else None) == expected
    assert stable is None or stable.promotion is not None


def test_stable_found_by_route_is_recorded_as_promoted() -> None:
    decision = decide(serving(records=(UNANNOTATED,), target=UNANNOTATED))
    assert decision.records == (replace(UNANNOTATED, promotion=1),)


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param(replace(canary_at(), records=(canary_at().records[1],)), id="the stable's record"),
        pytest.param(replace(canary_at(), records=(), target=make_record(B, recorded=False)), id="all records"),
        pytest.param(
            replace(REJECTED, records=REJECTED.records[1:]),
            id="the stable's record, while a rejected canary leaves",
        ),
        pytest.param(
            serving(
                records=(STABLE,),
                target=make_record(C, recorded=False),
                route=make_route({B: 10_000}),
                engines=by_name(make_engine(B, *make_pods(3))),
            ),
            id="the stable's record, an older stable is still recorded",
        ),
        pytest.param(
            serving(
                records=(STABLE,),
                target=None,
                spec_error="PromptVersion p does not exist; create it.",
                spec_reason=Reason.PROMPT_NOT_FOUND,
                route=make_route({B: 10_000}),
                engines=by_name(make_engine(B, *make_pods(3))),
            ),
            id="the stable's record, and the spec cannot be carried out",
        ),
    ],
)
def test_lost_record_moves_neither_traffic_nor_pods(snapshot: Snapshot) -> None:
    """Deleted by hand, or not in the backup: the revision that serves must keep serving."""
    decision = decide(snapshot)
    assert (decision.phase, decision.reason) == (Phase.BLOCKED, Reason.STABLE_RECORD_MISSING)
    assert decision.weights in ({}, snapshot.route.weights)
    assert decision.retired == frozenset()
    assert {e: v.replicas for e, v in snapshot.engines.items()} == decision.engines
    # Recording the target now would make it look as if nothing were missing.
    assert decision.records == ()


def test_target_with_all_traffic_is_stable_without_record() -> None:
    alone = serving(
        records=(STABLE,),
        target=make_record(B, recorded=False),
        route=make_route({B: 10_000}),
        engines=by_name(make_engine(B, *make_pods(3))),
    )
    decision = decide(alone)
    assert decision.phase is Phase.STABLE
    assert decision.weights == {B: 10_000}
    assert decision.engines == {ENGINE[B]: 3}
    assert decision.records == (make_record(B, promotion=2),)


def test_rejected_revision_is_never_installed() -> None:
    rejected = make_record(B, rejection=REJECTION)
    snapshot = serving(
        target=rejected, records=(rejected,), route=NO_ROUTE, engines=by_name(make_engine(B, *make_pods(3)))
    )
    assert weight_of(decide(snapshot), B) == 0


def test_next_promotion_is_one_above_the_highest() -> None:
    assert next_promotion(()) == 1
    assert next_promotion((make_record(A), make_record(B, promotion=4), STABLE)) == 5


def test_trial_closes_when_spec_changes_unless_rejected() -> None:
    running, aborted = make_record(B, trial=make_trial()), make_record(C, trial=make_trial(), rejection=REJECTION)
    snapshot = serving(records=(STABLE, running, aborted))
    assert closed_trials(snapshot, None) == [replace(running, trial=None)]
    assert closed_trials(snapshot, B) == []


def prunable_of(limit: int, spared: set[str], **changes: object) -> frozenset[str]:
    records = tuple(make_record(letter * 10) for letter in "abcdef")
    base: dict[str, object] = {
        "records": records,
        "spec": make_spec(revisionHistoryLimit=limit),
        "route": NO_ROUTE,
        "engines": {},
    }
    return prunable(replace(serving(), **(base | changes)), spared)  # type: ignore[arg-type]


def test_oldest_records_beyond_limit_are_pruned() -> None:
    assert prunable_of(4, set()) == {A, B}
    assert prunable_of(6, set()) == frozenset()
    assert prunable_of(10, set()) == frozenset()


@pytest.mark.parametrize(("limit", "left"), [(19, 19), (20, 20), (21, 20), (100, 20)])
def test_more_than_twenty_old_revisions_are_pruned(limit: int, left: int) -> None:
    records = tuple(make_record(f"a{number:09}", number=number) for number in range(30))
    assert len(records) - len(prunable_of(limit, set(), records=records)) == left


def test_pruning_spares_records_in_use() -> None:
    assert prunable_of(3, {A}) == {B, C}
    assert prunable_of(3, set(), engines=by_name(make_engine(A))) == {B, C}
    assert prunable_of(2, set(), route=make_route({A: 0, B: 10_000})) == {C, "dddddddddd"}
    assert prunable_of(1, {letter * 10 for letter in "abcdef"}) == frozenset()


def test_prompts_of_a_running_engine_are_pruned_but_the_oldest() -> None:
    pods = make_engine(A)
    records = tuple(make_record(letter * 10, engine_revision=pods.engine_revision) for letter in "abcdef")
    assert prunable_of(2, {records[-1].revision}, engines=by_name(pods), records=records) == {B, C}


def test_pruning_spares_record_named_by_current_command() -> None:
    """Without its tokens the same annotation would be carried out once more."""
    assert prunable_of(3, set(), command=parse_command(f"promote@{A}#1")) == {B, C}


def test_weight_shows_the_stable_sooner_than_pods_that_leave() -> None:
    """Right after a promotion, the promoted record loses its annotations; one pod of the old stable is still Ready."""
    snapshot = serving(
        records=(STABLE, make_record(B)),
        target=make_record(B),
        route=make_route({A: 0, B: 10_000}),
        engines=by_name(make_engine(A, *make_pods(1), replicas=3), make_engine(B, *make_pods(3))),
    )
    assert find_stable(snapshot) == make_record(B, promotion=2)
