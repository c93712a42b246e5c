"""A story whose operator reconciles only when the real one would: a watch event, the collector, a due time, the resync.

The stories beside it reconcile every five seconds on whole seconds, so none of them notices a due time that is missing.
Here the real `Schedule` and the real collector decide, and time passes in steps that are no whole seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from fakes.world import KEY, World
from serin.analysis.counts import MetricReadings
from serin.api.names import LABEL_DEPLOYMENT
from serin.cluster.port import LLMDEPLOYMENT, PROMPTVERSION
from serin.errors import ClusterError
from serin.handlers import CHILDREN
from serin.kube_types import Key
from serin.metric_sources.collector import Collector
from serin.metric_sources.port import Watch
from serin.reconciler import Reconciler
from serin.workqueue import Schedule
from tests.stories.story import Story

STEP_SECONDS = 0.7
READ_EVERY = 5.0
RESYNC_SECONDS = 600.0
TURNS = 20


@dataclass
class _Source:
    """What Prometheus would answer: the world's own counts."""

    world: World

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, MetricReadings]:
        found = {}
        for watch in watches:
            self.world.set_watch(watch)
            found[watch.key] = self.world.readings(watch.key)
        return found


@dataclass
class WokenStory(Story):
    """One rollout; between two wake-ups nothing is reconciled."""

    reconciles: int = 0
    step: float = STEP_SECONDS
    """Seconds by which time passes at once; between two steps any number of reconciles may happen."""
    operator_ahead: float = 0.0
    """Seconds by which the clock of the operator differs from that of the API server."""
    schedule: Schedule = field(default_factory=lambda: Schedule(RESYNC_SECONDS))
    collector: Collector = field(init=False)
    _versions: dict[tuple[str, str], Any] = field(default_factory=dict)
    _read_at: float = 0.0

    def __post_init__(self) -> None:
        self.collector = Collector(_Source(self.world), interval=READ_EVERY, woke=self._mark)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return (self.world.now - self.world.started).total_seconds()

    def reconciler(self) -> Reconciler:
        ahead = timedelta(seconds=self.operator_ahead)
        return replace(super().reconciler(), collector=self.collector, clock=lambda: self.world.now + ahead)

    async def run(self, minutes: float, until: Callable[[Story], bool] | None = None) -> None:
        for _ in range(int(minutes * 60 / self.step)):
            await self.tick()
            if until and until(self):
                return
        assert until is None, f"did not happen in {minutes} minutes:\n" + "\n".join(self.transcript)

    async def tick(self) -> None:
        self.world.pass_time(self.step)
        if self.each_tick:
            self.each_tick(self)
        self._watch()
        if self.seconds - self._read_at >= READ_EVERY:
            self._read_at = self.seconds
            await self.collector.collect()
        for _ in range(TURNS):
            if self.schedule.take(self.seconds) is None:
                return
            self.reconciles += 1
            try:
                due = await self.reconciler().reconcile(KEY)
            except ClusterError as error:
                self.schedule.failed(KEY, self.seconds, error.due_in)
            else:
                self.schedule.done(KEY, self.seconds, due)
            self._check_weights()
            self._note()
            self._watch()
        raise AssertionError("the operator reconciles without end at one moment:\n" + "\n".join(self.transcript))

    def _mark(self, key: Key) -> None:
        self.schedule.mark(key, self.seconds)

    def _watch(self) -> None:
        """Mark the key if anything that is watched has changed."""
        versions = {
            (kind.kind, obj["metadata"]["name"]): obj["metadata"]["resourceVersion"]
            for kind in (LLMDEPLOYMENT, PROMPTVERSION, *CHILDREN)
            for obj in self.world.cluster.all(kind)
            if kind not in CHILDREN or LABEL_DEPLOYMENT in obj["metadata"].get("labels", {})
        }
        if versions != self._versions:
            self._versions = versions
            self._mark(KEY)
