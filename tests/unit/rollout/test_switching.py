"""Which pods have switched to their document; a revision leaves once all have, and its requests have ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from serin.analysis.counts import MetricReadings, ShownDocument
from serin.api.duration import format_duration
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import PodView, Snapshot, SplitView
from serin.rollout.switching import EVICT_AFTER, is_new_to_pods, pod_to_evict, switch_of
from tests.unit.rollout.cases import (
    ENGINE,
    MINUTE,
    NOON,
    REJECTION,
    A,
    B,
    by_name,
    make_engine,
    make_pods,
    make_record,
    make_route,
    serving,
    weight_of,
)
from tests.unit.rollout.test_shared_engine import PROMPTS

NEW, OLD = "new", "old"
ENGINE_A = ENGINE[A]
OF_A = make_record(A, promotion=1, pod_template=PROMPTS)
REJECTED = make_record(B, engine_revision=ENGINE_A, pod_template=PROMPTS, rejection=REJECTION)


def shows(*digests: str, at: datetime = NOON, refused: bool = False) -> ShownDocument:
    return ShownDocument(frozenset(digests), at, refused)


def leaving(
    shown: dict[str, ShownDocument], in_progress: float | None = 0, *, age: timedelta = MINUTE, **changes: Any
) -> Snapshot:
    """A rejected prompt without weight in the stable's three pods, whose document changed a minute ago."""
    base: dict[str, Any] = {
        "target": REJECTED,
        "records": (OF_A, REJECTED),
        "engines": by_name(make_engine(A, *make_pods(3))),
        "route": make_route({A: 10_000, B: 0}),
        "splits": {ENGINE_A: SplitView(NEW, (A, B), NOON - age)},
        "readings": MetricReadings(
            documents={ENGINE_A: shown}, in_progress={} if in_progress is None else {B: in_progress}
        ),
    }
    return serving(**(base | changes))


ALL = {f"ready-{number}": shows(NEW) for number in range(3)}
ONE_BEHIND = ALL | {"ready-1": shows(OLD)}
HALF_SWITCHED = ALL | {"ready-1": shows(OLD, NEW)}
ONE_UNKNOWN = {name: document for name, document in ALL.items() if name != "ready-1"}
BY_TARGET = {f"10.0.0.{number}:8000": shows(NEW) for number in range(3)}


@pytest.mark.parametrize(
    ("shown", "done", "sentence"),
    [
        pytest.param(ALL, True, "All 3 pods have switched.", id="all"),
        pytest.param(BY_TARGET, True, "All 3 pods have switched.", id="targets without the names of pods"),
        pytest.param(ONE_BEHIND, False, "1 of 3 pods has not switched yet.", id="one behind"),
        pytest.param(HALF_SWITCHED, False, "1 of 3 pods has not switched yet.", id="one of two processes behind"),
        pytest.param(
            ONE_UNKNOWN,
            False,
            "1 of 3 pods has not switched yet; 1 of them without a sample of serin_split_info.",
            id="one unknown",
        ),
        pytest.param(
            {},
            False,
            "It is not known whether the 3 pods have switched: Prometheus has no sample of serin_split_info.",
            id="nothing known",
        ),
        pytest.param(dict(list(BY_TARGET.items())[:2]), False, None, id="fewer targets than pods"),
    ],
)
def test_pod_has_switched_only_if_every_process_shows_the_document(
    shown: dict[str, ShownDocument], *, done: bool, sentence: str | None
) -> None:
    switch = switch_of(leaving(shown), ENGINE_A)
    assert switch.done is done
    assert sentence in {None, switch.sentence}


def test_pods_that_get_no_requests_are_not_waited_for() -> None:
    deleting = PodView("going", ready=True, deleting=True)
    engines = by_name(make_engine(A, *make_pods(3, 1), deleting))
    assert switch_of(leaving(ALL, engines=engines), ENGINE_A).done


def test_nothing_is_known_while_the_document_is_lost() -> None:
    assert not switch_of(leaving(ALL, splits={}), ENGINE_A).done


@pytest.mark.parametrize(
    ("snapshot", "leaves"),
    [
        pytest.param(leaving(ALL), True, id="switched and idle"),
        pytest.param(leaving(ALL, 1), False, id="switched and busy"),
        pytest.param(leaving(ALL, None), False, id="requests unknown"),
        pytest.param(leaving(ALL, 1, age=timedelta(hours=1)), True, id="drain timeout"),
        pytest.param(leaving(ONE_BEHIND, age=timedelta(hours=1)), False, id="one behind after the drain timeout"),
        pytest.param(leaving({}, age=timedelta(hours=1)), False, id="nothing known after the drain timeout"),
    ],
)
def test_revision_leaves_once_its_pods_have_switched_and_its_requests_have_ended(
    snapshot: Snapshot, *, leaves: bool
) -> None:
    decision = decide(snapshot)
    assert (B not in decision.weights) is leaves
    assert weight_of(decision, A) == 10_000
    assert (decision.phase is Phase.ROLLED_BACK) is leaves
    assert (decision.wanted is None) is leaves
    if not leaves:
        assert decision.wanted
        assert (decision.wanted.documents_of, decision.wanted.leaving) == ((ENGINE_A,), (B,))
        assert decision.due_in is not None


def test_headline_says_how_many_pods_have_not_switched() -> None:
    decision = decide(leaving(ONE_BEHIND))
    assert decision.message.startswith("1 of 3 pods has not switched yet. Revision ")
    waits = decide(leaving(ALL, 1))
    timeout = format_duration(leaving(ALL).spec.rollout.drain_timeout)
    assert f"or after rollout.drainTimeout ({timeout})" in waits.message


def test_old_stable_leaves_as_a_promotion_and_an_unwanted_canary_as_a_withdrawal() -> None:
    promoted = make_record(B, engine_revision=ENGINE_A, pod_template=PROMPTS, promotion=2)
    route = make_route({A: 0, B: 10_000})
    decision = decide(leaving(ONE_BEHIND, target=promoted, records=(OF_A, promoted), route=route))
    assert (decision.phase, decision.reason) == (Phase.PROMOTING, Reason.PROMOTING)
    unwanted = replace(REJECTED, rejection=None)
    decision = decide(leaving(ONE_BEHIND, target=OF_A, records=(OF_A, unwanted)))
    assert (decision.phase, decision.reason) == (Phase.ROLLING_BACK, Reason.WITHDRAWING)


LATE = EVICT_AFTER + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("shown", "age", "pod"),
    [
        pytest.param(ONE_BEHIND, LATE, "ready-1", id="late"),
        pytest.param(ONE_BEHIND, EVICT_AFTER - timedelta(seconds=1), None, id="not yet"),
        pytest.param(ONE_UNKNOWN, LATE, None, id="unknown"),
        pytest.param(ALL, LATE, None, id="switched"),
        pytest.param(ALL | {"ready-1": shows(OLD, at=NOON - LATE)}, LATE, None, id="sample from before"),
        pytest.param(BY_TARGET | {"10.0.0.1:8000": shows(OLD)}, LATE, None, id="target without the name of a pod"),
    ],
)
def test_rollback_evicts_only_a_pod_known_to_be_late(
    shown: dict[str, ShownDocument], age: timedelta, pod: str | None
) -> None:
    snapshot = leaving(shown, age=age)
    assert pod_to_evict(snapshot, ENGINE_A) == pod
    assert decide(snapshot).evicted == pod


def test_promotion_evicts_no_pod() -> None:
    promoted = make_record(B, engine_revision=ENGINE_A, pod_template=PROMPTS, promotion=2)
    route = make_route({A: 0, B: 10_000})
    assert decide(leaving(ONE_BEHIND, age=LATE, target=promoted, records=(OF_A, promoted), route=route)).evicted is None


@pytest.mark.parametrize(
    ("revisions", "age", "new"),
    [
        pytest.param((B,), MINUTE, False, id="known"),
        pytest.param((B,), timedelta(seconds=1), True, id="written a moment ago"),
        pytest.param((A,), MINUTE, True, id="not written yet"),
        pytest.param((A, B), timedelta(seconds=1), False, id="pods split themselves"),
    ],
)
def test_revision_is_new_to_pods_until_they_can_have_its_document(
    revisions: tuple[str, ...], age: timedelta, *, new: bool
) -> None:
    snapshot = leaving(ALL, splits={ENGINE_A: SplitView(NEW, revisions, NOON - age)})
    assert is_new_to_pods(snapshot, REJECTED) is new
    assert not is_new_to_pods(replace(snapshot, splits={}), REJECTED)
