"""The work queue: who is to be looked at, when, and never the same one twice at a time.

Marked by `serin.handlers` and the collector, run by `serin.__main__`, works through `serin.reconciler`. `Schedule` is
the pure part, `WorkQueue` the few workers around it. What a reconcile does, and why, is unknown here.
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

from serin.errors import SerinError
from serin.kube_types import Key

FORGET: Final = timedelta.max
"""What a reconcile returns for an object that is gone: the key is dropped."""

FIRST_RETRY = 0.5
LAST_RETRY = 60.0

log = structlog.get_logger(__name__)


@dataclass
class Schedule:
    """Due times of keys, in monotonic seconds that the caller passes in.

    Every key is looked at again within `resync` seconds, each at a moment of its own so that they do not come at once.
    """

    resync: float
    _due: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)
    """May hold outdated entries: only one that equals the key's due time counts."""
    _running: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _not_before: dict[Key, float] = field(default_factory=dict)

    def mark(self, key: Key, now: float) -> None:
        """The key is to be looked at: now, or right after the run that is going on."""
        if key in self._running:
            self._again.add(key)
        else:
            # A key that fails is not run faster than this, however often its own writes wake it.
            self._set(key, max(now, self._not_before.get(key, now)))

    def take(self, now: float) -> Key | None:
        """The key that has been due for longest, now running; None if none is due."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self._running.add(key)
                return key
        return None

    def next_due(self) -> float | None:
        """When the next key is due; None if there is none. May be too early, never too late."""
        return self._heap[0][0] if self._heap else None

    def done(self, key: Key, now: float, after: timedelta | None) -> None:
        """A run ended well; look again `after` that time, at the latest at the next resync."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        if after == FORGET and key not in self._again:
            self.drop(key)
            return
        wait = self._resync_after(key)
        if after is not None and after != FORGET:
            wait = min(wait, max(0.0, after.total_seconds()))
        self._end(key, now, wait)

    def failed(self, key: Key, now: float) -> float:
        """A run failed; it is repeated after 0.5 s, 1 s, 2 s, … 60 s. Returns the seconds."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is bounded too: 2.0 ** 1024 would overflow after a long outage.
        delay = float(min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)))
        self._not_before[key] = now + FIRST_RETRY
        if key in self._again:
            delay = min(delay, FIRST_RETRY)
            self._again.discard(key)
        self._end(key, now, delay)
        return delay

    def drop(self, key: Key) -> None:
        """Forget the key; a mark brings it back."""
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
            # Mostly outdated entries: start afresh, or marks of one busy key would grow it without bound.
            self._heap = [(due, one) for one, due in self._due.items()]
            heapq.heapify(self._heap)

    def _resync_after(self, key: Key) -> float:
        """Between half of the resync interval and all of it, always the same for a key."""
        return self.resync * (0.5 + zlib.crc32("/".join(key).encode()) / 2**33)


class WorkQueue:
    """Runs `reconcile` for due keys with a few workers.

    Args:
        reconcile: returns when to look again, None for "when something changes", or FORGET.
        workers: how many keys run at once.
        resync: seconds within which every key is looked at, marked or not.
        limit: seconds that one run may take.
        clock: monotonic seconds.
        observed: told the outcome (`ok` or `error`) and the seconds of each run.
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
        """The key is to be looked at as soon as a worker is free."""
        self._schedule.mark(key, self._clock())
        self._wake.set()

    def drop(self, key: Key) -> None:
        """Forget the key."""
        self._schedule.drop(key)

    def __len__(self) -> int:
        return len(self._schedule)

    async def run(self) -> None:
        """Work until cancelled."""
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
            except (Exception, asyncio.CancelledError) as error:  # whatever it is, this key waits, the others go on
                if isinstance(error, asyncio.CancelledError) and _is_ending():
                    raise
                delay = self._schedule.failed(key, self._clock())
                self._report(key, error, delay)
                self._observed("error", self._clock() - start)
            else:
                self._observed("ok", self._clock() - start)
                self._schedule.done(key, self._clock(), after)
            # The key is due again, maybe before what the other workers wait for.
            self._wake.set()

    async def _next(self) -> Key:
        while True:
            now = self._clock()
            key = self._schedule.take(now)
            if key is not None:
                return key
            due = self._schedule.next_due()
            # No await between the look and the clearing, so no mark can be lost.
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
            error=str(error) or f"It took longer than {self._limit:g} s; it is tried again.",
            again_in=delay,
            exc_info=None if expected else error,
        )


def _is_ending() -> bool:
    """Whether this worker is told to end, as opposed to a reconcile in which something was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
