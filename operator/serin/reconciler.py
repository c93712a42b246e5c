"""One reconcile of an LLMDeployment: observe -> decide -> plan -> execute -> report.

Called by the work queue for one LLMDeployment at a time. Decisions are made in the pure modules that it calls; I/O goes
through the cluster and the collector. An invalid spec or record becomes a condition. A failed request to the API server
is raised, and the queue retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from serin.analysis.trial_state import TrialState
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import ANNOTATION_COMMAND
from serin.api.parse import parse_llmdeployment
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
from serin.errors import ClusterError, MetricsError, RecordError, SpecError
from serin.kube_types import Key, Object
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.evidence_map import name_of, read_evidence
from serin.manifests.observed import engines, split_views
from serin.manifests.owner import Owner
from serin.manifests.split_document import SplitDocument
from serin.metric_sources.port import ReadingsSource, Server, Watch
from serin.metric_sources.server import server
from serin.owned_objects import OwnedObjects, add_named, add_splits, add_unlabelled, is_owned, list_owned
from serin.plan_execution import Failures, execute
from serin.planner import Children, Plan, plan
from serin.reporting.events import transition_events
from serin.reporting.refusal import with_refusal
from serin.reporting.status import blocked_status, status
from serin.resolve import Target, resolve
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import Policy, RouteView, Snapshot
from serin.routers.port import Router
from serin.routers.split import combined
from serin.split_delivery import deliver, evict
from serin.status_writing import stored_status, write_status
from serin.workqueue import FORGET


class Telemetry(Protocol):
    """Logs and metrics, as the reconciler uses them."""

    def decided(
        self, key: Key, generation: int, decision: Decision, conditions: Iterable[Condition], writes: int
    ) -> None:
        """Record a complete reconcile."""

    def stopped(self, key: Key, reason: Reason, message: str) -> None:
        """Record a reconcile that ended before a decision."""

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
            ClusterError: the API server did not answer, or refused a write.
        """
        obj = await self.cluster.get(LLMDEPLOYMENT, *key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            self.collector.drop(key)
            self.telemetry.forget(key)
            return FORGET
        try:
            world = await self._observe(obj, parse_llmdeployment(obj))
        except (SpecError, RecordError) as unreadable:
            await self._report_unreadable(obj, unreadable)
            return None
        decision = decide(world.snapshot)
        todo = plan(world.owner, self.router, world.snapshot, decision, world.children)
        failures = await execute(self.cluster, world.owner, todo)
        await deliver(self.cluster, world.pods, _digests(world, todo, failures))
        evicted = None if failures.write else await evict(self.cluster, world.pods, decision.evicted)
        reported = replace(decision, message=f"{evicted} {decision.message}") if evicted else decision
        if failures.refusal:
            before = stored_status(obj, LLMDeploymentStatus)
            snapshot, reported = with_refusal(world.snapshot, decision, failures.refusal, before)
            world = replace(world, snapshot=snapshot)
        status_error = await self._report(key, world, reported, todo)
        # After a refused write the trial state may not be persisted, so nothing new is watched or acknowledged.
        if not failures.write:
            self._watch(key, world, decision)
        if failure := failures.first or status_error:
            raise failure
        return decision.due_in

    # Observe ----------------------------------------------------------------------------------------------------------

    async def _observe(self, obj: Object, spec: LLMDeploymentSpec) -> World:
        meta = obj["metadata"]
        owner = Owner(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])
        listed, route, evidence_map, prompt, secret = await asyncio.gather(
            list_owned(self.cluster, owner),
            self.cluster.get(HTTP_ROUTE, owner.namespace, owner.name),
            self.cluster.get(CONFIG_MAP, owner.namespace, name_of(owner.name)),
            self._prompt(owner.namespace, spec),
            self._secret(owner.namespace, spec),
        )
        by_backend = self._view(route, owner)
        view = combined(by_backend, _documents(owner, listed), listed.read_records())
        owned = await add_unlabelled(self.cluster, owner, listed, view.weights, by_backend.weights)
        owned, target = await self._target(owner, spec, prompt, owned)
        owned, taken = await add_splits(self.cluster, owner, owned, target.record)
        known = (*owned.read_records(), *([target.record] if target.record else []))
        view = combined(by_backend, _documents(owner, owned), known)
        if view.foreign:
            target = Target(None, Reason.ROUTE_REFUSED, view.refused)
        if evidence_map and not is_owned(evidence_map, owner):
            target = Target(None, Reason.CHILD_REFUSED, _foreign("ConfigMap", name_of(owner.name)))
            evidence_map = None
        if taken:
            target = Target(None, Reason.CHILD_REFUSED, _foreign("ConfigMap", min(taken)))
        records = owned.read_records()
        saved_state = self._saved_state(owner, records, evidence_map)
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
            engines=engines(owner.name, owned.deployments, owned.pods),
            route=view,
            splits=split_views(owner.name, owned.splits),
            readings=readings,
            saved_state=saved_state,
            command=parse_command(meta.get("annotations", {}).get(ANNOTATION_COMMAND)),
            spec_error=target.message,
            spec_reason=target.reason,
            policy=self.policy,
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
        return World(owner, obj, snapshot, children, source, watchable, tuple(owned.pods))

    def _view(self, route: Object | None, owner: Owner) -> RouteView:
        if route and not is_owned(route, owner):
            return RouteView({}, foreign=True, refused=_foreign("HTTPRoute", owner.name))
        return self.router.read(route, owner.name)

    async def _target(
        self, owner: Owner, spec: LLMDeploymentSpec, prompt: Object | None, owned: OwnedObjects
    ) -> tuple[OwnedObjects, Target]:
        """The revision of the spec, and the children with its record, even if that record has lost its label."""
        target = resolve(owner.name, spec, prompt, owned.read_records(), self.defaults)
        if target.record is None or target.record.recorded:
            return owned, target
        # The record may say that the revision was rejected.
        named = await add_named(self.cluster, CONTROLLER_REVISION, owner, owned.records, {target.record.revision})
        owned = replace(owned, records=named)
        return owned, resolve(owner.name, spec, prompt, owned.read_records(), self.defaults)

    def _saved_state(self, owner: Owner, records: Iterable[Record], evidence_map: Object | None) -> TrialState | None:
        # Without a running trial the state is not needed, and most LLMDeployments run none.
        state = read_evidence(evidence_map) if any(r.trial and not r.rejection for r in records) else None
        if state:  # acknowledged here too, because the reconcile that persisted it may have failed afterwards
            self.collector.acknowledge((owner.namespace, owner.name), state.until, state.live_epochs)
        return state

    async def _prompt(self, namespace: str, spec: LLMDeploymentSpec) -> Object | None:
        return await self.cluster.get(PROMPTVERSION, namespace, spec.prompt.name) if spec.prompt else None

    async def _secret(self, namespace: str, spec: LLMDeploymentSpec) -> Object | None:
        named = spec.analysis.prometheus and spec.analysis.prometheus.auth_secret_ref
        return await self.cluster.get(SECRET, namespace, named.name) if named else None

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
        writes = len(todo.apply) + len(todo.delete) + wrote
        self.telemetry.decided(key, generation, decision, after.conditions, writes)
        return error

    async def _report_unreadable(self, obj: Object, error: SpecError | RecordError) -> None:
        """Write only the status: without a readable spec and readable records nothing else is safe."""
        reason = Reason.INVALID_SPEC if isinstance(error, SpecError) else Reason.RECORD_UNREADABLE
        generation, before = obj["metadata"]["generation"], stored_status(obj, LLMDeploymentStatus)
        after = blocked_status(generation, self.clock(), before, reason, str(error))
        await write_status(self.cluster, LLMDEPLOYMENT, obj, after)
        self.telemetry.stopped((obj["metadata"]["namespace"], obj["metadata"]["name"]), reason, str(error))

    def _watch(self, key: Key, world: World, decision: Decision) -> None:
        """Tell the collector what to read next, which also acknowledges what the persisted state contains."""
        if decision.wanted is None or not world.watchable:
            self.collector.drop(key)
        else:
            self.collector.set_watch(Watch(**vars(decision.wanted), namespace=key[0], name=key[1], server=world.server))


def _documents(owner: Owner, owned: OwnedObjects) -> dict[str, SplitDocument]:
    return Children(splits=tuple(owned.splits)).documents(owner.name)


def _digests(world: World, todo: Plan, failures: Failures) -> dict[str, str]:
    """The digests of the stored documents by engine revision, those just written included."""
    written = () if failures.write else todo.apply
    stored = Children(splits=(*world.children.splits, *written)).documents(world.owner.name)
    return {engine: document.digest for engine, document in stored.items()}


def _foreign(kind: str, name: str) -> str:
    return f"{kind} {name} exists and is not owned by this LLMDeployment; delete it, or rename this LLMDeployment."
