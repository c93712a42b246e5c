"""The product's table of conditions, row by row, and what readers see beside them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Baseline, MetricReadings
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.trial_state import MetricState
from serin.api.analysis import Analysis
from serin.api.status import LLMDeploymentStatus
from serin.evidence.slices import Counts
from serin.reporting.caveats import NO_EPOCH, NOT_RANDOM, ONE_POD
from serin.reporting.conditions import TYPES
from serin.reporting.events import announcements
from serin.reporting.status import blocked_status, status
from serin.rollout.decide import decide
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Rejection
from serin.rollout.snapshot import NO_ROUTE, Snapshot
from tests.unit.rollout.cases import (
    BAD,
    BLIND,
    DOUBTFUL,
    FEW,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    REJECTION,
    STABLE,
    A,
    B,
    C,
    by_name,
    canary_at,
    in_holdback,
    make_engine,
    make_evidence,
    make_pods,
    make_record,
    make_route,
    make_spec,
    serving,
    steps,
)

NOTHING = LLMDeploymentStatus()
NOTHING_COUNTED = {A: Counts(0, 0), B: Counts(0, 0)}
UNSEEN = Baseline(NOON, 10.0)
BARE = make_record(A, promotion=1, pod_template={})
NO_NODE = make_pods(0, 1, NOON - HOUR, unschedulable="0/3 nodes are available.")
INSTALLING = serving(
    target=make_record(A), records=(make_record(A),), route=NO_ROUTE, engines=by_name(make_engine(A, *make_pods(1, 2)))
)
WAITING = canary_at(
    engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *NO_NODE)),
    route=make_route({A: 10_000}),
    trial={"step_entered_at": NOON - HOUR, "traffic_since": None, "clock_started_at": None},
    readings=MetricReadings(),
)
REJECTED = make_record(B, rejection=REJECTION)
ROLLED_BACK = serving(target=REJECTED, records=(STABLE, REJECTED))
MISSING = serving(
    target=None, spec_reason=Reason.PROMPT_NOT_FOUND, spec_error="PromptVersion p does not exist; create it."
)


def told(snapshot: Snapshot, before: LLMDeploymentStatus = NOTHING) -> LLMDeploymentStatus:
    return status("triage", 7, snapshot, decide(snapshot), before)


def row(seen: LLMDeploymentStatus) -> tuple[str, ...]:
    return tuple({c.type: c.status for c in seen.conditions}[type_] for type_ in TYPES[:4])


def reason(seen: LLMDeploymentStatus, type_: str) -> str:
    return next(c.reason for c in seen.conditions if c.type == type_)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(INSTALLING, ("False", "False", "True", "False"), id="first install, loading"),
        pytest.param(serving(), ("True", "True", "False", "False"), id="stable"),
        pytest.param(canary_at(), ("True", "True", "True", "False"), id="canary"),
        pytest.param(
            canary_at(2, held=HOUR, engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(3)))),
            ("True", "True", "True", "False"), id="canary about to be promoted",
        ),
        pytest.param(canary_at(spec=make_spec(paused=True)), ("True", "True", "True", "False"), id="paused"),
        pytest.param(
            canary_at(1, spec=make_spec(rollout=steps({"weight": 5}, {"pause": {}}))),
            ("True", "True", "True", "False"), id="paused by a step",
        ),
        pytest.param(WAITING, ("True", "True", "True", "True"), id="waiting for capacity"),
        pytest.param(ROLLED_BACK, ("True", "False", "False", "True"), id="rolled back"),
        pytest.param(MISSING, ("True", "False", "False", "True"), id="missing prompt, the stable serves"),
        pytest.param(
            replace(MISSING, records=(), route=NO_ROUTE, engines={}), ("False", "False", "False", "True"),
            id="missing prompt, nothing serves",
        ),
        pytest.param(
            replace(MISSING, engines=by_name(make_engine(A, *make_pods(0, 3)))), ("False", "False", "False", "True"),
            id="missing prompt, the stable is down",
        ),
        pytest.param(
            serving(engines=by_name(make_engine(A, *make_pods(0, 3)))), ("False", "False", "True", "False"),
            id="stable down",
        ),
        pytest.param(
            serving(engines=by_name(make_engine(A, *make_pods(2, 1)))), ("True", "True", "True", "False"),
            id="stable scaling",
        ),
        pytest.param(
            canary_at(counts=BAD), ("True", "False", "True", "False"), id="being rolled back"
        ),
    ],
)  # fmt: skip
def test_the_table_of_the_product(snapshot: Snapshot, expected: tuple[str, ...]) -> None:
    seen = told(snapshot)
    assert tuple(c.type for c in seen.conditions) == TYPES
    assert all(c.observed_generation == 7 and c.reason and c.message for c in seen.conditions)
    assert row(seen) == expected


def test_a_prompt_that_was_rejected_with_other_pods_does_not_make_the_stable_unready() -> None:
    """The pods are the stable's, nothing is tried: row `stable`, or row `rolled back`, but no mixture."""
    sibling = make_record(C, engine_revision=STABLE.engine_revision, rejection=REJECTION)
    seen = told(serving(target=sibling, records=(STABLE, sibling)))
    assert row(seen) in {("True", "True", "False", "False"), ("True", "False", "False", "True")}


@pytest.mark.parametrize(
    ("snapshot", "type_", "expected"),
    [
        pytest.param(serving(), "Accepted", ("True", Reason.ACCEPTED), id="accepted"),
        pytest.param(MISSING, "Accepted", ("False", Reason.PROMPT_NOT_FOUND), id="prompt missing"),
        pytest.param(
            serving(spec_reason=Reason.PROMPT_SOURCE_MISSING, spec_error="Gone; restore it."), "Accepted",
            ("True", Reason.PROMPT_SOURCE_MISSING), id="prompt deleted later",
        ),
        pytest.param(
            canary_at(route=make_route({A: 10_000}, refused="No.", programmed=False)), "Accepted",
            ("False", Reason.ROUTE_REFUSED), id="refused by the gateway",
        ),
        pytest.param(
            serving(target=make_record(A, promotion=1, prompt_name="p", prompt_hash="h")), "Accepted",
            ("True", Reason.PROMPT_NOT_SERVED), id="a prompt that is not served yet",
        ),
        pytest.param(WAITING, "CapacityAvailable", ("False", Reason.WAITING_FOR_CAPACITY), id="no node"),
        pytest.param(serving(), "CapacityAvailable", ("True", Reason.CAPACITY_AVAILABLE), id="nodes"),
        pytest.param(INSTALLING, "RouteProgrammed", ("Unknown", Reason.NO_ROUTE), id="no route"),
        pytest.param(
            serving(route=make_route({A: 10_000}, programmed=False)), "RouteProgrammed",
            ("False", Reason.ROUTE_PENDING), id="route pending",
        ),
        pytest.param(serving(), "RouteProgrammed", ("True", Reason.ROUTE_PROGRAMMED), id="route programmed"),
        pytest.param(serving(), "MetricsAvailable", ("Unknown", Reason.NO_CANARY), id="nothing to measure"),
        pytest.param(canary_at(), "MetricsAvailable", ("True", Reason.METRICS_AVAILABLE), id="measured"),
        pytest.param(WAITING, "MetricsAvailable", ("Unknown", Reason.AWAITING_EVIDENCE), id="not measured yet"),
        pytest.param(
            canary_at(counts=NOTHING_COUNTED), "MetricsAvailable", ("Unknown", Reason.AWAITING_EVIDENCE),
            id="read, and nothing found",
        ),
        pytest.param(
            in_holdback(), "MetricsAvailable", ("True", Reason.METRICS_AVAILABLE), id="measured in the holdback"
        ),
        pytest.param(
            in_holdback(readings=BLIND), "MetricsAvailable", ("False", Reason.METRICS_UNAVAILABLE),
            id="blind in the holdback",
        ),
        pytest.param(
            canary_at(readings=MetricReadings(error="Prometheus is down.")), "MetricsAvailable",
            ("False", Reason.METRICS_UNAVAILABLE), id="blind",
        ),
    ],
)  # fmt: skip
def test_the_other_conditions(snapshot: Snapshot, type_: str, expected: tuple[str, str]) -> None:
    condition = next(c for c in told(snapshot).conditions if c.type == type_)
    assert (condition.status, condition.reason) == expected


def test_who_waits_for_a_first_install_is_not_told_before_the_gateway_serves_it() -> None:
    def seen(seconds: float, before: LLMDeploymentStatus = NOTHING) -> LLMDeploymentStatus:
        route = replace(make_route({A: 10_000}), changed_at=NOON - timedelta(seconds=seconds))
        return told(serving(route=route), before)

    fresh, later = seen(1), seen(4)
    assert (row(fresh), reason(fresh, "Ready")) == (("False", "False", "True", "False"), Reason.ROUTE_PENDING)
    assert row(later) == ("True", "True", "False", "False")
    assert row(seen(1, later)) == row(later), "a change of the route is no reason to doubt what serves"
    young = replace(make_route({A: 9_500, B: 500}), changed_at=NOON)
    assert row(told(canary_at(route=young)))[0] == "True", "nor is a status that was lost"


@pytest.mark.parametrize(
    ("counts", "silent"),
    [
        pytest.param({A: Counts(400, 3), B: Counts(0, 0)}, "of the canary no", id="the canary"),
        pytest.param({A: Counts(0, 0), B: Counts(400, 3)}, "of the stable no", id="the stable"),
        pytest.param(NOTHING_COUNTED, "of the canary and the stable no", id="both"),
    ],
)
def test_whose_requests_are_missing_is_said(counts: dict[str, Counts], silent: str) -> None:
    condition = next(c for c in told(canary_at(counts=counts)).conditions if c.type == "MetricsAvailable")
    assert condition.message == f"Prometheus answers; {silent} request has been counted yet."


def test_a_transition_time_moves_only_with_the_status() -> None:
    first = told(canary_at())
    later = told(canary_at(now=NOON + MINUTE, held=MINUTE, spec=make_spec(paused=True)), first)
    times = {c.type: c.last_transition_time for c in later.conditions}
    assert reason(later, "Reconciling") == Reason.PAUSED
    assert set(times.values()) == {NOON}
    settled = told(replace(serving(), now=NOON + MINUTE), first)
    changed = {c.type for c in settled.conditions if c.last_transition_time == NOON + MINUTE}
    assert changed == {"Reconciling", "MetricsAvailable"}


@pytest.mark.parametrize(
    ("weight", "text"),
    [(0, "0%"), (1, "0.01%"), (25, "0.25%"), (50, "0.5%"), (500, "5%"), (1_000, "10%"), (3_333, "33.33%")],
)
def test_weights_read_as_percent(weight: int, text: str) -> None:
    seen = told(canary_at(route=make_route({A: 10_000 - weight, B: weight})))
    assert seen.canary is not None
    assert (seen.weight, seen.canary.weight) == (text, text)


@pytest.mark.parametrize(("step", "text"), [(0, "1/3"), (1, "2/3"), (2, "3/3"), (3, "3/3")])
def test_steps_read_as_one_of_so_many(step: int, text: str) -> None:
    snapshot = canary_at(2, trial={"step": step}, held=MINUTE)
    assert told(snapshot).step == text


def test_the_status_of_a_canary_holds_what_the_verdict_rests_on() -> None:
    seen = told(canary_at(counts=GOOD))
    assert seen.canary is not None
    assert seen.stable is not None
    assert (seen.stable.revision, seen.canary.revision, seen.canary.attempt) == (A, B, 1)
    assert (seen.verdict, seen.stable.weight, seen.stable.ready_replicas) == ("Pass", "95%", 3)
    errors, ttft = seen.metrics
    assert errors.canary is not None
    assert errors.stable is not None
    assert (errors.canary.requests, errors.canary.bad) == (1_500, 1)
    assert (errors.stable.requests, errors.stable.bad) == (10_000, 10)
    assert (errors.mode, errors.verdict, errors.evidence, errors.more_requests_needed) == ("Required", "Pass", 0, None)
    assert (ttft.mode, ttft.verdict, ttft.evidence) == ("Advisory", "NotApplicable", 0)
    assert (seen.replicas, seen.ready_replicas, seen.selector) == (4, 4, "serin.dev/deployment=triage")


def test_a_doubtful_metric_says_how_many_requests_it_needs() -> None:
    errors = told(canary_at(2, counts=FEW)).metrics[0]
    assert errors.verdict == "Inconclusive"
    assert errors.message == (
        f"errors: needs about {errors.more_requests_needed} more canary requests to exclude a 1.25-fold rate: "
        "canary 0 bad of 10, stable 0 bad of 200."
    )


def test_after_a_rollback_the_counts_that_it_rests_on_stay() -> None:
    snapshot = canary_at(counts=BAD)
    seen = told(snapshot)
    assert (seen.metrics[0].verdict, seen.metrics[0].evidence) == ("Fail", 100)
    rejected = decide(snapshot).target
    assert rejected is not None
    later = told(serving(target=rejected, records=(STABLE, rejected), saved_state=snapshot.saved_state), seen)
    assert later.metrics == seen.metrics


def test_what_was_seen_last_stays_to_be_read_while_blind() -> None:
    seen = told(canary_at(counts=DOUBTFUL))
    blind = told(canary_at(counts=NOTHING_COUNTED, readings=BLIND), seen)
    assert blind.metrics == seen.metrics


@pytest.mark.parametrize("other", [{"revision": C}, {"attempt": 2}], ids=["another revision", "another attempt"])
def test_what_was_seen_of_another_canary_is_not_shown_while_blind(other: dict[str, Any]) -> None:
    seen = told(canary_at(counts=BAD))
    before = told(canary_at(counts=DOUBTFUL))
    assert before.canary
    before = before.model_copy(update={"metrics": seen.metrics, "canary": before.canary.model_copy(update=other)})
    blind = told(canary_at(counts=NOTHING_COUNTED, readings=BLIND), before)
    assert [metric.verdict for metric in blind.metrics] == ["NotApplicable", "NotApplicable"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        pytest.param({"spec": make_spec(rollout={"ramp": {"adaptive": {}}})}, "adaptive", id="adaptive"),
        pytest.param({"step": 2, "trial": {"step": 3, "in_holdback": True}}, "holdback", id="holdback"),
        pytest.param({"step": 1}, "2/3", id="a step"),
    ],
)
def test_the_step_column_says_which_kind_of_step(changes: dict[str, Any], step: str) -> None:
    seen = told(canary_at(**changes))
    assert seen.canary is not None
    assert (seen.step, seen.canary.step) == (step, step)


ROUTED_BY_HEADER = {"parentRefs": [{"name": "llm"}], "matches": [{"headers": [{"name": "x-team", "value": "a"}]}]}


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(canary_at(), {ONE_POD}, id="one pod"),
        pytest.param(
            canary_at(engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(2)))), set(), id="none"
        ),
        pytest.param(
            canary_at(2, spec=make_spec(routing={"gateway": ROUTED_BY_HEADER})), {NOT_RANDOM}, id="a header chooses"
        ),
        pytest.param(
            canary_at(2, record={"pod_template": {}}), {NO_EPOCH}, id="the canary's pods carry no middleware"
        ),
        pytest.param(
            canary_at(2, records=(BARE, make_record(B))), {NO_EPOCH}, id="the stable's pods carry no middleware"
        ),
    ],
)  # fmt: skip
def test_what_the_comparison_cannot_see_is_said(snapshot: Snapshot, expected: set[str]) -> None:
    seen = told(snapshot)
    assert seen.canary is not None
    assert set(seen.canary.caveats or ()) == expected


def test_what_is_not_read_and_decides_nothing_is_said() -> None:
    seen = told(canary_at(2, readings=MetricReadings(left_out="Prometheus refused a query; check the selector.")))
    assert seen.canary is not None
    assert seen.canary.caveats == (
        "Not read, though nothing is decided by it: Prometheus refused a query; check the selector.",
    )


def test_a_required_metric_that_nobody_shows_is_named_as_soon_as_others_are_seen() -> None:
    """It blocks nothing; so if its selector is misspelt, somebody has to be told."""
    metrics = [{"name": "errors", "preset": "ErrorRate"}, {"name": "typo", "preset": "QueueTime"}]
    pinned = measurements(Analysis.model_validate({"metrics": metrics}), DEFAULT_SERIES, UNSEEN, measured=True)
    for counts, named in ((GOOD, True), (NOTHING_COUNTED, False)):
        errors = replace(make_evidence(counts).metrics[0], measurement=pinned[0])
        metrics = (errors, MetricState.begin(pinned[1]))
        seen = told(canary_at(2, saved_state=make_evidence(counts, metrics=metrics)))
        assert seen.canary is not None
        assert any("typo" in sentence for sentence in seen.canary.caveats or ()) == named


def test_a_rejection_and_a_command_are_shown_and_stay() -> None:
    seen = told(replace(ROLLED_BACK, command=f"promote@{B}#1"))
    assert seen.rejected is not None
    assert (seen.rejected.revision, seen.rejected.at) == (B, REJECTION.at)
    assert seen.last_handled_command is not None
    assert seen.last_handled_command.outcome == Reason.COMMAND_IGNORED
    assert told(ROLLED_BACK, seen).last_handled_command == seen.last_handled_command


def test_long_messages_from_elsewhere_are_clipped_not_refused() -> None:
    endless = replace(REJECTED, rejection=Rejection(Reason.CANARY_CRASHED, "x" * 50_000, NOON))
    seen = told(serving(target=endless, records=(STABLE, endless)))
    assert seen.message is not None
    assert len(seen.message) <= 4_096


def test_a_spec_that_cannot_be_read_says_so_and_leaves_the_rest() -> None:
    first = blocked_status(1, NOON, NOTHING, Reason.INVALID_SPEC, "replicas: too many")
    assert row(first) == ("Unknown", "False", "False", "True")
    assert first.phase == Phase.BLOCKED
    before = told(serving())
    after = blocked_status(8, NOON + MINUTE, before, Reason.INVALID_SPEC, "replicas: too many")
    assert row(after) == ("True", "False", "False", "True")
    assert (after.stable, after.observed_generation) == (before.stable, 8)
    assert "replicas: too many" in str(after.message)
    assert blocked_status(8, NOON + HOUR, after, Reason.INVALID_SPEC, "replicas: too many") == after


def test_one_event_per_transition_and_none_without() -> None:
    running, paused = told(canary_at()), told(canary_at(spec=make_spec(paused=True)))
    assert announcements(running, running) == ()
    (event,) = announcements(running, paused)
    assert (event.reason, event.type, event.action) == (Reason.PAUSED, "Normal", Phase.PAUSED)
    (warning,) = announcements(running, told(canary_at(counts=BAD)))
    assert (warning.reason, warning.type) == (Reason.VERDICT_FAILED, "Warning")
    (missing,) = announcements(running, told(canary_at(saved_state=make_evidence(GOOD, expected_without_sample=20.0))))
    assert (missing.reason, missing.type) == (Reason.NO_TRAFFIC, "Warning")
    (first,) = announcements(NOTHING, told(INSTALLING))
    assert (first.reason, first.type) == (Reason.INSTALLING, "Normal")
    later = canary_at(now=NOON + timedelta(seconds=30), counts={A: GOOD[A], B: GOOD[A]})
    assert announcements(running, told(later, running)) == ()


def test_a_step_and_a_command_are_announced() -> None:
    first, second = told(canary_at()), told(canary_at(1))
    (event,) = announcements(first, second)
    assert "Step 2/3" in event.message
    done = told(canary_at(command=f"skip@{B}#1"), first)
    assert [(e.reason, e.action) for e in announcements(first, done)][-1] == (Reason.COMMAND_DONE, "Command")
    ignored = told(canary_at(command="nonsense"), first)
    (warning,) = announcements(first, ignored)
    assert (warning.reason, warning.type) == (Reason.COMMAND_IGNORED, "Warning")
    assert announcements(ignored, told(canary_at(command="nonsense"), ignored)) == ()


def test_every_phase_has_its_row_in_the_table_and_can_be_left() -> None:
    assert TRANSITIONS.keys() == set(Phase)
    assert all(after - {phase} for phase, after in TRANSITIONS.items())
    reachable, fresh = {Phase.INSTALLING}, {Phase.INSTALLING}
    while fresh:
        fresh = {after for phase in fresh for after in TRANSITIONS[phase]} - reachable
        reachable |= fresh
    assert reachable == set(Phase)
    assert {phase for phase, after in TRANSITIONS.items() if Phase.INSTALLING in after} == {Phase.BLOCKED}


def test_every_reason_is_a_word_with_a_sentence() -> None:
    for each in Reason:
        assert each.isalpha()
        assert each[0].isupper()
        assert each.explanation.endswith(".")


@pytest.mark.parametrize(
    "first", [canary_at(counts=BAD), canary_at(command=f"abort@{B}#1")], ids=["after a Fail", "after an abort"]
)
def test_a_second_try_counts_as_the_second(first: Snapshot) -> None:
    rejected = decide(first).target
    assert rejected is not None
    retried = decide(serving(target=rejected, records=(STABLE, rejected), command=f"retry@{B}#2")).canary
    assert retried is not None
    assert retried.trial is not None
    assert (retried.trial.attempt, retried.trial.step, retried.trial.started_at) == (2, 0, NOON)
