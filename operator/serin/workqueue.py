"""The work queue: which keys to reconcile and when, with at most one reconcile of a key at a time.

`serin.handlers` and the collector mark keys, `operator_process` runs the queue, and its workers call the reconciler.
`Schedule` is the pure part, `WorkQueue` the workers around it.
"""

from __future__ import annotations

import asyncio
import heapq
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from serin.errors import ClusterError, SerinError
from serin.kube_types import Key

FORGET: Final = timedelta.max
"""Returned by a reconcile of a deleted object: the key is dropped."""

FIRST_RETRY = 0.5
LAST_RETRY = 60.0

log = structlog.get_logger(__name__)


@dataclass
class Schedule:
    """Due times of keys, in monotonic seconds that the caller passes in.

    Every key is due again within `resync` seconds; the times are spread so that the keys are not due at once.
    """

    resync: float
    _due: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)
    """May have outdated entries: an entry counts only if it equals the key's due time."""
    _running: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _not_before: dict[Key, float] = field(default_factory=dict)

    def mark(self, key: Key, now: float) -> None:
        """Make the key due now, or right after its current run."""
        if key in self._running:
            self._again.add(key)
        else:
            # A failing key waits for its first retry, however often its own writes mark it.
            self._set(key, max(now, self._not_before.get(key, now)))

    def take(self, now: float) -> Key | None:
        """Start the key that has been due for longest and return it; None if no key is due."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self._running.add(key)
                return key
        return None

    def next_due(self) -> float | None:
        """Time at which the next key is due, or earlier; None if there is no key."""
        return self._heap[0][0] if self._heap else None

    def done(self, key: Key, now: float, after: timedelta | None) -> None:
        """End a successful run; the key is due again `after` that time, at the latest at the next resync."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        if after == FORGET and key not in self._again:
            self.drop(key)
            return
        wait = self._resync_after(key)
        if after is not None and after != FORGET:
            wait = min(wait, max(0.0, after.total_seconds()))
        self._end(key, now, wait)

    def failed(self, key: Key, now: float, after: timedelta | None = None) -> float:
        """End a failed run; returns the seconds until the retry: 0.5, 1, 2, … 60, at most `after` if that is given."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is bounded: after a long outage, 2.0 ** 1024 would overflow.
        delay = float(min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)))
        if after is not None:
            delay = min(delay, max(FIRST_RETRY, after.total_seconds()))
        self._not_before[key] = now + FIRST_RETRY
        if key in self._again:
            delay = min(delay, FIRST_RETRY)
            self._again.discard(key)
        self._end(key, now, delay)
        return delay

    def drop(self, key: Key) -> None:
        """Remove the key until it is marked again."""
        self._due.pop(key, None)
        self._running.discard(key)
        self._again.discard(key)
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def _end(self, key: Key, now: float, wait: float) -> None:
        self._running.discard(key)
        if key in self._again:
            self._again.discard(key)
            wait = 0.0
        self._set(key, now + wait)

    def _set(self, key: Key, at: float) -> None:
        current = self._due.get(key)
        if current is not None and current <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 64 + 2 * len(self._due):
            # Remove outdated entries; otherwise the marks of one busy key would grow the heap without bound.
            self._heap = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)

    def _resync_after(self, key: Key) -> float:
        """Seconds from 50 % to 100 % of the resync interval, always the same for a key."""
        return self.resync * (0.5 + zlib.crc32("/".join(key).encode()) / 2**33)


class WorkQueue:
    """Runs `reconcile` for due keys with a few workers.

    Args:
        reconcile: returns the time until the key is due again, None for "when it is marked", or FORGET.
        workers: number of keys that run at the same time.
        resync: every key runs at least once in this many seconds.
        limit: maximum seconds of one run.
        clock: monotonic seconds.
        observed: called with the outcome (`ok` or `error`) and the seconds of each run.
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[timedelta | None]],
        *,
        workers: int = 4,
        resync: float = 600.0,
        limit: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        observed: Callable[[str, float], None] = lambda _outcome, _seconds: None,
    ) -> None:
        self._reconcile = reconcile
        self._workers = workers
        self._limit = limit
        self._clock = clock
        self._observed = observed
        self._schedule = Schedule(resync)
        self._wake = asyncio.Event()

    def mark(self, key: Key) -> None:
        """Run the key as soon as a worker is free."""
        self._schedule.mark(key, self._clock())
        self._wake.set()

    def __len__(self) -> int:
        return len(self._schedule)

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            key = await self._next()
            start = self._clock()
            try:
                async with asyncio.timeout(self._limit):
                    after = await self._reconcile(key)
            except (Exception, asyncio.CancelledError) as error:  # one failing key must not stop the queue
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                due_in = error.due_in if isinstance(error, ClusterError) else None
                delay = self._schedule.failed(key, self._clock(), due_in)
                self._report(key, error, delay)
                self._observed("error", self._clock() - start)
            else:
                self._observed("ok", self._clock() - start)
                self._schedule.done(key, self._clock(), after)
            # The key may be due before the key that the other workers wait for.
            self._wake.set()

    async def _next(self) -> Key:
        while True:
            now = self._clock()
            key = self._schedule.take(now)
            if key is not None:
                return key
            due = self._schedule.next_due()
            # No await between reading the schedule and clear(), so no mark is lost.
            self._wake.clear()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _report(self, key: Key, error: BaseException, delay: float) -> None:
        expected = isinstance(error, SerinError | TimeoutError)
        log.warning(
            "reconcile failed",
            namespace=key[0],
            name=key[1],
            error=str(error) or f"The reconcile took longer than {self._limit:g} s and is retried.",
            retry_in=delay,
            exc_info=None if expected else error,
        )


def _is_cancelled() -> bool:
    """Whether this worker itself is cancelled, and not only something in its reconcile."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
