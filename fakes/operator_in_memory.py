"""The real reconciler between a world in memory and a telemetry that drops everything. Callers: stories, benchmarks."""

from __future__ import annotations

from typing import Any

from fakes.world import World
from serin.manifests.engine_defaults import EngineDefaults
from serin.reconciler import Reconciler
from serin.rollout.snapshot import Policy
from serin.routers.gateway_api import GatewayApiRouter


class SilentTelemetry:
    """Telemetry that drops everything."""

    def decided(self, *_: object) -> None: ...

    def forget(self, *_: object) -> None: ...


def reconciler(world: World, model_server: str | None = "serin:test") -> Reconciler:
    """Return a new reconciler of this world; without a model server image pods have no middleware."""
    return Reconciler(
        cluster=world.cluster,
        router=GatewayApiRouter(),
        collector=world,
        telemetry=SilentTelemetry(),
        clock=lambda: world.now,
        defaults=EngineDefaults(image="vllm:test", model_server_image=model_server),
        policy=Policy(),
    )


def spec(behaviour: str = "good", **more: Any) -> dict[str, Any]:
    """Return an LLMDeployment's spec with three steps of a minute; `behaviour` is that of its engines."""
    steps = [{"weight": 5, "hold": "1m"}, {"weight": 25, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
    base: dict[str, Any] = {
        "model": {"name": "triage", "source": "file:///models/triage"},
        "engine": {"args": {"test-behaviour": behaviour}},
        "replicas": 3,
        "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
        "rollout": {"ramp": {"steps": steps}, "minimumBake": "1m", "drainTimeout": "5m", "progressDeadline": "10m"},
    }
    return base | more
