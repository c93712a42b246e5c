"""Reads metrics for all running trials: one query per family of counters, however many LLMDeployments need it.

The reconciler sets and drops watches and takes what was read; `operator_process` runs the loop, so no reconcile waits
for Prometheus. Without a watch nothing is read. Everything here is in memory and can be lost: what was not acknowledged
is read again, from the time up to which the watch says that the trial state is persisted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from serin.analysis.counts import NO_READINGS, MetricReadings
from serin.kube_types import Key
from serin.metric_sources.port import MetricSource, Server, Watch
from serin.metric_sources.unacknowledged import Unacknowledged

log = structlog.get_logger(__name__)


class Observed(Protocol):
    """Receives the duration of each read."""

    def __call__(self, seconds: float, *, failed: bool) -> None:
        """Record a read of so many seconds, and whether it failed for at least one watch."""


def _unobserved(seconds: float, *, failed: bool) -> None:
    """Record nothing."""


class Collector:
    """The watches, and what was read for them.

    Args:
        source: the metric source.
        interval: seconds between two reads of a server.
        woke: called with the key of an LLMDeployment whose new readings need a reconcile.
        observed: called with the duration of each read, and whether it failed for at least one watch.
    """

    def __init__(
        self,
        source: MetricSource,
        *,
        interval: float,
        woke: Callable[[Key], None] = lambda _key: None,
        observed: Observed = _unobserved,
    ) -> None:
        self._source = source
        self._interval = interval
        self.woke = woke
        self._observed = observed
        self._held: dict[Key, Unacknowledged] = {}
        self._changed = asyncio.Event()

    def set_watch(self, watch: Watch) -> None:
        """Read this from now on, instead of the earlier watch of the same LLMDeployment.

        A newer `read_until` acknowledges the intervals up to it. If it is not the end of an interval, or other counts
        are wanted than before, all intervals are dropped and read again from `read_until`.
        """
        held = self._held.get(watch.key)
        if held is None:
            held = self._held[watch.key] = Unacknowledged(watch)
        else:
            held.change(watch)
        if held.urgent:
            self._changed.set()

    def acknowledge(self, key: Key, until: datetime, epochs: tuple[int, ...]) -> None:
        """Drop the intervals up to `until`, which are persisted; from now on read only these epochs.

        Called by each reconcile, because one that persisted the state may have failed before it set a new watch.
        """
        held = self._held.get(key)
        if held and held.watch.read_until is not None and held.watch.read_until != until:
            self.set_watch(replace(held.watch, read_until=until, epochs=epochs))

    def drop(self, key: Key) -> None:
        """Remove the watch of the key and what was read for it."""
        self._held.pop(key, None)

    def watched(self, key: Key) -> Watch | None:
        """The watch of the key."""
        held = self._held.get(key)
        return held.watch if held else None

    def readings(self, key: Key) -> MetricReadings:
        """What was read for the key and not acknowledged; NO_READINGS without a watch."""
        held = self._held.get(key)
        if held is None:
            return NO_READINGS
        return held.hand_out()

    async def run(self) -> None:
        """Read until cancelled: each interval, and at once for an urgent watch; servers do not wait for each other."""
        reading: dict[Server | None, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                for task in reading.values():
                    if task.done():
                        task.result()  # raises the error of a defect, which ends the process
                reading = {server: task for server, task in reading.items() if not task.done()}
                for server in self._servers() - reading.keys():
                    reading[server] = asyncio.create_task(self._catch_up(server))
                # A new watch ends the wait. Without any watch there is nothing to read, so the wait has no limit.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval if self._held else None):
                        await self._changed.wait()
        finally:
            for task in reading.values():
                task.cancel()
            await asyncio.gather(*reading.values(), return_exceptions=True)

    async def collect(self) -> None:
        """Read once for every watch."""
        await asyncio.gather(*(self._read(server) for server in self._servers()))

    def _servers(self) -> set[Server | None]:
        return {held.watch.server for held in self._held.values()}

    async def _catch_up(self, server: Server | None) -> None:
        """Read a server, and again at once while it has more than fits into one interval."""
        while True:
            behind = await self._read(server)
            # A watch that was set during the read does not wait for the next interval.
            if not behind and not any(held.urgent for held in self._of(server)):
                return

    def _of(self, server: Server | None) -> list[Unacknowledged]:
        return [held for held in self._held.values() if held.watch.server == server]

    async def _read(self, server: Server | None) -> bool:
        """Read once for every watch of a server; returns whether there is more to read at once."""
        requested = {held.watch.key: held.next_read for held in self._of(server)}
        for held in self._of(server):
            held.urgent = False
        start = time.monotonic()
        try:
            read: Mapping[Key, MetricReadings] = await self._source.read(list(requested.values()))
        except Exception as error:  # a defect must not leave old readings in place as if they were new
            log.exception("metrics not read")
            message = f"Reading metrics failed with an internal error ({type(error).__name__}); see the operator's log."
            read = {key: MetricReadings(error=message) for key in requested}
        self._observed(time.monotonic() - start, failed=any(readings.error for readings in read.values()))
        behind = False
        for key, watch in requested.items():
            new = read.get(key, NO_READINGS)
            current = self._held.get(key)
            # The watch may have been changed or dropped during the read.
            if current is None or current.watch.server != server:
                continue
            # An interval of at least half of the longest was cut by the source, so there is more.
            behind |= any(interval.end - interval.begin >= watch.longest / 2 for interval in new.intervals)
            if current.store(watch, new):
                self.woke(key)
        return behind
