"""What the reconciler observed at one moment, frozen: the only input of `serin.rollout.decide`.

Built by the reconciler from the API server's objects and the collector's readings. It holds facts; the guards judge
them. Weights are parts of 10,000; times are timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from serin.analysis.counts import NO_READINGS, MetricReadings
from serin.analysis.presets import DEFAULT_SERIES, Series
from serin.analysis.trial_state import TrialState
from serin.rollout.reasons import Reason

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec
    from serin.rollout.commands import Command, MalformedCommand
    from serin.rollout.record import Record


@dataclass(frozen=True)
class PodView:
    """One pod of an engine revision, by its status."""

    name: str
    ready: bool
    not_ready_since: datetime | None = None
    """When the pod last stopped being Ready, or was created; None while it is Ready."""
    unschedulable: str | None = None
    """The scheduler's sentence while no node takes the pod."""
    crash: str | None = None
    """Why the engine container counts as crashed (CrashLoopBackOff, OOMKilled, …) with its last words, or None."""
    waiting: str | None = None
    """Why a container has not started (ImagePullBackOff, …) with the kubelet's message or its last words, or None."""
    deleting: bool = False
    ready_since: datetime | None = None
    """When the pod last became Ready; None while it is not, or if that is unknown."""
    exits: int = 0
    """How often the engine container has ended since the pod was created."""
    assigned: bool = True
    """Whether the scheduler has chosen a node."""
    log: tuple[str, ...] = ()
    """The last lines of the log of a container that failed."""


@dataclass(frozen=True)
class EndedPod:
    """A pod that has ended for good (evicted, refused by its node); only its object is left."""

    name: str
    why: str
    created_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class PodTrouble:
    """What one pod says about why it is not Ready."""

    pod: str
    cause: str
    log: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """A sentence for the end of a message, with the space before it."""
        return f" Pod {self.pod}: {self.cause}."


@dataclass(frozen=True)
class EngineView:
    """One Deployment: the pods of one engine revision."""

    engine_revision: str
    replicas: int
    """Replicas that its spec asks for."""
    pods: tuple[PodView, ...] = ()
    replica_failure: str | None = None
    """The ReplicaFailure condition's message (quota, admission), or None."""
    replica_failure_since: datetime | None = None
    ended: tuple[EndedPod, ...] = ()
    """Pods that have ended; their Deployment replaces them."""

    @property
    def ready(self) -> int:
        """The number of pods that are Ready and not being deleted."""
        return sum(pod.ready and not pod.deleting for pod in self.pods)

    @property
    def no_node(self) -> str | None:
        """The sentence of the scheduler or of the quota that keeps pods from starting, or None."""
        pending = next((pod.unschedulable for pod in self.pods if pod.unschedulable and not pod.deleting), None)
        return pending or self.replica_failure

    @property
    def unassigned(self) -> str | None:
        """The sentence that the scheduler says nothing about a pod; every new pod is so for a moment."""
        found = next((p.name for p in self._not_ready if not (p.assigned or p.ready)), None)
        return f"no scheduler has chosen a node for pod {found}" if found else None

    @property
    def trouble(self) -> PodTrouble | None:
        """Why pods are not Ready, as far as one of them says so: those that live first, then the last that ended."""
        for pod in self._not_ready:
            if cause := pod.crash or pod.waiting:
                return PodTrouble(pod.name, cause, pod.log)
        last = max(self.ended, key=lambda pod: (pod.ended_at, pod.name), default=None)
        return PodTrouble(last.name, f"the pod ended: {last.why}") if last else None

    def not_ready_since(self, now: datetime, deadline: timedelta) -> datetime | None:
        """Since when a pod has been missing, or pods cannot be created; None if none is, as far as is known.

        Pods that end and are replaced again and again count as one that is missing since the first of them began.
        """
        times = [pod.not_ready_since for pod in self._not_ready if pod.not_ready_since]
        lately = [pod.created_at for pod in self.ended if now - pod.ended_at <= 2 * deadline]
        times += [min(lately)] if len(lately) >= KEEP_ENDING else []
        times += [self.replica_failure_since] if self.replica_failure_since else []
        return min(times, default=None)

    @property
    def _not_ready(self) -> list[PodView]:
        return [pod for pod in self.pods if not pod.ready and not pod.deleting]


KEEP_ENDING = 3
"""So many pods that have ended are no coincidence: their replacements end too."""

ADD_CAPACITY = "add or free a node, raise the quota, or correct the policy"
"""What to do about the sentence of `EngineView.no_node`."""


def ready_of(ready: int, needed: int) -> str:
    """`0 of 1 pod is Ready`, `1 of 3 pods are Ready`: the beginning or the end of a sentence."""
    return f"{ready} of {needed} pod is Ready" if needed == 1 else f"{ready} of {needed} pods are Ready"


@dataclass(frozen=True)
class RouteView:
    """The current split, read from the HTTPRoute and the split documents, and whether the gateway serves the route."""

    weights: Mapping[str, int]
    """Weight by revision, in parts of 10,000, one of weight 0 included; empty without a route.

    A router reads weights by backend; `serin.routers.split` combines them with the documents.
    """
    exists: bool = True
    programmed: bool = False
    """Accepted and ResolvedRefs at the current generation on every parent."""
    accepted: bool = False
    """Every parent accepts the route, at this generation or the last one that it has observed."""
    refused: str | None = None
    """The sentence of a parent that refuses the route at its current generation, or None."""
    foreign: bool = False
    """The route has the LLMDeployment's name but another owner; it is neither read nor written."""
    changed_at: datetime | None = None
    """When our field manager last changed it (whole seconds)."""
    epoch: int | None = None
    """The epoch that requests get, from the route or from the pods that split; None: none."""
    sequence: int | None = None
    """The highest number of a split in the route and in all documents; None: there is none."""
    backends: tuple[str, ...] = ()
    """The backends of the route, in its order; `Resolved.backend` names that of a revision."""


NO_ROUTE = RouteView(weights={}, exists=False)


@dataclass(frozen=True)
class SplitView:
    """The stored split document of one engine revision."""

    digest: str
    """Names the document in the pods' series."""
    revisions: tuple[str, ...]
    """Those that the pods know, one of weight 0 included."""
    changed_at: datetime | None = None
    """When our field manager last changed it (whole seconds)."""


class Fact(StrEnum):
    """What a reconcile reads from the API server; the value stands in messages."""

    ROUTE = "the HTTPRoute"
    RECORDS = "ControllerRevisions"
    STATE = "the ConfigMap of the trial state"
    DOCUMENTS = "the ConfigMaps of the split documents"
    DEPLOYMENTS = "Deployments"
    PODS = "Pods"
    SERVICES = "Services"
    BUDGETS = "PodDisruptionBudgets"
    PROMPT = "the PromptVersion"
    SECRET = "the Secret of Prometheus"  # noqa: S105 - words for a message


@dataclass(frozen=True)
class Policy:
    """The operator's settings that decisions depend on."""

    settle_seconds: float = 2.0
    """How long after it was programmed a route counts as served."""
    slice_seconds: float = 15.0
    """The scrape interval: bad answers are counted at the earliest after it."""
    lag_seconds: float = 15.0
    """The usual age of the newest sample when it is read."""
    series: Series = DEFAULT_SERIES
    """Names of the series that presets read."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that one decision rests on."""

    now: datetime
    spec: LLMDeploymentSpec
    target: Record | None
    """The revision that the spec asks for, recorded or about to be; None if the spec is invalid."""
    records: tuple[Record, ...] = ()
    """Every ControllerRevision that belongs to the LLMDeployment, oldest first; includes the target once recorded."""
    engines: Mapping[str, EngineView] = field(default_factory=dict)
    """By engine revision."""
    route: RouteView = NO_ROUTE
    splits: Mapping[str, SplitView] = field(default_factory=dict)
    """By engine revision; a document that cannot be read is absent, and is written again."""
    readings: MetricReadings = NO_READINGS
    saved_state: TrialState | None = None
    """The saved trial state, perhaps of an earlier trial; None if there is none, or it cannot be read."""
    command: Command | MalformedCommand | None = None
    """What the command annotation asks for; None without one."""
    spec_error: str | None = None
    """Why there is no target: one sentence that ends with what to do."""
    spec_reason: Reason = Reason.ACCEPTED
    """Why the spec is or is not accepted: Accepted, InvalidSpec, or a reason about its prompt."""
    policy: Policy = Policy()
    unread: Mapping[Fact, str] = field(default_factory=dict)
    """What was not read, and why, in one sentence each. What is absent above because of that may exist."""
    unread_since: datetime | None = None
    """Since when reads have failed, as the status says; None: since this reconcile, or they do not."""
    unreadable_records: Mapping[str, int] = field(default_factory=dict)
    """Revisions whose record cannot be read and is not in `records`, with the number of their promotion; 0: none."""
    unreadable_fields: frozenset[str] = frozenset()
    """Top-level fields of the spec that break a rule: in `spec` they have what can be read of them, else defaults."""

    @property
    def pods_are_known(self) -> bool:
        """Whether Deployments and pods were read; if not, `engines` says nothing."""
        return self.unread.keys().isdisjoint({Fact.DEPLOYMENTS, Fact.PODS})

    @property
    def split_is_known(self) -> bool:
        """Whether route and split documents were read; if not, `route` has the weights that the trial state names."""
        return self.unread.keys().isdisjoint({Fact.ROUTE, Fact.DOCUMENTS})
