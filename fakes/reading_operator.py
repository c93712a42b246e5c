"""Collector and reconciler on the clock of a `Busy` world: the operator from the answers of Prometheus to the route.

Callers: `tests/stories/trials.py`, `bench.measurement`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fakes.operator_in_memory import SilentTelemetry
from fakes.prometheus import answering
from fakes.traffic import SCRAPE_SECONDS, Busy
from fakes.world import KEY
from serin.cluster.port import CONFIG_MAP
from serin.kube_types import Key
from serin.manifests.engine_defaults import EngineDefaults
from serin.metric_sources.collector import Collector
from serin.metric_sources.prometheus import Prometheus
from serin.reconciler import Reconciler
from serin.rollout.snapshot import Policy
from serin.routers.gateway_api import GatewayApiRouter
from serin.settings import Settings

_TURNS = 12


@dataclass
class ReadingOperator:
    """Collector and reconciler, as they live in one process."""

    world: Busy
    due: datetime
    woken: bool = True
    collector: Collector = field(init=False)
    reconciler: Reconciler = field(init=False)

    def __post_init__(self) -> None:
        world, settings = self.world, Settings(identity="test", scrape_interval=SCRAPE_SECONDS)
        self.collector = Collector(
            Prometheus(settings, clock=lambda: world.now, connect=answering(world.prometheus)),
            interval=5.0,
            woke=self._wake,
        )
        self.reconciler = Reconciler(
            cluster=world.cluster,
            router=GatewayApiRouter(),
            collector=self.collector,
            telemetry=SilentTelemetry(),
            clock=lambda: world.now,
            defaults=EngineDefaults(image="vllm:test", model_server_image="serin:test"),
            policy=Policy(slice_seconds=SCRAPE_SECONDS),
        )

    def _wake(self, key: Key) -> None:
        assert key == KEY
        self.woken = True

    async def tick(self) -> None:
        """Read, and reconcile as long as there is something to do: what the work queue does."""
        await self.collector.collect()
        for _ in range(_TURNS):
            if not (self.woken or self.world.now >= self.due):
                return
            self.woken, before = False, len(self.world.cluster.writes)
            due = await self.reconciler.reconcile(KEY)
            self.due = self.world.now + (due if due is not None else timedelta(days=1))
            # Its own writes of trial state and status wake no reconcile.
            written = self.world.cluster.writes[before:]
            self.woken = any(call.verb in {"apply", "delete"} and call.kind is not CONFIG_MAP for call in written)
        raise AssertionError("the operator keeps writing to a world that stands still")

    async def live(self, seconds: float) -> None:
        """Let time pass in the world, and see what has changed, as a watch would tell."""
        before = self.world.cluster.changes
        self.world.pass_time(seconds)
        self.woken |= self.world.cluster.changes != before
        await self.tick()
