"""The planned writes and their order."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Baseline, InFlight, Interval, MetricReadings
from serin.api.names import child_name
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.controller_revision import render_record
from serin.manifests.evidence_map import render_evidence
from serin.manifests.owner import Owner
from serin.manifests.split_document import engine_of_split, read_split, render_split
from serin.planner import Children, Plan, plan
from serin.rollout.decide import decide
from serin.rollout.record import Record
from serin.rollout.snapshot import Fact, Snapshot
from serin.routers.gateway_api import GatewayApiRouter
from serin.routers.port import Backend
from tests.unit.manifests.samples import make_document
from tests.unit.rollout.cases import (
    BAD,
    ENGINE,
    NOON,
    REJECTION,
    SETTLED,
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
    serving,
)
from tests.unit.rollout.test_shared_engine import PROMPTS
from tests.unit.rollout.worlds import REQUESTS

OWNER = Owner("default", "triage", "0f8f")
ROUTER = GatewayApiRouter()
TEMPLATE = {"metadata": {"labels": {}}, "spec": {"containers": [{"name": "engine", "image": "vllm:test"}]}}


def seen(snapshot: Snapshot) -> Children:
    """The children of a snapshot as the API server returns them."""
    number = 0

    def stored(obj: dict[str, Any]) -> dict[str, Any]:
        nonlocal number
        number += 1
        obj = copy.deepcopy(obj)
        obj["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number)}
        return obj

    by_engine = {r.engine_revision: r for r in reversed(snapshot.records)}
    running = [(by_engine[e], view) for e, view in snapshot.engines.items() if e in by_engine]
    weights = snapshot.route.weights
    return Children(
        records=tuple(stored(render_record(OWNER, r)) for r in snapshot.records),
        deployments=tuple(stored(deployment(OWNER, r.resolved, view.replicas)) for r, view in running),
        budgets=tuple(stored(pod_disruption_budget(OWNER, r.resolved)) for r, _ in running),
        services=tuple(stored(service(OWNER, r.resolved)) for r in snapshot.records if r.revision in weights),
        evidence=stored(render_evidence(OWNER, snapshot.saved_state)) if snapshot.saved_state else None,
        route=stored(ROUTER.render(OWNER, snapshot.spec.routing, legacy(weights), snapshot.route.epoch or 0))
        if weights
        else None,
    )


def legacy(weights: Mapping[str, int]) -> list[Backend]:
    return [Backend(revision, weight, revision) for revision, weight in sorted(weights.items())]


def planned(snapshot: Snapshot, have: Children | None = None) -> Plan:
    return plan(OWNER, ROUTER, snapshot, decide(snapshot), have or seen(snapshot))


def names(objects: tuple[dict[str, Any], ...]) -> list[str]:
    return [f"{obj['kind']}/{obj['metadata']['name'].removeprefix('triage-')}" for obj in objects]


def test_matching_world_needs_no_write() -> None:
    assert planned(serving()) == Plan(withdraws=True)
    assert planned(canary_at()) == Plan(withdraws=True)


def test_canary_record_is_written_before_its_pods() -> None:
    snapshot = serving(target=make_record(B, recorded=False))
    todo = planned(snapshot)
    assert names(todo.apply) == [
        f"ControllerRevision/{B}",
        f"Deployment/{ENGINE[B]}",
        f"PodDisruptionBudget/{ENGINE[B]}",
    ]
    assert todo.delete == ()
    assert todo.apply[1]["spec"]["replicas"] == 1


def test_canary_enters_route_after_service_and_record() -> None:
    ready = serving(
        target=make_record(B, recorded=False),
        engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(1))),
        readings=MetricReadings(baseline=Baseline(NOON, 10.0)),
    )
    todo = planned(ready, seen(replace(ready, engines=serving().engines)))
    kinds = [obj["kind"] for obj in todo.apply]
    assert kinds == ["ControllerRevision", "Deployment", "PodDisruptionBudget", "Service", "HTTPRoute"]


def entering(**changes: Any) -> Snapshot:
    """A canary whose backend is programmed with weight 0, so that its first weight is due."""
    trial = {"traffic_since": None, "clock_started_at": None, "exposed_since": None}
    base: dict[str, Any] = {"trial": trial, "saved_state": None, "route": make_route({A: 10_000, B: 0})}
    return canary_at(**(base | changes))


def test_first_trial_state_is_written_before_the_route() -> None:
    todo = planned(entering())
    assert names(todo.apply) == ["ConfigMap/serin-evidence", f"ControllerRevision/{B}", "HTTPRoute/triage"]
    assert "resourceVersion" not in todo.apply[0]["metadata"]


def test_trial_state_is_written_before_its_consequences() -> None:
    grown = {REQUESTS: {(B, 1, "server_error"): 900, (A, 1, "ok"): 900}}
    slices = tuple(
        Interval(NOON + n * timedelta(seconds=15), NOON + (n + 1) * timedelta(seconds=15), grown) for n in range(3)
    )
    snapshot = canary_at(readings=MetricReadings(intervals=slices))
    have = seen(snapshot)
    todo = planned(snapshot, have)
    assert names(todo.apply) == ["ConfigMap/serin-evidence", f"ControllerRevision/{B}", "HTTPRoute/triage"]
    assert have.evidence is not None
    wanted = {name: have.evidence["metadata"][name] for name in ("uid", "resourceVersion")}
    assert wanted.items() <= todo.apply[0]["metadata"].items(), "a deposed leader would write it"


def test_trial_state_of_a_short_idle_interval_is_not_written() -> None:
    """A short interval without requests is read again later instead of being written."""
    short, long = (
        canary_at(readings=MetricReadings(intervals=(Interval(NOON, NOON + timedelta(seconds=span)),)))
        for span in (15, 31)
    )
    assert names(planned(short).apply) == []
    assert names(planned(long).apply) == ["ConfigMap/serin-evidence"]


def test_rollback_writes_record_before_route_and_deletes_nothing() -> None:
    todo = planned(canary_at(counts=BAD))
    assert names(todo.apply) == ["ConfigMap/serin-evidence", f"ControllerRevision/{B}", "HTTPRoute/triage"]
    assert "serin.dev/rejection" in todo.apply[1]["metadata"]["annotations"]
    weights = {b["name"]: b["weight"] for b in todo.apply[2]["spec"]["rules"][0]["backendRefs"]}
    assert weights == {child_name("triage", A): 10_000, child_name("triage", B): 0}
    assert todo.delete == ()


def test_promotion_writes_record_before_route() -> None:
    engines = by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(3)))
    todo = planned(canary_at(2, trial={"step": 3}, engines=engines))
    assert names(todo.apply) == ["ConfigMap/serin-evidence", f"ControllerRevision/{B}", "HTTPRoute/triage"]
    assert todo.apply[1]["metadata"]["annotations"] == {"serin.dev/promotion": "2"}


def gone(**changes: Any) -> Snapshot:
    """A rejected canary that has left the route and is idle."""
    rejected = make_record(B, rejection=REJECTION)
    base: dict[str, Any] = {
        "target": rejected,
        "records": (STABLE, rejected),
        "engines": by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(1))),
        "readings": MetricReadings(in_flight={ENGINE[B]: InFlight(0, NOON)}),
    }
    return serving(**(base | changes))


def test_drained_deployment_is_deleted_but_not_its_record() -> None:
    snapshot = gone()
    have = seen(replace(snapshot, route=make_route({A: 10_000, B: 0})))
    todo = planned(snapshot, replace(have, route=seen(snapshot).route))
    assert names(todo.delete) == [f"PodDisruptionBudget/{ENGINE[B]}", f"Deployment/{ENGINE[B]}", f"Service/{B}"]
    assert todo.apply == ()


def test_service_is_kept_until_gateway_has_dropped_it() -> None:
    fresh = gone(route=make_route({A: 10_000}, NOON - timedelta(seconds=1)))
    have = replace(seen(replace(fresh, route=make_route({A: 10_000, B: 0}))), route=seen(fresh).route)
    assert planned(fresh, have).delete == ()
    zero = gone(route=make_route({A: 10_000, B: 0}, SETTLED))
    assert planned(zero).delete == ()


def test_what_drains_is_neither_scaled_nor_touched() -> None:
    busy = gone(readings=MetricReadings(in_flight={ENGINE[B]: InFlight(3, NOON)}))
    todo = planned(busy)
    assert names(todo.apply) == []
    assert [n for n in names(todo.delete) if not n.startswith("Service/")] == []


def test_foreign_change_is_reverted() -> None:
    have = seen(canary_at())
    have.deployments[0]["spec"]["replicas"] = 9
    have.route["spec"]["rules"][0]["backendRefs"][0]["weight"] = 1  # type: ignore[index]
    todo = planned(canary_at(), have)
    assert names(todo.apply) == ["HTTPRoute/triage", f"Deployment/{ENGINE[A]}"]


def test_route_update_is_conditional_and_creation_is_not() -> None:
    have = seen(canary_at(counts=BAD))
    assert have.route is not None
    route = planned(canary_at(counts=BAD), have).apply[-1]
    assert route["metadata"]["resourceVersion"] == have.route["metadata"]["resourceVersion"]
    missing = planned(canary_at(), replace(have, route=None)).apply[-1]
    assert missing["kind"] == "HTTPRoute"
    assert "resourceVersion" not in missing["metadata"]


def test_shared_deployment_is_rendered_from_the_older_record() -> None:
    older = make_record(A, promotion=1, pod_template=TEMPLATE)
    younger = make_record(C, engine_revision=ENGINE[A], recorded=False, pod_template=TEMPLATE | {"new": "default"})
    snapshot = serving(records=(older,), target=younger)
    todo = planned(snapshot, replace(seen(snapshot), deployments=()))
    assert names(todo.apply) == [f"ControllerRevision/{C}", f"Deployment/{ENGINE[A]}"]
    assert todo.apply[1]["spec"]["template"] == TEMPLATE


def test_pruned_records_are_deleted_last() -> None:
    old: tuple[Record, ...] = (replace(make_record(B), number=0), make_record(C), STABLE)
    snapshot = serving(records=old, spec=make_spec(revisionHistoryLimit=1))
    assert names(planned(snapshot).delete) == [f"ControllerRevision/{B}"]


def test_no_route_without_stable() -> None:
    snapshot = serving(
        target=make_record(A), records=(make_record(A),), engines={}, route=replace(make_route({}), exists=False)
    )
    todo = planned(snapshot)
    assert names(todo.apply) == [f"Deployment/{ENGINE[A]}", f"PodDisruptionBudget/{ENGINE[A]}"]


def test_what_is_wanted_is_relabelled_and_never_deleted() -> None:
    have = seen(canary_at())
    for obj in (*have.deployments, *have.budgets, *have.services, *have.records, have.evidence):
        assert obj is not None
        obj["metadata"]["labels"] = {"serin.dev/engine-revision": "something", "serin.dev/revision": "something"}
    todo = planned(canary_at(), have)
    assert todo.delete == ()
    assert sorted(names(todo.apply)) == sorted(
        f"{kind}/{name}"
        for kind, owned in {
            "Deployment": (ENGINE[A], ENGINE[B]),
            "PodDisruptionBudget": (ENGINE[A], ENGINE[B]),
            "Service": (A, B),
            "ControllerRevision": (A, B),
            "ConfigMap": ("serin-evidence",),
        }.items()
        for name in owned
    )


def test_relabelled_record_keeps_its_data_as_it_was_written() -> None:
    have = seen(serving())
    have.records[0]["metadata"]["labels"].clear()
    have.records[0]["data"]["ofAnotherVersion"] = "kept"
    (record,) = planned(serving(), have).apply
    assert record["data"] == have.records[0]["data"]
    assert record["metadata"]["annotations"] == have.records[0]["metadata"]["annotations"]
    assert record["metadata"]["resourceVersion"] == have.records[0]["metadata"]["resourceVersion"]


def test_budget_without_its_deployment_is_deleted() -> None:
    have = seen(gone())
    snapshot = gone(engines=by_name(make_engine(A, *make_pods(3))))
    assert names(planned(snapshot, replace(have, deployments=have.deployments[:1])).delete) == [
        f"PodDisruptionBudget/{ENGINE[B]}"
    ]


def test_what_cannot_be_identified_is_left_alone() -> None:
    have = seen(gone())
    for obj in (have.deployments[1], have.budgets[1]):
        obj["metadata"]["name"] = "triage-by-hand"
    other = service(OWNER, make_record(C).resolved)
    other["metadata"] |= {"name": "triage-by-hand", "uid": "u", "resourceVersion": "1"}
    assert planned(gone(), replace(have, services=(*have.services, other))).delete == ()


def test_what_is_wanted_is_not_deleted_even_if_it_counts_as_retired() -> None:
    snapshot = serving()
    decision = replace(decide(snapshot), retired=frozenset({ENGINE[A]}), forgotten=frozenset({A}))
    todo = plan(OWNER, ROUTER, snapshot, replace(decision, records=(STABLE,)), seen(snapshot))
    assert todo.delete == ()


# Split documents.

READS_SPLIT = {
    "spec": {
        "containers": [
            {
                "name": "engine",
                "env": [{"name": "SERIN_SPLIT", "value": "x"}],
                "volumeMounts": [{"name": "serin-split", "mountPath": "/etc/serin/split"}],
            }
        ]
    }
}


def test_document_is_written_before_the_pods_that_mount_it() -> None:
    todo = planned(serving(target=make_record(B, recorded=False, pod_template=READS_SPLIT)))
    assert names(todo.apply) == [
        f"ControllerRevision/{B}",
        f"ConfigMap/{ENGINE[B]}-split",
        f"Deployment/{ENGINE[B]}",
        f"PodDisruptionBudget/{ENGINE[B]}",
    ]


def test_document_is_deleted_when_its_deployment_is_gone() -> None:
    split = render_split(OWNER, ENGINE[B], make_document())
    split["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    for engines, deleted in (
        (gone().engines, [f"PodDisruptionBudget/{ENGINE[B]}", f"Deployment/{ENGINE[B]}"]),
        (serving().engines, [f"ConfigMap/{ENGINE[B]}-split"]),
    ):
        snapshot = gone(engines=engines)
        have = replace(seen(snapshot), splits=(split,))
        assert names(planned(snapshot, have).delete) == deleted


def test_pods_of_a_trial_get_what_they_count_by_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serin.planner.measure_for", lambda _state, *, canary: {"canary": canary})
    snapshot = canary_at(record={"pod_template": READS_SPLIT})
    stable = make_record(A, promotion=1, pod_template=READS_SPLIT)
    assert snapshot.target
    todo = planned(replace(snapshot, records=(stable, snapshot.target)))
    documents = {engine_of_split("triage", obj): read_split(obj) for obj in todo.apply if "split.json" in str(obj)}
    found = {engine: document.measure for engine, document in documents.items() if document}
    assert found == {ENGINE[A]: {"canary": False}, ENGINE[B]: {"canary": True}}


@pytest.mark.parametrize("alike", [True, False])
def test_pods_of_both_sides_count_one_list_of_boundaries(monkeypatch: pytest.MonkeyPatch, *, alike: bool) -> None:
    monkeypatch.setattr("serin.planner.measure_for", lambda _state, *, canary: {"canary": canary and not alike})
    snapshot = canary_at(record={"pod_template": PROMPTS, "engine_revision": ENGINE[A]})
    assert snapshot.target
    stable = make_record(A, promotion=1, pod_template=PROMPTS)
    todo = planned(replace(snapshot, records=(stable, snapshot.target)))
    (document,) = (read_split(obj) for obj in todo.apply if "split.json" in str(obj))
    assert document
    assert document.measure == ({"canary": False} if alike else None)


def test_document_of_somebody_else_is_never_written() -> None:
    snapshot = serving(target=make_record(B, recorded=False, pod_template=READS_SPLIT))
    have = replace(seen(snapshot), taken=frozenset({f"triage-{ENGINE[B]}-split"}))
    assert not [name for name in names(planned(snapshot, have).apply) if name.startswith("ConfigMap")]


def test_documents_that_only_take_weight_are_written_whatever_is_refused() -> None:
    split, state = render_split(OWNER, ENGINE[B], make_document()), {"kind": "ConfigMap", "data": {"state.json": "{}"}}
    assert Plan(withdraws=True).carries_split(split)
    assert not Plan(withdraws=False).carries_split(split)
    assert not Plan(withdraws=True).carries_split(state)


@pytest.mark.parametrize("fact", [fact for fact in Fact if fact is not Fact.SECRET])
def test_while_anything_is_unread_no_orphan_is_adopted_and_nothing_deleted(fact: Fact) -> None:
    """The canary is bad: its weight is taken, and orphans keep the controller that is gone."""
    snapshot = canary_at(counts=BAD, unread={fact: "No."})
    gone = OWNER.reference() | {"uid": "gone"}
    have = seen(snapshot)
    for obj in have.everything:
        obj["metadata"]["ownerReferences"] = [gone]
    todo = planned(snapshot, have)
    assert (todo.adopt, todo.delete) == ((), ())
    assert all("ownerReferences" not in obj["metadata"] for obj in todo.apply)
    assert all("ownerReferences" not in obj["metadata"] for obj in todo.lesser)
    if fact not in {Fact.RECORDS, Fact.STATE}:  # else the canary is unknown here, or what it has counted
        assert "HTTPRoute/triage" in names(todo.apply)
    everything_read = planned(replace(snapshot, unread={}), have)
    assert len(everything_read.adopt) == len(have.everything)
    assert everything_read.delete == ()
