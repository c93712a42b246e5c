"""A canary that shares the stable's pods, because only the prompt differs: the pods blame no revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serin.analysis.presets import DEFAULT_SERIES, arrivals
from serin.analysis.trial_state import Epoch, TrialState
from serin.api.names import CONTAINER, MIDDLEWARE_ARG
from serin.evidence.lost import BEYOND_DOUBT, NOTHING_LOST
from serin.evidence.slices import RequestsBySide
from serin.rollout.decide import decide
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import NO_ROUTE, PodView, Snapshot
from tests.unit.rollout.cases import (
    BAD,
    ENGINE,
    GOOD,
    HELD,
    HOUR,
    MINUTE,
    NOON,
    A,
    B,
    by_name,
    canary_at,
    make_engine,
    make_evidence,
    make_pods,
    make_record,
    make_spec,
    serving,
    trial_of,
    weight_of,
)

CRASHED = PodView("pod", ready=False, not_ready_since=NOON - MINUTE, crash="the engine ran out of memory", exits=1)


def template(*variables: str) -> dict[str, Any]:
    mounts = [{"name": "serin-split", "mountPath": "/etc/serin/split"}]
    env = [{"name": name, "value": "x"} for name in variables]
    return {
        "spec": {
            "containers": [{"name": CONTAINER, "args": [MIDDLEWARE_ARG], "env": env, "volumeMounts": mounts}],
        }
    }


PROMPTS = template("SERIN_SPLIT", "SERIN_PROMPTS")


def shared(step: int = 0, *pods: PodView, **changes: Any) -> Snapshot:
    stable = make_record(A, promotion=1, pod_template=PROMPTS)
    snapshot = canary_at(
        step,
        record={"engine_revision": ENGINE[A], "pod_template": PROMPTS},
        engines=by_name(make_engine(A, *(pods or make_pods(3)), replicas=3)),
        **changes,
    )
    assert snapshot.target
    return serving(**(vars(snapshot) | {"records": (stable, snapshot.target)}))


def test_shared_pods_keep_the_replicas_of_the_stable() -> None:
    for snapshot in (shared(), shared(held=HELD), shared(route=NO_ROUTE), shared(2, held=HELD)):
        assert decide(snapshot).engines == {ENGINE[A]: 3}


def test_crash_of_a_shared_pod_rejects_no_revision() -> None:
    decision = decide(shared(0, *make_pods(2), CRASHED))
    assert decision.canary is not None
    assert decision.canary.rejection is None
    assert (decision.reason, weight_of(decision, B)) != (Reason.CANARY_CRASHED, 0)


def test_missing_pod_does_not_hold_a_prompt() -> None:
    decision = decide(shared(0, *make_pods(1), held=HELD))
    assert (decision.phase, weight_of(decision, B)) == (Phase.RAMPING, 2_500)


def test_bad_prompt_is_rejected_and_its_pods_stay() -> None:
    decision = decide(shared(counts=BAD))
    assert decision.target is not None
    assert decision.target.rejection is not None
    assert (decision.weights, decision.engines, decision.retired) == ({A: 10_000, B: 0}, {ENGINE[A]: 3}, frozenset())


@pytest.mark.parametrize("variables", [(), ("SERIN_SPLIT",), ("SERIN_PROMPTS",)], ids=["none", "split", "no document"])
def test_prompt_is_not_tried_in_pods_that_do_not_apply_it(variables: tuple[str, ...]) -> None:
    stable = make_record(A, promotion=1, pod_template=template(*variables))
    target = make_record(B, engine_revision=ENGINE[A], pod_template=template(*variables), recorded=False)
    decision = decide(serving(target=target, records=(stable,)))
    assert (decision.phase, decision.canary, decision.weights) == (Phase.STABLE, None, {A: 10_000})


def test_backend_of_a_revision_is_its_engine_where_pods_read_a_document() -> None:
    assert make_record(A).resolved.backend == A
    assert make_record(A, pod_template=PROMPTS).resolved.backend == ENGINE[A]
    assert make_record(A, pod_template=PROMPTS).resolved.measures
    assert make_record(A, pod_template={}).resolved.backend == A


# Pods that choose the revision themselves lose no request on the way.


def losing(weight: int, arrived: RequestsBySide) -> TrialState:
    logs = tuple(log + BEYOND_DOUBT for log in NOTHING_LOST.logs)
    return make_evidence(
        GOOD,
        arrivals=arrivals(DEFAULT_SERIES, measured=True),
        epochs={1: Epoch(NOON - HOUR, weight)},
        arrived=arrived,
        lost=replace(NOTHING_LOST, logs=logs, lost=830.0),
    )


def test_prompt_whose_keys_send_few_requests_is_promoted() -> None:
    state = losing(5_000, RequestsBySide(20_000, 60_000))
    assert weight_of(decide(canary_at(2, held=HELD, saved_state=state)), B) == 0, "an engine canary loses its weight"
    decision = decide(shared(2, held=HELD, saved_state=state))
    assert (decision.stalled, weight_of(decision, B)) == (None, 5_000)
    assert trial_of(decision).is_past_ramp


def test_prompt_that_gets_far_more_than_its_weight_is_held() -> None:
    state = replace(losing(500, RequestsBySide(20_000, 60_000)), lost=NOTHING_LOST)
    decision = decide(shared(0, held=HELD, saved_state=state))
    assert (decision.reason, weight_of(decision, B)) == (Reason.SHARE_ABOVE_WEIGHT, 500)
    assert "25 % of 80000 requests reached it, and its weight was 5 %" in decision.message
    assert "a few keys of spec.routing.sticky" in decision.message
    forced = decide(shared(0, held=HELD, saved_state=state, trial={"forced": True}))
    assert forced.reason is not Reason.SHARE_ABOVE_WEIGHT


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        ({}, (False, False)),
        ({"sticky": {"conversation": {}}}, (True, False)),
        ({"gateway": {"parentRefs": [{"name": "llm"}], "sessionPersistence": True}}, (False, True)),
    ],
)
def test_clients_stay_at_one_side_by_what_splits_them(routing: dict[str, Any], expected: tuple[bool, bool]) -> None:
    spec = make_spec(routing={"gateway": {"parentRefs": [{"name": "llm"}]}} | routing)
    begun = [decide(replace(each, saved_state=None)).trial_state for each in (shared(spec=spec), canary_at(spec=spec))]
    assert tuple(state is not None and state.sticky for state in begun) == expected
