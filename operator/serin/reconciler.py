"""One reconcile of an LLMDeployment: observe -> decide -> plan -> execute -> report.

Called by the work queue for one LLMDeployment at a time. Decisions are made in the pure modules that it calls; I/O goes
through the cluster and the collector. What cannot be read (a spec, a record, an answer of the API server) becomes a
fact of the snapshot and a condition. The failure of a request is raised at the end, and the queue retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from serin.analysis.counts import MetricReadings
from serin.analysis.trial_state import TrialState
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import ANNOTATION_COMMAND, ANNOTATION_SIGNATURE
from serin.api.parse import read_spec
from serin.api.status import Condition, LLMDeploymentStatus
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    PROMPTVERSION,
    SECRET,
    Cluster,
)
from serin.errors import ClusterError, Conflict, MetricsError
from serin.kube_types import Key, Object
from serin.manifests.adoption import controller_of, is_ours
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.evidence_map import name_of, read_evidence
from serin.manifests.observed import engines, split_views
from serin.manifests.owner import Owner
from serin.manifests.split_document import SplitDocument
from serin.metric_sources.port import ReadingsSource, Server, Watch
from serin.metric_sources.server import server
from serin.owned_objects import (
    OwnedObjects,
    add_documents,
    add_lost_records,
    add_named,
    add_splits,
    add_unlabelled,
    list_owned,
)
from serin.plan_execution import Failures, execute
from serin.planner import Children, Plan, plan
from serin.reporting.events import transition_events
from serin.reporting.refusal import unread_since, with_refusal
from serin.reporting.status import status
from serin.resolve import Target, resolve, without_unreadable
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.minimal import assumed_split, current_target, with_current_replicas
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.roles import is_proven
from serin.rollout.snapshot import Fact, Policy, RouteView, Snapshot
from serin.routers.port import Router
from serin.routers.split import combined
from serin.split_delivery import deliver, evict
from serin.status_writing import stored_status, write_status
from serin.tolerant_reads import TolerantReads, read_self
from serin.workqueue import FORGET

AT_ONCE = 2
"""Most intervals that are counted on the event loop; each takes up to 0.2 s with 16 metrics."""


class Telemetry(Protocol):
    """Logs and metrics, as the reconciler uses them."""

    def decided(
        self, key: Key, generation: int, decision: Decision, conditions: Iterable[Condition], writes: int
    ) -> None:
        """Record a complete reconcile."""

    def forget(self, key: Key) -> None:
        """Drop the metrics of an LLMDeployment that was deleted."""


@dataclass(frozen=True)
class World:
    """What one reconcile has observed."""

    owner: Owner
    obj: Object
    snapshot: Snapshot
    children: Children
    server: Server | None = None
    watchable: bool = True
    """False if the Prometheus server to read is unknown, because its Secret is missing or invalid."""
    pods: tuple[Object, ...] = ()
    failed_read: ClusterError | None = None
    """The first read that failed."""


@dataclass(frozen=True)
class Reconciler:
    """Reconciles LLMDeployments, one per call."""

    cluster: Cluster
    router: Router
    collector: ReadingsSource
    telemetry: Telemetry
    clock: Callable[[], datetime]
    defaults: EngineDefaults
    policy: Policy

    async def reconcile(self, key: Key) -> timedelta | None:
        """Reconcile one LLMDeployment; returns the time until the next reconcile without an event, None for no limit.

        Raises:
            ClusterError: the API server did not answer, or refused a write; the rest was done nevertheless.
        """
        obj = await read_self(self.cluster, key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            self.collector.drop(key)
            self.telemetry.forget(key)
            return FORGET
        world = await self._observe(obj)
        decision = await _decide(world.snapshot)
        todo = plan(world.owner, self.router, world.snapshot, decision, world.children)
        try:
            failures = await execute(self.cluster, world.owner, todo)
        except Conflict:  # counting goes on even if another writer is always faster
            self._watch(key, world, decision, persisted=False)
            raise
        self._watch(key, world, decision, persisted=failures.write is None)
        await deliver(self.cluster, world.pods, _digests(world, todo, failures))
        evicted = None if failures.write else await evict(self.cluster, world.pods, decision.evicted)
        reported = replace(decision, message=f"{evicted} {decision.message}") if evicted else decision
        if failures.refusal:
            before = stored_status(obj, LLMDeploymentStatus)
            snapshot, reported = with_refusal(world.snapshot, decision, failures.refusal, before)
            world = replace(world, snapshot=snapshot)
        status_error = await self._report(key, world, reported, todo)
        if failure := failures.first or status_error or world.failed_read:
            failure.due_in = decision.due_in
            raise failure
        return decision.due_in

    # Observe ----------------------------------------------------------------------------------------------------------

    async def _observe(self, obj: Object) -> World:
        meta = obj["metadata"]
        owner = Owner(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])
        spec, lost_fields, invalid = read_spec(obj)
        reads = TolerantReads(self.cluster, owner)
        listed, route, evidence_map, prompt, secret = await asyncio.gather(
            list_owned(reads, owner),
            reads.get(HTTP_ROUTE, owner.namespace, owner.name),
            reads.get(CONFIG_MAP, owner.namespace, name_of(owner.name)),
            self._prompt(reads, owner.namespace, spec),
            self._secret(reads, owner.namespace, spec),
        )
        by_backend = self._view(route, owner)
        listed = await add_documents(reads, owner, listed, by_backend.weights)
        view = combined(by_backend, _documents(owner, listed), listed.read_records())
        owned = await add_unlabelled(reads, owner, listed, view.weights, by_backend.weights)
        owned = await add_lost_records(reads, owner, owned, _documents(owner, owned))
        owned, target = await self._target(reads, owner, spec, prompt, owned)
        if not reads.failed.keys().isdisjoint({Fact.PROMPT, Fact.RECORDS}):
            target = Target(current_target(owned.read_records(), view))
        if invalid:
            target = Target(None, Reason.INVALID_SPEC, str(invalid))
        owned, taken = await add_splits(reads, owner, owned, target.record)
        known = (*owned.read_records(), *([target.record] if target.record else []))
        view = combined(by_backend, _documents(owner, owned), known)
        if view.foreign:
            target = Target(None, Reason.ROUTE_REFUSED, view.refused)
        records = owned.read_records()
        installs = not any(record.promotion for record in records)
        if evidence_map and not is_ours(evidence_map, owner):
            if not installs:  # the first revision is not compared with anything
                target = Target(None, Reason.CHILD_REFUSED, _foreign("ConfigMap", name_of(owner.name)))
            evidence_map = None
        if taken:
            target = Target(None, Reason.CHILD_REFUSED, _foreign("ConfigMap", min(taken)))
        if owned.records_of_others and installs:  # they may say that the revision was rejected
            target = Target(None, Reason.CHILD_REFUSED, _unowned_record(owned.records_of_others[0]))
        saved_state = self._saved_state(owner, records, evidence_map, view, reads.failed)
        if not reads.failed.keys().isdisjoint({Fact.ROUTE, Fact.DOCUMENTS}):
            view = assumed_split(view, saved_state, records)
        source, watchable, readings = self._source(owner, spec, secret, reads.failed)
        snapshot = Snapshot(
            now=self.clock(),
            spec=spec,
            target=target.record,
            records=records,
            engines=engines(owner.name, owned.deployments, owned.pods),
            route=view,
            splits=split_views(owner.name, owned.splits),
            readings=readings,
            saved_state=saved_state,
            command=parse_command(
                meta.get("annotations", {}).get(ANNOTATION_COMMAND),
                meta.get("annotations", {}).get(ANNOTATION_SIGNATURE),
            ),
            spec_error=target.message,
            spec_reason=target.reason,
            policy=self.policy,
            unread={fact: str(error) for fact, error in reads.failed.items() if fact is not Fact.SECRET},
            unread_since=unread_since(stored_status(obj, LLMDeploymentStatus)),
            unreadable_records={record.revision: record.promotion for record in owned.unreadable_records()},
            unreadable_fields=lost_fields,
        )
        children = Children(
            records=tuple(owned.records),
            deployments=tuple(owned.deployments),
            budgets=tuple(owned.budgets),
            services=tuple(owned.services),
            splits=tuple(owned.splits),
            taken=taken,
            evidence=evidence_map,
            route=route,
        )
        failed = next(iter(reads.failed.values()), None)
        return World(
            owner, obj, with_current_replicas(snapshot), children, source, watchable, tuple(owned.pods), failed
        )

    def _view(self, route: Object | None, owner: Owner) -> RouteView:
        if route and not is_ours(route, owner):
            return RouteView({}, foreign=True, refused=_foreign("HTTPRoute", owner.name))
        return self.router.read(route, owner.name)

    async def _target(
        self, reads: TolerantReads, owner: Owner, spec: LLMDeploymentSpec, prompt: Object | None, owned: OwnedObjects
    ) -> tuple[OwnedObjects, Target]:
        """The revision of the spec, and the children with its record, even if that record has lost its label."""
        target = resolve(owner.name, spec, prompt, owned.read_records(), self.defaults)
        if target.record is not None and not target.record.recorded:
            # The record may say that the revision was rejected.
            named = await add_named(reads, CONTROLLER_REVISION, owner, owned.records, {target.record.revision})
            owned = replace(owned, records=named)
            target = resolve(owner.name, spec, prompt, owned.read_records(), self.defaults)
        return owned, without_unreadable(target, owned.unreadable_records())

    def _saved_state(
        self,
        owner: Owner,
        records: Collection[Record],
        evidence_map: Object | None,
        view: RouteView,
        failed: Container[Fact],
    ) -> TrialState | None:
        # Without a running trial the state is not needed, and most LLMDeployments run none.
        needed = any(r.trial and not r.rejection for r in records) or Fact.RECORDS in failed or Fact.ROUTE in failed
        # It names both sides, also if the records have lost what they remember.
        needed = needed or not any(is_proven(r) and view.weights.get(r.revision) for r in records)
        state = read_evidence(evidence_map) if needed else None
        if state:  # acknowledged here too, because the reconcile that persisted it may have failed afterwards
            self.collector.acknowledge((owner.namespace, owner.name), state.until, state.live_epochs)
        return state

    def _source(
        self, owner: Owner, spec: LLMDeploymentSpec, secret: Object | None, failed: Mapping[Fact, ClusterError]
    ) -> tuple[Server | None, bool, MetricReadings]:
        """The server to read, whether it is known, and what was read."""
        key = (owner.namespace, owner.name)
        readings = self.collector.readings(key)
        if Fact.SECRET in failed:  # its content was valid when the watch was set
            watch = self.collector.watched(key)
            if watch:
                return watch.server, True, readings
            return None, False, replace(readings, error=str(failed[Fact.SECRET]))
        try:
            return server(spec.analysis.prometheus, secret), True, readings
        except MetricsError as error:
            return None, False, replace(readings, error=str(error))

    async def _prompt(self, reads: TolerantReads, namespace: str, spec: LLMDeploymentSpec) -> Object | None:
        return await reads.get(PROMPTVERSION, namespace, spec.prompt.name) if spec.prompt else None

    async def _secret(self, reads: TolerantReads, namespace: str, spec: LLMDeploymentSpec) -> Object | None:
        named = spec.analysis.prometheus and spec.analysis.prometheus.auth_secret_ref
        return await reads.get(SECRET, namespace, named.name) if named else None

    # Report -----------------------------------------------------------------------------------------------------------

    async def _report(self, key: Key, world: World, decision: Decision, todo: Plan) -> ClusterError | None:
        """Write status and Events; returns the error of the status write, which stops nothing else."""
        error, wrote = None, False
        generation, before = world.obj["metadata"]["generation"], stored_status(world.obj, LLMDeploymentStatus)
        after = status(key[1], generation, world.snapshot, decision, before)
        try:
            wrote = await write_status(self.cluster, LLMDEPLOYMENT, world.obj, after)
        except ClusterError as failure:
            error = failure
        if wrote:
            for event in transition_events(before, after):
                await self.cluster.event(world.obj, event.reason, event.message, event.type, event.action)
        writes = len(todo.adopt) + len(todo.apply) + len(todo.delete) + wrote
        self.telemetry.decided(key, generation, decision, after.conditions, writes)
        return error

    def _watch(self, key: Key, world: World, decision: Decision, *, persisted: bool) -> None:
        """Tell the collector what to read next, which also acknowledges what the persisted state contains.

        Args:
            key: the LLMDeployment.
            world: what was observed.
            decision: what is wanted.
            persisted: whether the state of the decision is stored; if not, its counts are still needed.
        """
        wanted, saved, snapshot = decision.wanted, world.snapshot.saved_state, world.snapshot
        if not snapshot.unread.keys().isdisjoint({Fact.STATE, Fact.RECORDS}) and self.collector.watched(key):
            return  # what it asks for was decided with all facts
        if decision.reason is Reason.STABLE_RECORD_MISSING and saved and self.collector.watched(key):
            return  # a canary that still serves is judged by what it counts
        if wanted is None or not world.watchable:
            if not snapshot.unread:
                self.collector.drop(key)
            return
        if not persisted and wanted.read_until is not None:
            if saved is None or saved.trial != (decision.trial_state.trial if decision.trial_state else None):
                return  # the state of a trial that begins; its canary gets no weight before that is stored
            wanted = replace(wanted, read_until=saved.until, epochs=saved.live_epochs)
        self.collector.set_watch(Watch(**vars(wanted), namespace=key[0], name=key[1], server=world.server))


async def _decide(snapshot: Snapshot) -> Decision:
    """The decision; counted in another thread if much was read, as after an outage of Prometheus or of the operator.

    The event loop renews the Lease every few seconds and must not stand still for longer. The snapshot cannot change,
    and the collector holds a bounded number of intervals (`serin.metric_sources.unacknowledged`).
    """
    if len(snapshot.readings.intervals) <= AT_ONCE:
        return decide(snapshot)
    return await asyncio.to_thread(decide, snapshot)


def _documents(owner: Owner, owned: OwnedObjects) -> dict[str, SplitDocument]:
    return Children(splits=tuple(owned.splits)).documents(owner.name)


def _digests(world: World, todo: Plan, failures: Failures) -> dict[str, str]:
    """The digests of the stored documents by engine revision, those just written included."""
    written = () if failures.write else todo.apply
    stored = Children(splits=(*world.children.splits, *written)).documents(world.owner.name)
    return {engine: document.digest for engine, document in stored.items()}


def _unowned_record(obj: Object) -> str:
    name, controller = obj["metadata"]["name"], controller_of(obj)
    if controller is None:
        return f"ControllerRevision {name} is being deleted; Serin installs nothing before it is gone."
    return (
        f"ControllerRevision {name} looks like a record of this LLMDeployment and is owned by {controller}; remove its "
        "ownerReferences, then Serin adopts it, or delete it."
    )


def _foreign(kind: str, name: str) -> str:
    return f"{kind} {name} exists and is not owned by this LLMDeployment; delete it, or rename this LLMDeployment."
