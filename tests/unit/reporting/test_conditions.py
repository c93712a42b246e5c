"""The conditions: the table of the product, row by row, and their messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from serin.analysis.counts import MetricReadings
from serin.api.status import LLMDeploymentStatus
from serin.evidence.slices import Counts
from serin.reporting.conditions import TYPES
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import NO_ROUTE, Snapshot
from tests.unit.reporting.statuses import (
    INSTALLING,
    NO_STATUS,
    NOTHING_COUNTED,
    ROLLED_BACK,
    reason_of,
    status_of,
    statuses,
)
from tests.unit.rollout.cases import (
    BAD,
    BLIND,
    HOUR,
    MINUTE,
    NOON,
    REJECTION,
    STABLE,
    UNSETTLED,
    A,
    B,
    C,
    by_name,
    canary_at,
    in_holdback,
    make_engine,
    make_pods,
    make_record,
    make_route,
    make_spec,
    serving,
    steps,
)

NO_NODE = make_pods(0, 1, NOON - HOUR, unschedulable="0/3 nodes are available.")
WAITING = canary_at(
    engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *NO_NODE)),
    route=make_route({A: 10_000}),
    trial={"step_entered_at": NOON - HOUR, "traffic_since": None, "clock_started_at": None},
    readings=MetricReadings(),
)
MISSING = serving(
    target=None, spec_reason=Reason.PROMPT_NOT_FOUND, spec_error="PromptVersion p does not exist; create it."
)


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
def test_main_conditions_follow_the_table_of_the_product(snapshot: Snapshot, expected: tuple[str, ...]) -> None:
    seen = status_of(snapshot)
    assert tuple(c.type for c in seen.conditions) == TYPES
    assert all(c.observed_generation == 7 and c.reason and c.message for c in seen.conditions)
    assert statuses(seen) == expected


def test_rejected_prompt_on_the_stables_pods_is_one_row_of_the_table() -> None:
    """The pods are the stable's, nothing is tried: row `stable`, or row `rolled back`, but no mixture."""
    sibling = make_record(C, engine_revision=STABLE.engine_revision, rejection=REJECTION)
    seen = status_of(serving(target=sibling, records=(STABLE, sibling)))
    assert statuses(seen) in {("True", "True", "False", "False"), ("True", "False", "False", "True")}


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
            serving(spec_reason=Reason.PROMPT_CONTENT_CHANGED, spec_error="Other content; rename it."), "Accepted",
            ("True", Reason.PROMPT_CONTENT_CHANGED), id="prompt recreated with other content",
        ),
        pytest.param(
            canary_at(route=make_route({A: 10_000}, UNSETTLED, refused="No.", programmed=False)), "RouteProgrammed",
            ("False", Reason.ROUTE_PENDING), id="refused by the gateway right after a change",
        ),
        pytest.param(
            canary_at(route=make_route({A: 10_000}, refused="No.", programmed=False)), "RouteProgrammed",
            ("False", Reason.ROUTE_REFUSED), id="refused by the gateway for long",
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
def test_other_conditions_have_status_and_reason(snapshot: Snapshot, type_: str, expected: tuple[str, str]) -> None:
    condition = next(c for c in status_of(snapshot).conditions if c.type == type_)
    assert (condition.status, condition.reason) == expected


def test_first_install_is_available_once_the_gateway_serves_it() -> None:
    def seen(seconds: float, before: LLMDeploymentStatus = NO_STATUS) -> LLMDeploymentStatus:
        route = replace(make_route({A: 10_000}), changed_at=NOON - timedelta(seconds=seconds))
        return status_of(serving(route=route), before)

    fresh, later = seen(1), seen(4)
    assert (statuses(fresh), reason_of(fresh, "Ready")) == (("False", "False", "True", "False"), Reason.ROUTE_PENDING)
    assert statuses(later) == ("True", "True", "False", "False")
    assert statuses(seen(1, later)) == statuses(later), "a change of the route is no reason to doubt what serves"
    young = replace(make_route({A: 9_500, B: 500}), changed_at=NOON)
    assert statuses(status_of(canary_at(route=young)))[0] == "True", "nor is a status that was lost"


@pytest.mark.parametrize(
    ("counts", "silent"),
    [
        pytest.param({A: Counts(400, 3), B: Counts(0, 0)}, "the canary", id="the canary"),
        pytest.param({A: Counts(0, 0), B: Counts(400, 3)}, "the stable", id="the stable"),
        pytest.param(NOTHING_COUNTED, "the canary or the stable", id="both"),
    ],
)
def test_side_without_requests_is_named(counts: dict[str, Counts], silent: str) -> None:
    condition = next(c for c in status_of(canary_at(counts=counts)).conditions if c.type == "MetricsAvailable")
    assert condition.message == (
        f"Prometheus answers, but no request of {silent} has been counted yet; check that requests arrive and that the "
        "pods are scraped."
    )


def test_transition_time_changes_only_with_the_status() -> None:
    first = status_of(canary_at())
    later = status_of(canary_at(now=NOON + MINUTE, held=MINUTE, spec=make_spec(paused=True)), first)
    times = {c.type: c.last_transition_time for c in later.conditions}
    assert reason_of(later, "Reconciling") == Reason.PAUSED
    assert set(times.values()) == {NOON}
    settled = status_of(replace(serving(), now=NOON + MINUTE), first)
    changed = {c.type for c in settled.conditions if c.last_transition_time == NOON + MINUTE}
    assert changed == {"Reconciling", "MetricsAvailable"}


@pytest.mark.parametrize(
    ("ready", "message"),
    [
        (0, f"No pod of the stable, revision {A}, is Ready; see its pods and their logs."),
        (2, f"The stable, revision {A}, serves. 2 of 3 pods are Ready."),
    ],
)
def test_available_names_the_stable_and_its_ready_pods(ready: int, message: str) -> None:
    seen = status_of(serving(engines=by_name(make_engine(A, *make_pods(ready, 3 - ready)))))
    assert next(c for c in seen.conditions if c.type == "Available").message == message


def test_capacity_message_quotes_the_scheduler() -> None:
    capacity = next(c for c in status_of(WAITING).conditions if c.type == "CapacityAvailable")
    assert capacity.message == "Pods do not start for lack of capacity: 0/3 nodes are available."
