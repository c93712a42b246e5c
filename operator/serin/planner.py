"""The plan of a decision: which children to apply, in which order, and which to delete. Pure.

Called by the reconciler; `serin.plan_execution` makes the writes. An object that already is as wanted is not written,
so a reconcile of an unchanged cluster plans nothing. Safety depends on the order: orphans are adopted first, the trial
state before all writes that follow from it, records before pods, split documents before the pods that mount them, pods
and Services before the route that names them, deletions last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serin.analysis.pod_checks import checks_for
from serin.analysis.pod_counters import measure_for
from serin.api.names import LABEL_ENGINE_REVISION, LABEL_REVISION, SPLIT_KEY, child_name
from serin.kube_types import Object
from serin.manifests.adoption import adoption, beside_controller, is_orphan, is_owned
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.contains import contains
from serin.manifests.controller_revision import render_record
from serin.manifests.evidence_map import relabel_evidence, render_evidence
from serin.manifests.observed import engine_revision_of
from serin.manifests.owner import Owner
from serin.manifests.split_document import SplitDocument, engine_of_split, read_split, render_split, token_of
from serin.rollout.decision import Decision
from serin.rollout.record import Record
from serin.rollout.roles import find_stable
from serin.rollout.route import is_settled
from serin.rollout.snapshot import Fact, Snapshot
from serin.routers.port import Router
from serin.routers.split import carried

_FACTS = {
    "ControllerRevision": Fact.RECORDS,
    "Deployment": Fact.DEPLOYMENTS,
    "Service": Fact.SERVICES,
    "PodDisruptionBudget": Fact.BUDGETS,
}


@dataclass(frozen=True)
class Children:
    """The existing children, as the API server returned them."""

    records: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    budgets: tuple[Object, ...] = ()
    services: tuple[Object, ...] = ()
    splits: tuple[Object, ...] = ()
    """The ConfigMaps with split documents."""
    taken: frozenset[str] = frozenset()
    """Names of such ConfigMaps that somebody else owns; they are never written."""
    evidence: Object | None = None
    route: Object | None = None

    def documents(self, owner_name: str) -> dict[str, SplitDocument]:
        """The split documents that can be read, by engine revision."""
        read = ((engine_of_split(owner_name, obj), read_split(obj)) for obj in self.splits)
        return {engine: document for engine, document in read if engine and document}

    def find(self, wanted: Object) -> Object | None:
        """The existing object of the same kind and name."""
        return next((existing for existing in self.everything if _identity(existing) == _identity(wanted)), None)

    @property
    def everything(self) -> tuple[Object, ...]:
        """All of them, in the order in which orphans are adopted: what is remembered first."""
        memory = (*self.records, *([self.evidence] if self.evidence else []), *self.splits)
        route = (self.route,) if self.route else ()
        return (*memory, *self.deployments, *self.services, *self.budgets, *route)


@dataclass(frozen=True)
class Plan:
    """Writes and deletions, in the order in which they must be made."""

    adopt: tuple[Object, ...] = ()
    """Metadata of children that have lost their owner."""
    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    withdraws: bool = False
    """Route and split documents in `apply` give more weight to no revision but the stable; they are written even if
    other writes fail."""

    lesser: tuple[Object, ...] = ()
    """Written if the object of the same kind and name in `apply` is refused: the existing route with new weights alone;
    if route or split documents were not read, them without their owner, since they may have lost it."""

    def carries_split(self, obj: Object) -> bool:
        """Whether an object in `apply` takes weight from the canary and must be written whatever else is refused."""
        return self.withdraws and _carries_split(obj)

    def lesser_of(self, obj: Object) -> Object | None:
        """What is written if an object that takes weight is refused."""
        same = (lesser for lesser in self.lesser if _identity(lesser) == _identity(obj))
        return next(same, None) if self.carries_split(obj) else None


def plan(owner: Owner, router: Router, snapshot: Snapshot, decision: Decision, existing: Children) -> Plan:
    """The writes that change the existing children to what was decided."""
    view = router.read(existing.route, owner.name)
    carriers = carried(
        snapshot,
        decision,
        view,
        existing.documents(owner.name),
        token=token_of(owner),
        measure=lambda engine: _measure(decision, engine),
        checks=checks_for(snapshot.spec.analysis, decision.trial_state if decision.canary else None),
    )
    stored = existing.route
    same = router.reweight(owner, stored, carriers.backends, carriers.sequence) if decision.weights and stored else None
    routing, backends = snapshot.spec.routing, carriers.backends
    route = [router.render(owner, routing, backends, carriers.sequence)] if decision.weights else []
    if "routing" in snapshot.unreadable_fields:  # what it says now must not replace what was accepted
        route = [same] if same else []
    # A route without a new backend is written before the pods: a backend loses its weight before its pods, and a
    # refused Deployment does not delay a rollback.
    early = {backend.name for backend in carriers.backends} <= set(view.weights)
    wanted = [
        # First, so that no request is counted twice if a later write fails.
        *((render_evidence(owner, decision.trial_state),) if decision.trial_state else ()),
        *(render_record(owner, record) for record in decision.records),
        *(route if early else ()),
        # Before the pods that mount them.
        *(render_split(owner, engine, document) for engine, document in sorted(carriers.documents.items())),
        *_engines(owner, snapshot, decision),
        *(service(owner, record.resolved) for record in _serving(snapshot, decision)),
        *(() if early else route),
        *_relabelled(owner, snapshot, decision, existing),
    ]
    names = {_identity(want) for want in wanted}
    routed = {*view.weights, *(backend.name for backend in carriers.backends)}
    pairs = ((want, existing.find(want)) for want in wanted)
    pairs = ((_beside_other_owners(want, found, owner, snapshot), found) for want, found in pairs)
    same = _beside_other_owners(same, stored, owner, snapshot) if same else None
    pending = ((_with_first_settings(want, found), found) for want, found in pairs)
    pending = ((want, found) for want, found in pending if want["metadata"]["name"] not in existing.taken)
    pending = ((want, found) for want, found in pending if _may_be_written(want, snapshot, decision))
    surplus = () if snapshot.unread else _surplus(owner, snapshot, decision, existing, routed)
    apply = tuple(_conditional(want, found) for want, found in pending if found is None or not contains(found, want))
    return Plan(
        # What cannot be read may say whose an orphan is.
        adopt=()
        if snapshot.unread
        else tuple(adoption(obj, owner) for obj in existing.everything if is_orphan(obj, owner)),
        apply=apply,
        # What is wanted stays, and so does what is not ours yet.
        delete=tuple(obj for obj in surplus if _identity(obj) not in names and is_owned(obj, owner)),
        withdraws=_withdraws(snapshot, decision),
        lesser=tuple(_lesser(snapshot, existing, apply, _conditional(same, stored) if same else None)),
    )


def _may_be_written(want: Object, snapshot: Snapshot, decision: Decision) -> bool:
    """Whether the object was read, so that the write changes only what is wanted; weight is taken in any case."""
    if _carries_split(want):
        return snapshot.split_is_known or bool(decision.weights)
    if want["kind"] == "ConfigMap":
        return Fact.STATE not in snapshot.unread
    return _FACTS.get(want["kind"]) not in snapshot.unread


def _carries_split(obj: Mapping[str, Any]) -> bool:
    return obj["kind"] == "HTTPRoute" or (obj["kind"] == "ConfigMap" and SPLIT_KEY in obj.get("data", {}))


def _measure(decision: Decision, engine: str) -> Mapping[str, Any] | None:
    """What the pods of an engine count by load for the running trial; None: nothing."""
    stable, canary = decision.stable, decision.canary
    if stable is None or canary is None or engine not in {stable.engine_revision, canary.engine_revision}:
        return None
    if stable.engine_revision == canary.engine_revision:  # one list of boundaries, for both sides
        both = [measure_for(decision.trial_state, canary=side) for side in (False, True)]
        return both[0] if both[0] == both[1] else None
    return measure_for(decision.trial_state, canary=engine == canary.engine_revision)


def _engines(owner: Owner, snapshot: Snapshot, decision: Decision) -> Iterable[Object]:
    """Deployments and budgets of all revisions with a role; those that drain stay as they are."""
    for record in {r.engine_revision: r for r in _with_a_role(decision)}.values():
        replicas = decision.engines.get(record.engine_revision)
        if replicas is not None:
            resolved = _first_of(snapshot, record).resolved
            yield deployment(owner, resolved, replicas)
            yield pod_disruption_budget(owner, resolved)


def _first_of(snapshot: Snapshot, record: Record) -> Record:
    """The oldest record with the same engine revision, because the Deployment was made from its template."""
    same = [r for r in snapshot.records if r.engine_revision == record.engine_revision]
    return min(same, key=lambda r: r.number, default=record)


def _serving(snapshot: Snapshot, decision: Decision) -> Iterable[Record]:
    """The records whose Services the new or the current route names, one for each Service."""
    known = {r.revision: r for r in (*snapshot.records, *_with_a_role(decision))}
    named = decision.weights.keys() | (snapshot.route.weights.keys() if decision.weights else set())
    serving = [known[revision] for revision in sorted(named) if revision in known]
    return {record.resolved.backend: record for record in serving}.values()


def _relabelled(owner: Owner, snapshot: Snapshot, decision: Decision, existing: Children) -> Iterable[Object]:
    """Records and trial state whose labels were removed or changed, with their labels and otherwise unchanged.

    Only labels are compared: the data stays as the version of Serin that recorded it has written it.
    """
    changed = {record.revision for record in decision.records} | decision.forgotten
    for record in snapshot.records:
        want = render_record(owner, record)
        found = None if record.revision in changed else existing.find(want)
        if found and not _has_labels_of(found, want):
            yield want | {"data": found["data"]}
    if existing.evidence and decision.trial_state is None:
        want = relabel_evidence(owner, existing.evidence)
        if not _has_labels_of(existing.evidence, want):
            yield want


def _with_a_role(decision: Decision) -> list[Record]:
    return [r for r in (decision.stable, decision.canary, decision.target) if r is not None]


def _withdraws(snapshot: Snapshot, decision: Decision) -> bool:
    """Whether no revision gains weight but the stable of the stored records, which the decision may want to replace.

    If the decision knows no stable, it is the one that the trial state names.
    """
    stable, state, now = find_stable(snapshot), snapshot.saved_state, snapshot.route.weights
    kept = {stable.revision} if stable else set()
    kept |= {state.against} if state and decision.stable is None else set()
    return all(w <= now.get(r, 0) or r in kept for r, w in decision.weights.items())


def _beside_other_owners(want: Object, found: Object | None, owner: Owner, snapshot: Snapshot) -> Object:
    """The write with as much of our ownership as the owners of the existing object permit: one is the controller.

    An orphan is adopted first; while something is not read it is not, and keeps its old controller.
    """
    if found is None:
        return want
    if is_orphan(found, owner):
        return without_owner(want) if snapshot.unread else want
    return beside_controller(want, found, owner) if is_owned(found, owner) else want


def _lesser(snapshot: Snapshot, existing: Children, apply: Iterable[Object], same: Object | None) -> Iterable[Object]:
    """See `Plan.lesser`; `same` is the existing route with new weights."""
    for want in apply:
        if same and _identity(same) == _identity(want):
            yield same
        elif _carries_split(want) and existing.find(want) is None and not snapshot.split_is_known:
            yield without_owner(want)


def without_owner(want: Object) -> Object:
    """The write of an object that keeps the owners that it has."""
    return want | {"metadata": {name: value for name, value in want["metadata"].items() if name != "ownerReferences"}}


def _with_first_settings(want: Object, found: Object | None) -> Object:
    """A Deployment with the settings that it was made with, so that an upgrade of the operator does not change it."""
    if want["kind"] != "Deployment" or found is None:
        return want
    first = want["spec"].keys() & found["spec"].keys() - {"replicas", "template"}
    return want | {"spec": want["spec"] | {name: found["spec"][name] for name in first}}


def _conditional(want: Object, found: Object | None) -> Object:
    """The write of route, record or trial state, conditional on the object that was read.

    A replica that has lost the leader election gets a conflict. The uid is included, because an object that was deleted
    meanwhile would be created again.
    """
    if want["kind"] not in {"HTTPRoute", "ControllerRevision", "ConfigMap"} or found is None:
        return want
    precondition = {name: found["metadata"][name] for name in ("uid", "resourceVersion")}
    return want | {"metadata": want["metadata"] | precondition}


def _surplus(
    owner: Owner, snapshot: Snapshot, decision: Decision, existing: Children, routed: Collection[str]
) -> Iterable[Object]:
    """The children that are not needed any more, identified by name; what cannot be identified stays.

    `routed` are the backends of the current and of the new route.
    """
    engines = {engine_revision_of(owner.name, obj): obj for obj in existing.deployments}
    # A Deployment that was deleted by hand must not leave its budget behind.
    needed = (snapshot.engines.keys() | decision.engines.keys()) - decision.retired
    for obj in existing.budgets:
        engine = engine_revision_of(owner.name, obj)
        if engine and engine not in needed:
            yield obj
    yield from (obj for engine, obj in engines.items() if engine in decision.retired)
    for obj in existing.splits:  # once the Deployment is gone: its pods do not start without the document
        engine = engine_of_split(owner.name, obj)
        # While no stable is known, it may be what says which revision a backend serves.
        if engine and decision.stable and engine not in snapshot.engines.keys() | decision.engines.keys():
            yield obj
    if not snapshot.route.exists or is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds):
        for obj in existing.services:
            backend = _revision_of(owner, obj)
            if backend and backend not in routed and _is_known(backend, obj, snapshot):
                yield obj
    yield from (obj for obj in existing.records if _revision_of(owner, obj) in decision.forgotten)


def _is_known(backend: str, obj: Object, snapshot: Snapshot) -> bool:
    """Whether Serin made the Service of this backend: a record, the Service's selector or its label says so."""
    known = {name for record in snapshot.records for name in (record.revision, record.engine_revision)}
    chosen = (obj.get("spec") or {}).get("selector") or {}
    return backend in known or backend in {chosen.get(LABEL_ENGINE_REVISION), _label(obj, LABEL_REVISION)}


def _revision_of(owner: Owner, obj: Mapping[str, Any]) -> str | None:
    """The revision in the name of a Service or record; users can change labels but not names."""
    prefix, name = child_name(owner.name, ""), str(obj["metadata"]["name"])
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _has_labels_of(found: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    return bool(want["metadata"]["labels"].items() <= (found["metadata"].get("labels") or {}).items())


def _identity(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _label(obj: Mapping[str, Any], label: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(label, ""))
