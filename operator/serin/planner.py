"""From a decision to writes: which children are to be applied, in which order, and which are to be deleted. Pure.

Called by the reconciler. Nothing is planned that is there already: a second look at an unchanged world plans nothing.
The order carries the safety: what is remembered before what follows from it, pods and Services before the route that
names them, deletions last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.names import LABEL_REVISION, child_name
from serin.kube_types import Object
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.contains import contains
from serin.manifests.controller_revision import render_record
from serin.manifests.evidence_map import relabel_evidence, render_evidence
from serin.manifests.observed import engine_revision_of
from serin.manifests.owner import Owner
from serin.rollout.decision import Decision
from serin.rollout.record import Record
from serin.rollout.roles import find_stable
from serin.rollout.route import is_settled
from serin.rollout.snapshot import Snapshot
from serin.routers.port import Router


@dataclass(frozen=True)
class Children:
    """What exists already, as the API server gave it."""

    records: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    budgets: tuple[Object, ...] = ()
    services: tuple[Object, ...] = ()
    evidence: Object | None = None
    route: Object | None = None

    def find(self, wanted: Object) -> Object | None:
        """The existing object of the same kind and name."""
        single = [obj for obj in (self.evidence, self.route) if obj]
        everything = [*self.records, *self.deployments, *self.budgets, *self.services, *single]
        return next((have for have in everything if _identity(have) == _identity(wanted)), None)


@dataclass(frozen=True)
class Plan:
    """Writes, in the order in which they must be made."""

    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    withdraws: bool = False
    """The route in `apply` gives nobody more weight but the stable: it may be written even if all else is refused."""


def plan(owner: Owner, router: Router, snapshot: Snapshot, decision: Decision, have: Children) -> Plan:
    """The writes that turn what is there into what was decided."""
    route = [router.render(owner, snapshot.spec.routing, decision.weights, decision.epoch)] if decision.weights else []
    # A route that names nobody new comes before the pods: weight leaves before pods do, and nothing that the API server
    # refuses about a Deployment can keep a rollback waiting.
    early = decision.weights.keys() <= snapshot.route.weights.keys()
    wanted = [
        # First: what was counted is never counted again, whatever of the rest is written.
        *((render_evidence(owner, decision.trial_state),) if decision.trial_state else ()),
        *(render_record(owner, record) for record in decision.records),
        *(route if early else ()),
        *_engines(owner, snapshot, decision),
        *(service(owner, record.resolved) for record in _serving(snapshot, decision)),
        *(() if early else route),
        *_relabelled(owner, snapshot, decision, have),
    ]
    names = {_identity(want) for want in wanted}
    pending = ((_as_it_was_made(want, there), there) for want, there in ((w, have.find(w)) for w in wanted))
    return Plan(
        apply=tuple(_conditional(want, there) for want, there in pending if there is None or not contains(there, want)),
        delete=tuple(obj for obj in _surplus(owner, snapshot, decision, have) if _identity(obj) not in names),
        withdraws=_withdraws(snapshot, decision),
    )


def _engines(owner: Owner, snapshot: Snapshot, decision: Decision) -> Iterable[Object]:
    """Deployments and budgets of whoever has a role; what drains is left as it is."""
    for record in {r.engine_revision: r for r in _with_a_role(decision)}.values():
        replicas = decision.engines.get(record.engine_revision)
        if replicas is not None:
            resolved = _first_of(snapshot, record).resolved
            yield deployment(owner, resolved, replicas)
            yield pod_disruption_budget(owner, resolved)


def _first_of(snapshot: Snapshot, record: Record) -> Record:
    """Of all records with the same pods the oldest: its template is what the Deployment was made from."""
    same = [r for r in snapshot.records if r.engine_revision == record.engine_revision]
    return min(same, key=lambda r: r.number, default=record)


def _serving(snapshot: Snapshot, decision: Decision) -> Iterable[Record]:
    """The records whose Service the route names, or has named up to now."""
    known = {r.revision: r for r in (*snapshot.records, *_with_a_role(decision))}
    named = decision.weights.keys() | (snapshot.route.weights.keys() if decision.weights else set())
    return (known[revision] for revision in sorted(named) if revision in known)


def _relabelled(owner: Owner, snapshot: Snapshot, decision: Decision, have: Children) -> Iterable[Object]:
    """Records and evidence that are kept as they are, but for a label that somebody took or changed.

    Nothing but labels is compared: what is recorded stays as the version of Serin that recorded it wrote it.
    """
    changed = {record.revision for record in decision.records} | decision.forgotten
    for record in snapshot.records:
        want = render_record(owner, record)
        there = None if record.revision in changed else have.find(want)
        if there and not _has_labels_of(there, want):
            yield want | {"data": there["data"]}
    if have.evidence and decision.trial_state is None:
        want = relabel_evidence(owner, have.evidence)
        if not _has_labels_of(have.evidence, want):
            yield want


def _with_a_role(decision: Decision) -> list[Record]:
    return [r for r in (decision.stable, decision.canary, decision.target) if r is not None]


def _withdraws(snapshot: Snapshot, decision: Decision) -> bool:
    """As seen from the records as they are stored: a promotion that could not be recorded is none."""
    stable = find_stable(snapshot)
    now = snapshot.route.weights
    return all(w <= now.get(r, 0) or (stable is not None and r == stable.revision) for r, w in decision.weights.items())


def _as_it_was_made(want: Object, have: Object | None) -> Object:
    """A Deployment keeps the settings that it was made with: an upgrade of the operator moves no generation."""
    if want["kind"] != "Deployment" or have is None:
        return want
    kept = {name: have["spec"][name] for name in want["spec"].keys() & have["spec"].keys() - {"replicas", "template"}}
    return want | {"spec": want["spec"] | kept}


def _conditional(want: Object, have: Object | None) -> Object:
    """Route, records and evidence are written only as they were seen: a deposed leader gets a conflict.

    The uid goes with it, or an object deleted meanwhile would be made again.
    """
    if want["kind"] not in {"HTTPRoute", "ControllerRevision", "ConfigMap"} or have is None:
        return want
    return want | {"metadata": want["metadata"] | {name: have["metadata"][name] for name in ("uid", "resourceVersion")}}


def _surplus(owner: Owner, snapshot: Snapshot, decision: Decision, have: Children) -> Iterable[Object]:
    """What is known to be ours and is needed no more, by name; what cannot be identified is left alone."""
    engines = {engine_revision_of(owner.name, obj): obj for obj in have.deployments}
    # Also those whose Deployment is gone already, or one that somebody deletes by hand would leave its budget for good.
    kept = (snapshot.engines.keys() | decision.engines.keys()) - decision.retired
    for obj in have.budgets:
        engine = engine_revision_of(owner.name, obj)
        if engine and engine not in kept:
            yield obj
    yield from (obj for engine, obj in engines.items() if engine in decision.retired)
    if not snapshot.route.exists or is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds):
        routed = snapshot.route.weights.keys() | decision.weights.keys()
        revisions = {record.revision for record in snapshot.records}
        for obj in have.services:
            revision = _revision_of(owner, obj)
            if revision not in routed and (revision in revisions or revision == _label(obj, LABEL_REVISION)):
                yield obj
    yield from (obj for obj in have.records if _revision_of(owner, obj) in decision.forgotten)


def _revision_of(owner: Owner, obj: Mapping[str, Any]) -> str | None:
    """The revision that the name of a Service or record names; labels change, names do not."""
    prefix, name = child_name(owner.name, ""), str(obj["metadata"]["name"])
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _has_labels_of(have: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    return bool(want["metadata"]["labels"].items() <= (have["metadata"].get("labels") or {}).items())


def _identity(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _label(obj: Mapping[str, Any], label: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(label, ""))
