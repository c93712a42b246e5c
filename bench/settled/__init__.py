"""What a look at a settled LLMDeployment costs, as a multiple of only decoding the same objects from JSON.

Thousands of settled deployments are looked at by the slow resync; the thinking must stay in the order of what the
API client does anyway. Both sides are timed in turn in one process; the median ratio is printed. No I/O is involved:
the API server's part is the same for both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable

from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, LLMDEPLOYMENT, POD
from serin.cluster.port import POD_DISRUPTION_BUDGET as BUDGET
from serin.cluster.port import SERVICE as SERVICES
from serin.rollout.phases import Phase
from tests.fakes.world import KEY
from tests.stories.story import Story, spec

ROUNDS = 50
BATCH = 20


def main() -> None:
    """Measure and print one line."""
    story = Story()
    story.world.user_applies(spec())
    asyncio.run(story.until_phase(Phase.STABLE))
    reconciler = story.reconciler()
    kinds = (LLMDEPLOYMENT, CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICES, BUDGET, HTTP_ROUTE)
    texts = [json.dumps(obj) for kind in kinds for obj in story.world.cluster.all(kind)]
    loop = asyncio.new_event_loop()
    writes = len(story.world.cluster.writes)

    def look() -> None:
        loop.run_until_complete(reconciler.reconcile(KEY))

    def decode() -> None:
        for text in texts:
            json.loads(text)

    ratios = [_seconds(look) / _seconds(decode) for _ in range(ROUNDS)]
    loop.close()
    if len(story.world.cluster.writes) != writes:
        raise SystemExit("A settled deployment was written to; run the stories to see why.")
    low, median, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"settled: one look costs {median:.1f} times decoding its {len(texts)} objects ({low:.1f} to {high:.1f})")


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(BATCH):
        work()
    return time.perf_counter() - began
