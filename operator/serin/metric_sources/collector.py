"""One reader of evidence for all active rollouts, so that a hundred rollouts cost one query per family of counters.

The reconciler sets and drops watches and takes what was read; `serin.__main__` runs the loop. A reconcile never waits
for Prometheus. While nobody watches, nothing is asked. What is held here can be lost: whatever was not acknowledged is
read again from where the watch says that it was taken into account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from serin.analysis.counts import NO_READINGS, Baseline, InFlight, Interval, MetricReadings
from serin.kube_types import Key
from serin.metric_sources.port import LONGEST, SHORTEST, MetricSource, Server, Watch

log = structlog.get_logger(__name__)

MOST_INTERVALS = 60
"""So many are held for one LLMDeployment; then none is read until some are acknowledged."""
FULL = "What was read is not taken into account, so no more is read; see condition Accepted, then the operator's log."
PATIENCE = timedelta(minutes=1)
"""How long whoever was handed it may take: the first one after an outage has much to take into account."""
RENEWED = timedelta(minutes=1)
"""How old an estimate of the stable may be while it is still wanted."""
QUIET = timedelta(seconds=30)
"""So much time is read, with nothing in it, before somebody is told."""


class Observed(Protocol):
    """Told how long a read took."""

    def __call__(self, seconds: float, *, failed: bool) -> None:
        """A read took this long, and failed for somebody or not."""


def _unobserved(seconds: float, *, failed: bool) -> None:
    """Nobody wants to know."""


@dataclass
class _Held:
    """What was read for one LLMDeployment and not yet acknowledged."""

    watch: Watch
    intervals: list[Interval] = field(default_factory=list)
    baseline: Baseline | None = None
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    error: str | None = None
    left_out: str | None = None
    told: datetime | None = None
    """The end of the newest interval when somebody was last woken."""
    hurry: bool = True
    """Whether it wants something that nobody has asked for yet."""
    handed: datetime | None = None
    """When all that may be held was handed out first; None: it was not, or there is less."""
    longest: timedelta = LONGEST
    """What is asked for at once: less where more was too much, so that what an outage left is read in the end."""

    def change(self, watch: Watch) -> None:
        """Let go of what does not answer this watch, and hurry if it wants something else."""
        old, self.watch = self.watch, watch
        if _counted(old) != _counted(watch):
            kept = None
        elif old.read_until != watch.read_until:
            kept = _after(self.intervals, watch.read_until)
        else:
            kept = self.intervals
        if kept is None:
            self.intervals, self.told, self.hurry = [], None, True
        else:
            self.intervals = kept
        if _estimated(old) != _estimated(watch):
            self.baseline = None
            self.hurry |= watch.baseline_of is not None
        if old.server != watch.server:
            self.error, self.left_out, self.in_flight, self.hurry = None, None, {}, True
        elif old.draining != watch.draining:
            self.in_flight = {engine: seen for engine, seen in self.in_flight.items() if engine in watch.draining}
            self.hurry = True

    @property
    def position(self) -> datetime | None:
        """Where the next interval begins; None: no counts are wanted."""
        return self.intervals[-1].end if self.intervals else self.watch.read_until

    @property
    def _baseline_is_new(self) -> bool:
        """Traffic changes while a canary loads: what was estimated is estimated again."""
        return self.baseline is not None and datetime.now(UTC) - self.baseline.at < RENEWED

    @property
    def full(self) -> bool:
        """Whether as much is held as may be."""
        return len(self.intervals) >= MOST_INTERVALS

    @property
    def question(self) -> Watch:
        """What is asked for next."""
        return replace(
            self.watch,
            read_until=None if self.full else self.position,
            longest=self.longest,
            baseline_of=None if self._baseline_is_new else self.watch.baseline_of,
        )

    @property
    def readings(self) -> MetricReadings:
        """What the reconciler sees."""
        full = self.full and self.handed is not None and datetime.now(UTC) - self.handed >= PATIENCE
        return MetricReadings(
            error=self.error or (FULL if full else None),
            left_out=self.left_out,
            intervals=tuple(self.intervals),
            baseline=self.baseline,
            in_flight=self.in_flight,
        )


class Collector:
    """Watches, and what was read for them.

    Args:
        source: where evidence comes from.
        interval: seconds between two reads of a server.
        woke: told the key of which something is known that matters.
        observed: told how many seconds a read took, and whether it failed for anybody.
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
        self._held: dict[Key, _Held] = {}
        self._changed = asyncio.Event()

    def set_watch(self, watch: Watch) -> None:
        """Watch this from now on, instead of what was watched for the same LLMDeployment.

        A newer `read_until` acknowledges what ends there or before. One that fits nothing that is held, and a change of
        what is counted, lets go of everything: it is read again from `read_until`.
        """
        held = self._held.get(watch.key)
        if held is None:
            held = self._held[watch.key] = _Held(watch)
        else:
            held.change(watch)
        if held.hurry:
            self._changed.set()

    def acknowledge(self, key: Key, until: datetime, epochs: tuple[int, ...]) -> None:
        """What was read until then has been taken into account, whether or not a watch could be set since.

        `epochs` are those that matter from now on: they may have changed as well.
        """
        held = self._held.get(key)
        if held and held.watch.read_until is not None and held.watch.read_until != until:
            self.set_watch(replace(held.watch, read_until=until, epochs=epochs))

    def drop(self, key: Key) -> None:
        """Watch the key no longer."""
        self._held.pop(key, None)

    def readings(self, key: Key) -> MetricReadings:
        """What was read for the key and not acknowledged; NO_READINGS before the first read."""
        held = self._held.get(key)
        if held is None:
            return NO_READINGS
        held.handed = (held.handed or datetime.now(UTC)) if held.full else None
        return held.readings

    async def run(self) -> None:
        """Read until cancelled: every interval, and at once when a watch changes; no server waits for another."""
        reading: dict[Server | None, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                for task in reading.values():
                    if task.done():
                        task.result()  # a defect ends the loop, and with it the process
                reading = {server: task for server, task in reading.items() if not task.done()}
                for server in self._servers() - reading.keys():
                    reading[server] = asyncio.create_task(self._catch_up(server))
                # A new watch is read at once; without any there is nothing to wait for but one.
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
        """Read a server, and again at once as long as more is known than fits into one interval."""
        while True:
            behind = await self._read(server)
            # Who came while the server was busy is not left waiting for the next turn, either.
            if not behind and not any(held.hurry for held in self._of(server)):
                return

    def _of(self, server: Server | None) -> list[_Held]:
        return [held for held in self._held.values() if held.watch.server == server]

    async def _read(self, server: Server | None) -> bool:
        """Read once for every watch of a server; says whether there is more to be read at once."""
        asked = {held.watch.key: held.question for held in self._of(server)}
        for each in self._of(server):
            each.hurry = False
        start = time.monotonic()
        try:
            read: Mapping[Key, MetricReadings] = await self._source.read(list(asked.values()))
        except Exception as error:  # a bug must not leave old evidence standing as if it were fresh
            log.exception("evidence not read")
            sentence = f"Evidence could not be read ({type(error).__name__}); see the operator's log."
            read = {key: MetricReadings(error=sentence) for key in asked}
        self._observed(time.monotonic() - start, failed=any(evidence.error for evidence in read.values()))
        behind = False
        for key, question in asked.items():
            new = read.get(key, NO_READINGS)
            held = self._held.get(key)
            # The watch may have been changed or dropped while the source was asked.
            if held is None or held.watch.server != server:
                continue
            # A longer stretch than half of the longest was cut: there is more.
            behind |= any(interval.end - interval.begin >= question.longest / 2 for interval in new.intervals)
            if new.error or new.intervals:
                held.longest = _next_longest(held.longest, new)
            if self._put(held, question, new):
                held.told = held.position
                self.woke(key)
        return behind

    def _put(self, held: _Held, question: Watch, new: MetricReadings) -> bool:
        """Take over what was read, as far as it still answers what is wanted; says whether anybody has to know."""
        matters = held.error != new.error
        held.error = new.error
        if new.intervals or new.baseline or new.left_out:
            matters |= held.left_out != new.left_out
            held.left_out = new.left_out
        now = held.question
        if _counted(now) == _counted(question) and now.read_until == question.read_until:
            for interval in new.intervals:
                matters |= bool(interval.counts)
                _append(held.intervals, interval)
            newest = held.intervals[-1].end if held.intervals and new.intervals else None
            matters |= newest is not None and (held.told is None or newest - held.told >= QUIET)
        if new.baseline and question.baseline_of and _estimated(now) == _estimated(question):
            held.baseline = new.baseline
            matters = True
        if new.error is None and now.draining == question.draining:
            # What was seen last stays while there is an error, with its time.
            matters |= held.in_flight != new.in_flight
            held.in_flight = new.in_flight
        return matters


def _next_longest(longest: timedelta, new: MetricReadings) -> timedelta:
    """Less if this was too much, more if it went well; who can do without does not make all others ask for little."""
    if new.error:
        return max(SHORTEST, longest / 2)
    if new.left_out:
        return max(min(longest, LONGEST / 4), longest / 2)
    return min(LONGEST, longest * 2)


def _counted(watch: Watch) -> tuple[object, ...]:
    """What the counts depend on, but for where they begin."""
    return (watch.server, set(watch.engine_of), set(watch.tallies), watch.in_progress, watch.read_until is None)


def _estimated(watch: Watch) -> tuple[object, ...]:
    """What the baseline depends on."""
    return (watch.server, watch.baseline_of, watch.requests, set(watch.traffic_of), set(watch.tallies))


def _append(intervals: list[Interval], new: Interval) -> None:
    """Add an interval; one without counts extends one without counts, so that nothing grows while nothing happens."""
    if intervals and not new.counts and not intervals[-1].counts:
        intervals[-1] = replace(intervals[-1], end=new.end, in_progress=new.in_progress)
    else:
        intervals.append(new)


def _after(intervals: list[Interval], read_until: datetime | None) -> list[Interval] | None:
    """What is left when everything until there has been taken; None if it fits no boundary."""
    for index, interval in enumerate(intervals):
        if interval.begin == read_until:
            return intervals[index:]
        if read_until is not None and interval.begin < read_until < interval.end and not interval.counts:
            # It was longer than what its reader saw: nothing happened in it, so it may be cut anywhere.
            return [replace(interval, begin=read_until), *intervals[index + 1 :]]
    return [] if intervals and intervals[-1].end == read_until else None
