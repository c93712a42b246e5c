"""The rollouts that these tests count, each with revisions and pods of its own. Called by the tests beside it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from serin.analysis.counts import Tally
from serin.metric_sources.port import Watch
from tests.integration.scraped import REQUESTS, Pod, Pods

TALLY = Tally(REQUESTS, by="outcome")
numbers = count()


def watch(*tallies: Tally, name: str = "triage", engines: Sequence[str] = ("e1", "e2"), **more: Any) -> Watch:
    """A canary on its first requests, with revisions that no other test uses."""
    number = next(numbers)
    revisions = tuple((f"{role}{number}", engine) for role, engine in zip(("stable", "canary"), engines, strict=True))
    return Watch(datetime.now(UTC), revisions, tallies or (TALLY,), namespace="ns", name=name, **more)


async def two(pods: Pods, **labels: str) -> tuple[Pod, Pod]:
    """Return two pods that no other test has used, after their first scrape."""
    names = [
        name for name, its in pods.labels.items() if its == {"instance": name, **labels} and name not in pods.taken
    ]
    pods.taken.update(names[:2])
    one, other = (pods.pods[name] for name in names[:2])
    await scraped(*(pod for pod in (one, other) if not pod.scrapes))
    return one, other


async def scraped(*pods: Pod) -> None:
    """Wait until each was scraped once from now on."""
    await asyncio.gather(*(pod.scraped() for pod in pods))
