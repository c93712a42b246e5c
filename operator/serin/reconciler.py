"""One reconcile, on one screen: observe -> decide -> plan -> execute -> report.

Called by the work queue for one LLMDeployment at a time. All thinking is in the pure modules that it calls; all I/O is
behind the cluster and the collector. What went wrong in the spec becomes a condition, what went wrong in the world is
raised, and the queue tries again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import ValidationError

from serin.analysis.counts import MetricReadings
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import ANNOTATION_COMMAND, API_VERSION, LABEL_DEPLOYMENT, child_name
from serin.api.parse import parse_llmdeployment
from serin.api.status import Condition, LLMDeploymentStatus
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    PROMPTVERSION,
    SECRET,
    SERVICE,
    Cluster,
    Kind,
    kind_of,
)
from serin.errors import ClusterError, Conflict, MetricsError, RecordError, SpecError
from serin.kube_types import Key, Object
from serin.manifests.controller_revision import read_record
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.evidence_map import name_of, read_evidence
from serin.manifests.observed import engine_of_pod, engines
from serin.manifests.owner import Owner
from serin.metric_sources.port import Server, Watch
from serin.metric_sources.server import server
from serin.planner import Children, Plan, plan
from serin.reporting.events import announcements
from serin.reporting.refusal import refused
from serin.reporting.status import blocked_status, status
from serin.resolve import Target, resolve
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import Policy, RouteView, Snapshot
from serin.routers.port import Router
from serin.workqueue import FORGET

_CHILD_KINDS = (CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICE, POD_DISRUPTION_BUDGET)


class _Changed(Conflict):
    """An object was not deleted, since it has changed after it was read: the next reconcile looks again."""


class ReadingsSource(Protocol):
    """The collector, as the reconciler sees it."""

    def set_watch(self, watch: Watch) -> None:
        """Ask for evidence from now on."""

    def acknowledge(self, key: Key, until: datetime, epochs: tuple[int, ...]) -> None:
        """What was read until then is kept; do not tell it again, and read of these epochs only."""

    def drop(self, key: Key) -> None:
        """Ask for it no more."""

    def readings(self, key: Key) -> MetricReadings:
        """What was read last."""


class Telemetry(Protocol):
    """Logs and metrics, as the reconciler sees them."""

    def decided(
        self, key: Key, generation: int, decision: Decision, conditions: Iterable[Condition], writes: int
    ) -> None:
        """One reconcile came to an end."""

    def stopped(self, key: Key, reason: Reason, message: str) -> None:
        """A reconcile ended before it could decide."""

    def forget(self, key: Key) -> None:
        """The LLMDeployment is gone."""


@dataclass(frozen=True)
class World:
    """What one observation found."""

    owner: Owner
    obj: Object
    snapshot: Snapshot
    children: Children
    server: Server | None = None
    watchable: bool = True
    """False where it cannot be said which Prometheus to ask."""


@dataclass(frozen=True)
class Reconciler:
    """Brings one LLMDeployment after the other to what its spec asks for."""

    cluster: Cluster
    router: Router
    collector: ReadingsSource
    telemetry: Telemetry
    clock: Callable[[], datetime]
    defaults: EngineDefaults
    policy: Policy

    async def reconcile(self, key: Key) -> timedelta | None:
        """Look at one LLMDeployment and do what is due; returns when to look again even if nothing happens.

        Raises:
            ClusterError: the API server could not be asked or refused a write.
        """
        obj = await self.cluster.get(LLMDEPLOYMENT, *key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            self.collector.drop(key)
            self.telemetry.forget(key)
            return FORGET
        try:
            world = await self._observe(obj, parse_llmdeployment(obj))
        except (SpecError, RecordError) as error:
            await self._stop_at(obj, error)
            return None
        decision = decide(world.snapshot)
        todo = plan(world.owner, self.router, world.snapshot, decision, world.children)
        unwritten, undeleted = await self._execute(world.owner, todo)
        told, refusal = decision, unwritten or (None if isinstance(undeleted, _Changed) else undeleted)
        if refusal:
            snapshot, told = refused(world.snapshot, decision, refusal, _before(obj))
            world = replace(world, snapshot=snapshot)
        unreported = await self._report(key, world, told, todo)
        if not unwritten:  # else nothing new is watched: what could not be kept has not been taken into account
            self._watch(key, world, decision)
        if trouble := unwritten or undeleted or unreported:
            raise trouble
        return decision.due_in

    async def _observe(self, obj: Object, spec: LLMDeploymentSpec) -> World:
        meta = obj["metadata"]
        owner = Owner(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])
        lists, route, kept, prompt, secret = await asyncio.gather(
            asyncio.gather(*(self._list(kind, owner) for kind in _CHILD_KINDS)),
            self.cluster.get(HTTP_ROUTE, owner.namespace, owner.name),
            self.cluster.get(CONFIG_MAP, owner.namespace, name_of(owner.name)),
            self._prompt(owner.namespace, spec.prompt.name if spec.prompt else None),
            self._secret(owner.namespace, spec),
        )
        view = self.router.read(route, owner.name)
        if route and not _belongs(route, owner):
            message = f"An HTTPRoute {owner.name} that is not ours exists; delete it, or rename this LLMDeployment."
            view = RouteView({}, foreign=True, refused=message)
        record_objects, deployments, pods, services, budgets = await self._unlabelled(owner, lists, view)
        records = _read_records(record_objects)
        target = resolve(owner.name, spec, prompt, records, self.defaults)
        if target.record and not target.record.recorded:  # or only without its label: it may say that it was rejected
            record_objects = await self._named(CONTROLLER_REVISION, owner, record_objects, {target.record.revision})
            records = _read_records(record_objects)
            target = resolve(owner.name, spec, prompt, records, self.defaults)
        if view.foreign:
            target = Target(None, Reason.ROUTE_REFUSED, view.refused)
        if kept and not _belongs(kept, owner):
            message = f"A ConfigMap {name_of(owner.name)} that is not ours exists; delete it, or rename it."
            target, kept = Target(None, Reason.CHILD_REFUSED, message), None
        # Of a trial that is over nothing is needed any more, and of many deployments most are settled.
        memory = read_evidence(kept) if any(r.trial and not r.rejection for r in records) else None
        if memory:  # also what was kept by a reconcile that did not come to its end
            self.collector.acknowledge((owner.namespace, owner.name), memory.until, memory.live_epochs)
        readings = self.collector.readings((owner.namespace, owner.name))
        try:
            source, watchable = server(spec.analysis.prometheus, secret), True
        except MetricsError as error:
            source, watchable, readings = None, False, replace(readings, error=str(error))
        snapshot = Snapshot(
            now=self.clock(),
            spec=spec,
            target=target.record,
            records=records,
            engines=engines(owner.name, deployments, pods),
            route=view,
            readings=readings,
            saved_state=memory,
            command=parse_command(meta.get("annotations", {}).get(ANNOTATION_COMMAND)),
            spec_error=target.message,
            spec_reason=target.reason,
            policy=self.policy,
        )
        children = Children(tuple(record_objects), tuple(deployments), tuple(budgets), tuple(services), kept, route)
        return World(owner, obj, snapshot, children, source, watchable)

    async def _list(self, kind: Kind, owner: Owner) -> list[Object]:
        """The children of a kind; what carries our label without being ours is left alone."""
        found = await self.cluster.list(kind, owner.namespace, labels={LABEL_DEPLOYMENT: owner.name})
        return [o for o in found if kind is POD or _belongs(o, owner)]

    async def _unlabelled(self, owner: Owner, lists: Iterable[list[Object]], view: RouteView) -> list[list[Object]]:
        """The lists with what is in use and has lost the label that it is listed by: the route and the pods tell."""
        records, deployments, pods, services, budgets = lists
        running = {engine_of_pod(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp")} - {""}
        records = await self._named(CONTROLLER_REVISION, owner, records, view.weights)
        deployments = await self._named(DEPLOYMENT, owner, deployments, running)
        services = await self._named(SERVICE, owner, services, view.weights)
        prefix = child_name(owner.name, "")
        deployed = {d["metadata"]["name"].removeprefix(prefix) for d in deployments}
        budgets = await self._named(POD_DISRUPTION_BUDGET, owner, budgets, deployed)
        return [records, deployments, pods, services, budgets]

    async def _named(self, kind: Kind, owner: Owner, found: list[Object], revisions: Iterable[str]) -> list[Object]:
        """What was found, and the children of these revisions that were not, if they exist."""
        missing = {child_name(owner.name, revision) for revision in revisions} - {o["metadata"]["name"] for o in found}
        asked = await asyncio.gather(*(self.cluster.get(kind, owner.namespace, name) for name in sorted(missing)))
        return [*found, *(obj for obj in asked if obj and _belongs(obj, owner))]

    async def _prompt(self, namespace: str, name: str | None) -> Object | None:
        return await self.cluster.get(PROMPTVERSION, namespace, name) if name else None

    async def _secret(self, namespace: str, spec: LLMDeploymentSpec) -> Object | None:
        named = spec.analysis.prometheus and spec.analysis.prometheus.auth_secret_ref
        return await self.cluster.get(SECRET, namespace, named.name) if named else None

    async def _execute(self, owner: Owner, todo: Plan) -> tuple[ClusterError | None, ClusterError | None]:
        """Make the writes; after the first refusal only one that takes weight from a canary.

        What follows rests on what comes before: no pods without their record, no backend without its Service. Nothing
        rests on a deletion, so that one that fails holds up no other.

        Returns:
            The first refusal of a write, and that of a deletion, or why one was not made (`_Changed`).

        Raises:
            Conflict: what was decided rests on an object that has changed meanwhile.
        """
        unwritten: ClusterError | None = None
        undeleted: ClusterError | None = None
        for obj in todo.apply:
            if unwritten and not (obj["kind"] == HTTP_ROUTE.kind and todo.withdraws):
                continue
            try:
                await self.cluster.apply(kind_of(obj), obj)
            except ClusterError as error:
                if isinstance(error, Conflict) and await self._has_changed(obj):
                    raise
                unwritten = unwritten or error
        for obj in () if unwritten else todo.delete:
            meta = obj["metadata"]
            try:
                await self.cluster.delete(
                    kind_of(obj), owner.namespace, meta["name"], uid=meta["uid"], version=meta["resourceVersion"]
                )
            except ClusterError as error:
                changed = isinstance(error, Conflict) and await self._has_changed(obj)
                if undeleted is None or isinstance(undeleted, _Changed):
                    undeleted = _Changed(str(error)) if changed else error
        return unwritten, undeleted

    async def _has_changed(self, obj: Object) -> bool:
        """Whether an object is not what it was when it was read; else a webhook refuses the write with that status."""
        meta = obj["metadata"]
        try:
            have = await self.cluster.get(kind_of(obj), meta["namespace"], meta["name"])
        except ClusterError:
            return True
        now = have["metadata"] if have else {}
        return any(meta.get(field) != now.get(field) for field in ("uid", "resourceVersion"))

    async def _report(self, key: Key, world: World, decision: Decision, todo: Plan) -> ClusterError | None:
        """Write status and Events; returns why the status could not be written: nothing else waits for it."""
        failed, wrote = None, False
        generation, before = world.obj["metadata"]["generation"], _before(world.obj)
        after = status(key[1], generation, world.snapshot, decision, before)
        try:
            wrote = await self._write_status(world.obj, after)
        except ClusterError as error:
            failed = error
        if wrote:
            for told in announcements(before, after):
                await self.cluster.event(world.obj, told.reason, told.message, told.type, told.action)
        writes = len(todo.apply) + len(todo.delete) + wrote
        self.telemetry.decided(key, generation, decision, after.conditions, writes)
        return failed

    def _watch(self, key: Key, world: World, decision: Decision) -> None:
        """Tell the collector what is wanted next; what was kept of the evidence is acknowledged with it."""
        if decision.wanted is None or not world.watchable:
            self.collector.drop(key)
        else:
            self.collector.set_watch(Watch(**vars(decision.wanted), namespace=key[0], name=key[1], server=world.server))

    async def _stop_at(self, obj: Object, error: SpecError | RecordError) -> None:
        """Touch nothing, since what is wanted or what is there cannot be read; only say so."""
        reason = Reason.INVALID_SPEC if isinstance(error, SpecError) else Reason.RECORD_UNREADABLE
        generation = obj["metadata"]["generation"]
        await self._write_status(obj, blocked_status(generation, self.clock(), _before(obj), reason, str(error)))
        self.telemetry.stopped((obj["metadata"]["namespace"], obj["metadata"]["name"]), reason, str(error))

    async def _write_status(self, obj: Object, after: LLMDeploymentStatus) -> bool:
        """Write what readers see if it differs; conditional, so that a deposed leader gets a conflict."""
        new = after.model_dump(by_alias=True, exclude_none=True, mode="json")
        if new == obj.get("status"):
            return False
        meta = {name: obj["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
        body = {"apiVersion": API_VERSION, "kind": LLMDEPLOYMENT.kind, "metadata": meta, "status": new}
        await self.cluster.apply_status(LLMDEPLOYMENT, body)
        return True


def _read_records(objects: Iterable[Object]) -> tuple[Record, ...]:
    """Oldest first."""
    return tuple(sorted((read_record(obj) for obj in objects), key=lambda record: record.number))


def _belongs(obj: Object, owner: Owner) -> bool:
    return any(ref.get("uid") == owner.uid for ref in obj["metadata"].get("ownerReferences", []))


def _before(obj: Object) -> LLMDeploymentStatus:
    """The status so far; one that cannot be read counts as lost."""
    try:
        return LLMDeploymentStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return LLMDeploymentStatus()
