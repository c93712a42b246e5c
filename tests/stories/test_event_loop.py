"""The event loop, which renews the Lease, goes on while a reconcile counts what an outage has left."""

from __future__ import annotations

import asyncio
import time

import pytest

from fakes.operator_in_memory import spec
from serin import reconciler
from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.snapshot import Snapshot
from tests.stories.story import HELD, Story

BUSY_SECONDS = 0.6
EVERY = 0.01


def counts_for_long(snapshot: Snapshot) -> Decision:
    """The decision, after a computation as long as that of many intervals of many metrics."""
    until = time.monotonic() + BUSY_SECONDS * (len(snapshot.readings.intervals) > 1)
    while time.monotonic() < until:
        sum(range(100))
    return decide(snapshot)


async def longest_stop(story: Story) -> float:
    """Seconds for which nothing else ran during the next reconcile."""
    gaps, last = [0.0], time.monotonic()

    async def renew() -> None:
        nonlocal last
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    renewal = asyncio.create_task(renew())
    await asyncio.sleep(EVERY)
    await story.tick()
    await asyncio.sleep(2 * EVERY)
    renewal.cancel()
    return max(gaps)


async def test_event_loop_runs_while_an_outage_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    story.world.user_applies(spec(**HELD))
    await story.run(5)
    story.world.user_applies(spec("better", **HELD))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    await story.run(1)
    before = story.world.status()["metrics"][0]["canary"]["requests"]
    for _ in range(20):
        story.world.pass_time(15)  # the operator runs, and Prometheus answers only now
    monkeypatch.setattr(reconciler, "decide", counts_for_long)
    assert await longest_stop(story) < BUSY_SECONDS / 2
    assert story.world.status()["metrics"][0]["canary"]["requests"] - before > 20 * 15 * 20
