"""What Prometheus hands over otherwise than one pod's counters at once: what is counted then. Called by `main`.

A stable of two pods and a canary of one, scraped every 15 s at moments of their own and read every 5 s. Counted is what
the source of the operator gives for a trial that begins in the middle.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fakes.prometheus import FakePrometheus, Stored, answering
from serin.analysis.counts import Tally
from serin.analysis.presets import ERROR_MARGIN
from serin.evidence.metric import MetricParameters
from serin.evidence.noise import Noise
from serin.evidence.slices import Counts
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings

SCRAPE, READ = 15, 5
WARM_UP, SECONDS = 600, 1500
EARLIER = 1_000_000
"""Requests that each pod has answered before."""
PODS = {"stable": (("a", 2, 7), ("b", 9, 7)), "canary": (("c", 5, 2),)}
"""By revision: the pods, the second of their scrapes, and their requests per second."""
REQUESTS = Tally("serin_requests_total", by="outcome")
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class _Visible:
    """A series of which the newest samples cannot be queried yet."""

    stored: Stored
    until: int

    @property
    def labels(self) -> dict[str, str]:
        return self.stored.labels

    def within(self, after: int, until: int) -> list[list[Any]]:
        return self.stored.within(after, min(until, self.until))


@dataclass
class LateServer(FakePrometheus):
    """Samples can be queried only some seconds after their time."""

    seconds: float = 0.0

    def _select(self, name: str, matchers: str, over: str) -> Iterator[tuple[Any, int]]:
        visible = self.clock() - round(1000 * self.seconds)
        return ((_Visible(stored, visible), span) for stored, span in super()._select(name, matchers, over))


@dataclass
class SkewedServer(FakePrometheus):
    """Its clock, with which it stamps all samples, is ahead of the operator's."""

    seconds: float = 0.0

    def __post_init__(self) -> None:
        right, ahead = self.clock, round(1000 * self.seconds)
        self.clock = lambda: right() + ahead

    def handle(self, name: str, labels: Mapping[str, str]) -> Callable[[int, float], None]:
        """See `FakePrometheus`."""
        keep, ahead = super().handle(name, labels), round(1000 * self.seconds)
        return lambda at, value: keep(at + ahead, value)


@dataclass
class DoubleServer(FakePrometheus):
    """Two jobs scrape all pods."""

    def handle(self, name: str, labels: Mapping[str, str]) -> Callable[[int, float], None]:
        """See `FakePrometheus`."""
        once, again = super().handle(name, labels), super().handle(name, {**labels, "job": "second"})

        def keep(at: int, value: float) -> None:
            once(at, value)
            again(at, value)

        return keep


@dataclass
class RenamingServer(FakePrometheus):
    """From a moment on, counters have one more label."""

    at: int = 0
    """Milliseconds since 1970."""

    def handle(self, name: str, labels: Mapping[str, str]) -> Callable[[int, float], None]:
        """See `FakePrometheus`."""
        if name in {"up", "process_start_time_seconds"}:
            return super().handle(name, labels)
        before, after = super().handle(name, labels), super().handle(name, {**labels, "team": "x"})
        return lambda at, value: (before if at < self.at else after)(at, value)


@dataclass
class Read:
    """What was counted in one trial, and what happened."""

    counted: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    behind: float = 0.0
    """Seconds between the end of what was read and the operator's time."""


def read(make: Callable[[Callable[[], int]], FakePrometheus], *, ahead: float = 0.0) -> Read:
    """Read a trial through this server, whose clock is `ahead` seconds ahead."""
    return asyncio.run(_read(make, ahead))


async def _read(make: Callable[[Callable[[], int]], FakePrometheus], ahead: float) -> Read:
    now = START
    server = make(lambda: round(now.timestamp() * 1000))
    source = Prometheus(Settings(identity="bench"), clock=lambda: now, connect=answering(server))
    revisions = tuple((revision, f"{revision}-engine") for revision in PODS)
    shown: dict[str, dict[str, list[tuple[float, int]]]] = {revision: {} for revision in PODS}
    found, position, begin = Read(), None, START
    for second in range(1, SECONDS):
        now = START + timedelta(seconds=second)
        at = round(now.timestamp() * 1000)
        for revision, pods in PODS.items():
            for name, phase, rate in pods:
                if second % SCRAPE == phase:
                    value = EARLIER + second * rate
                    target = {"instance": name, "job": "pods"}
                    server.store("up", target, at, 1.0)
                    server.store("process_start_time_seconds", target, at, START.timestamp() - 9000)
                    labels = target | {"revision": revision, "epoch": "1", "outcome": "ok"}
                    server.store(REQUESTS.selector, labels, at, value)
                    shown[revision].setdefault(name, []).append((now.timestamp() + ahead, value))
        if second % READ:
            continue
        if second == WARM_UP:
            position = begin = now
        watch = Watch(position, revisions, (REQUESTS,), namespace="ns", name="model", requests=REQUESTS)
        (readings,) = (await source.read([watch])).values()
        if readings.error:
            raise SystemExit(f"bench: {readings.error}")
        found.warnings = readings.warnings
        for interval in readings.intervals:
            position = interval.end
            for (revision, _, _), n in interval.counts.get(REQUESTS, {}).items():
                found.counted[revision] = found.counted.get(revision, 0) + n
    source.close()
    if position is None:
        raise SystemExit("bench: Nothing was read; see the settings of the source.")
    found.behind = (now - position).total_seconds()
    for revision, by_pod in shown.items():
        found.happened[revision] = sum(
            _value(samples, position) - _value(samples, begin) for samples in by_pod.values()
        )
    return found


def _value(samples: list[tuple[float, int]], at: datetime) -> int:
    """The newest value until then, by the server's clock."""
    return samples[bisect_right(samples, (at.timestamp(), 1 << 62)) - 1][1]


def halves_found(runs: int, *, pooled: float, hours: float = 2.0) -> float:
    """The share of two-pod stables, one pod ten times as bad, whose pods are found to differ within so many hours."""
    parameters = MetricParameters(alpha=0.01, margin=ERROR_MARGIN, ratio=1.5, absolute=0.002)
    found = 0
    for run in range(runs):
        random, noise = np.random.default_rng(run), Noise(parameters)
        phases = random.integers(0, SCRAPE, 2)
        for second in range(READ, round(3600 * hours), READ):
            scraped = {
                name: [Counts(n, int(random.binomial(n, rate)))]
                for name, phase, rate in zip("ab", phases, (0.01, 0.10), strict=True)
                if (second - phase) % SCRAPE < READ and (n := int(random.poisson(112)))
            }
            noise = noise.add(scraped, float(READ), pooled=pooled)
            if noise.halves_differ:
                found += 1
                break
    return found / runs
