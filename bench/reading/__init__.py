"""The operator's cost of one reading of Prometheus, when the stables still have series of every earlier epoch.

A pod has a series for each of 32 epochs, but only those of a few epochs can still grow. Queries for these and queries
for all are timed in turn in one process, and the median ratio of processor time is printed: decoding, folding and
summing. The server's part is not included: its answers are made before.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.prometheus import FakePrometheus
from serin.analysis.counts import Tally
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings

ROLLOUTS, PODS, EPOCHS, ROUNDS = 20, 3, 32, 5
LIVE = (7, 8, 9, 10, 11)
"""The running epoch, and four that may begin before the collector knows them."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = tuple(str(bound) for bound in range(22))
REQUESTS, TTFT = Tally("serin_requests_total", by="outcome"), Tally("serin_ttft_bucket", by="le")


def main() -> None:
    """Measure and print one line."""
    store = _store()
    ratios, longest = [], 0.0
    for _ in range(ROUNDS):
        (live, stood), (everything, _) = (asyncio.run(_read(store, epochs)) for epochs in (LIVE, None))
        ratios.append(everything / live)
        longest = max(longest, stood)
    low, median, high = min(ratios), statistics.median(ratios), max(ratios)
    print(
        f"reading: {ROLLOUTS} rollouts, all {EPOCHS} epochs cost {median:.1f} times what the live ones do "
        f"({low:.1f} to {high:.1f}); the event loop was blocked for {1000 * longest:.0f} ms at most"
    )


def _store() -> FakePrometheus:
    store = FakePrometheus(lambda: round(NOW.timestamp() * 1000))
    for rollout in range(ROLLOUTS):
        for pod in range(PODS):
            for epoch in range(EPOCHS):
                target = {"instance": f"10.0.{rollout}.{pod}:8000", "job": "pods", "namespace": "ns"}
                labels = target | {"revision": f"stable{rollout}", "epoch": str(epoch), "deployment": f"llm{rollout}"}
                series = [("serin_requests_total", {"outcome": o}) for o in ("ok", "server_error", "timed_out")]
                series += [("serin_ttft_bucket", {"le": bound}) for bound in BOUNDS]
                for name, more in series:
                    keep = store.handle(name, labels | more)
                    for scrape in range(8):
                        at = round((NOW - timedelta(seconds=120 - 15 * scrape)).timestamp() * 1000)
                        keep(at, 1000 + scrape * (epoch == LIVE[0]))
    return store


async def _read(store: FakePrometheus, epochs: tuple[int, ...] | None) -> tuple[float, float]:
    """Return seconds of processor time, and the longest time for which the event loop was blocked."""
    watches = [
        Watch(
            NOW - timedelta(seconds=30),
            ((f"stable{n}", f"engine{n}"), (f"canary{n}", f"other{n}")),
            (REQUESTS, TTFT),
            epochs=epochs,
            by_process_of=f"stable{n}",
            by_process=(REQUESTS,),
            namespace="ns",
            name=f"llm{n}",
        )
        for n in range(ROLLOUTS)
    ]
    answers: dict[str, str] = {}

    class Answering:
        used = 0.0

        async def query(self, query: str, at: int | None = None) -> Any:
            key = f"{query} {at}"
            if key in answers:
                # In a thread, as the connection does.
                return await asyncio.to_thread(json.loads, answers[key])
            found = store.query(query, at)
            answers[key] = json.dumps(found)
            return found

        def close(self) -> None:
            """Nothing is open."""

    source = Prometheus(Settings(identity="bench"), clock=lambda: NOW, connect=lambda *_, **__: Answering())
    told = await source.read(watches)  # makes the answers
    if not all(evidence.intervals and evidence.intervals[0].counts for evidence in told.values()):
        raise SystemExit("bench: The readings are empty. See serin.metric_sources.queries.")
    watching = asyncio.create_task(_longest_pause())
    await asyncio.sleep(0)
    began = time.process_time()
    await source.read([replace(watch) for watch in watches])
    spent = time.process_time() - began
    watching.cancel()
    source.close()
    return spent, await watching


async def _longest_pause() -> float:
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return max(longest, time.perf_counter() - before)
