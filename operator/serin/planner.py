"""From a decision to writes: which children are to be applied, in which order, and which are to be deleted. Pure.

Called by the reconciler. Nothing is planned that is there already: a second look at an unchanged world plans nothing.
The order carries the safety: what is remembered before what follows from it, pods and Services before the route that
names them, deletions last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.names import LABEL_ENGINE_REVISION, LABEL_REVISION
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.contains import contains
from serin.manifests.controller_revision import render_record
from serin.manifests.evidence_map import render_evidence
from serin.manifests.owner import Owner
from serin.rollout.decision import Decision
from serin.rollout.record import Record
from serin.rollout.roles import find_stable
from serin.rollout.snapshot import Snapshot
from serin.rollout.split import is_settled
from serin.routers.port import Router

Object = dict[str, Any]


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
        *((render_evidence(owner, decision.evidence),) if decision.evidence else ()),
        *(render_record(owner, record) for record in decision.records),
        *(route if early else ()),
        *_engines(owner, snapshot, decision),
        *(service(owner, record.resolved) for record in _serving(snapshot, decision)),
        *(() if early else route),
    ]
    pending = ((_as_it_was_made(want, there), there) for want, there in ((w, have.find(w)) for w in wanted))
    return Plan(
        apply=tuple(_conditional(want, there) for want, there in pending if there is None or not contains(there, want)),
        delete=tuple(_surplus(snapshot, decision, have)),
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
    """The records whose Service the route names."""
    known = {r.revision: r for r in (*snapshot.records, *_with_a_role(decision))}
    return (known[revision] for revision in sorted(decision.weights) if revision in known)


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


def _surplus(snapshot: Snapshot, decision: Decision, have: Children) -> Iterable[Object]:
    # Budgets first: who is retired is read off the Deployments, so a crash in between must leave those.
    for obj in (*have.budgets, *have.deployments):
        if _label(obj, LABEL_ENGINE_REVISION) in decision.retired:
            yield obj
    gone = not snapshot.route.exists or is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds)
    routed = snapshot.route.weights.keys() | decision.weights.keys()
    if gone:
        yield from (obj for obj in have.services if _label(obj, LABEL_REVISION) not in routed)
    yield from (obj for obj in have.records if _label(obj, LABEL_REVISION) in decision.forgotten)


def _identity(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _label(obj: Mapping[str, Any], label: str) -> str:
    return str(obj["metadata"].get("labels", {}).get(label, ""))
