"""The cost of reconciling a settled LLMDeployment, as a multiple of decoding the same objects from JSON.

The resync reconciles thousands of settled deployments; that must cost about as much as the API client's decoding. Both
are timed in turn in one process, and the median ratio is printed. There is no I/O: the API server's part would be equal
for both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable

from fakes.operator_in_memory import reconciler, spec
from fakes.world import KEY, World
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, LLMDEPLOYMENT, POD
from serin.cluster.port import POD_DISRUPTION_BUDGET as BUDGET
from serin.cluster.port import SERVICE as SERVICES
from serin.rollout.phases import Phase

ROUNDS = 50
BATCH = 20
_TICKS, _TICK_SECONDS = 360, 5


def main() -> None:
    """Measure and print one line."""
    world = World()
    world.user_applies(spec())
    asyncio.run(_settle(world))
    settled = reconciler(world)
    kinds = (LLMDEPLOYMENT, CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICES, BUDGET, HTTP_ROUTE)
    texts = [json.dumps(obj) for kind in kinds for obj in world.cluster.all(kind)]
    loop = asyncio.new_event_loop()
    writes = len(world.cluster.writes)

    def reconcile() -> None:
        loop.run_until_complete(settled.reconcile(KEY))

    def decode() -> None:
        for text in texts:
            json.loads(text)

    ratios = [_seconds(reconcile) / _seconds(decode) for _ in range(ROUNDS)]
    loop.close()
    if len(world.cluster.writes) != writes:
        raise SystemExit("A reconcile of a settled deployment wrote something. Run the stories to see why.")
    low, median, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"settled: a reconcile costs {median:.1f} times decoding its {len(texts)} objects ({low:.1f} to {high:.1f})")


async def _settle(world: World) -> None:
    """Let time pass and reconcile until the LLMDeployment is stable."""
    for _ in range(_TICKS):
        world.pass_time(_TICK_SECONDS)
        before = -1
        while before < len(world.cluster.writes):
            before = len(world.cluster.writes)
            await reconciler(world).reconcile(KEY)
        if world.status().get("phase") == Phase.STABLE:
            return
    raise SystemExit(f"The deployment is not stable after {_TICKS * _TICK_SECONDS} s. Run the stories to see why.")


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(BATCH):
        work()
    return time.perf_counter() - began
