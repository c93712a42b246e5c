"""What was read for one LLMDeployment and not yet acknowledged: changes with its watch and with each read.

Held by `serin.metric_sources.collector`. An interval is acknowledged once the trial state that contains its counts is
persisted. Answers to an earlier watch are dropped, so nothing is counted twice or for another revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from serin.analysis.counts import Baseline, InFlight, Interval, MetricReadings, ShownDocument
from serin.metric_sources.port import LONGEST, SHORTEST, Watch

MAX_INTERVALS = 60
"""Most intervals held for one LLMDeployment; then none is read until some are acknowledged."""
BACKLOG = (
    f"Serin has read {MAX_INTERVALS} intervals that no reconcile has persisted, so it reads no more; see condition "
    "Accepted, then the operator's log."
)
BACKLOG_GRACE = timedelta(minutes=1)
"""How long a full backlog may stay unacknowledged; the first reconcile after an outage takes time."""
BASELINE_MAX_AGE = timedelta(minutes=1)
"""Age from which a baseline that is still wanted is read again, because traffic changes while a canary loads."""
IDLE_WAKE = timedelta(seconds=30)
"""Without any count, the reconciler is woken only after so much time has been read."""


@dataclass
class Unacknowledged:
    """What was read for one LLMDeployment and not yet acknowledged."""

    watch: Watch
    intervals: list[Interval] = field(default_factory=list)
    baseline: Baseline | None = None
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, ShownDocument]] = field(default_factory=dict)
    in_progress: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    left_out: str | None = None
    warnings: tuple[str, ...] = ()
    late: timedelta = timedelta()
    nothing_new: bool = False
    """Whether the last read asked for counts and found none that are newer."""
    woke_at: datetime | None = None
    """End of the newest interval when the reconciler was last woken."""
    urgent: bool = True
    """Whether the watch asks for something that no read has asked for yet."""
    backlog_since: datetime | None = None
    """When MAX_INTERVALS intervals were first handed out; None if fewer are held, or they were not handed out."""
    longest: timedelta = LONGEST
    """Longest interval to ask for; shortened while reads fail, so that they succeed again after an outage."""

    def change(self, watch: Watch) -> None:
        """Drop what does not answer the new watch; urgent if it asks for something else."""
        old, self.watch = self.watch, watch
        if _counts_key(old) != _counts_key(watch):
            remaining = None
        elif old.read_until != watch.read_until:
            remaining = _after(self.intervals, watch.read_until)
        else:
            remaining = self.intervals
        if remaining is None:
            self.intervals, self.woke_at, self.urgent, self.nothing_new = [], None, True, False
        else:
            self.intervals = remaining
        if _baseline_key(old) != _baseline_key(watch):
            self.baseline = None
            self.urgent |= watch.baseline_of is not None
        if old.server != watch.server:
            self.error, self.left_out, self.warnings, self.in_flight, self.urgent = None, None, (), {}, True
            self.documents, self.in_progress = {}, {}
        elif old.draining != watch.draining:
            self.in_flight = {engine: seen for engine, seen in self.in_flight.items() if engine in watch.draining}
            self.urgent = True
        self.documents = {engine: seen for engine, seen in self.documents.items() if engine in watch.documents_of}
        self.in_progress = {revision: seen for revision, seen in self.in_progress.items() if revision in watch.leaving}
        self.urgent |= not {*watch.documents_of, *watch.leaving} <= {*old.documents_of, *old.leaving}

    @property
    def position(self) -> datetime | None:
        """Begin of the next interval; None if no counts are wanted."""
        return self.intervals[-1].end if self.intervals else self.watch.read_until

    @property
    def _baseline_is_new(self) -> bool:
        return self.baseline is not None and datetime.now(UTC) - self.baseline.at < BASELINE_MAX_AGE

    @property
    def full(self) -> bool:
        """Whether MAX_INTERVALS intervals are held."""
        return len(self.intervals) >= MAX_INTERVALS

    @property
    def next_read(self) -> Watch:
        """What the next read asks for."""
        return replace(
            self.watch,
            read_until=None if self.full else self.position,
            longest=self.longest,
            baseline_of=None if self._baseline_is_new else self.watch.baseline_of,
        )

    def hand_out(self) -> MetricReadings:
        """The readings for the reconciler; an error if the same full backlog is handed out for too long."""
        now = datetime.now(UTC)
        self.backlog_since = (self.backlog_since or now) if self.full else None
        stuck = self.backlog_since is not None and now - self.backlog_since >= BACKLOG_GRACE
        return MetricReadings(
            error=self.error or (BACKLOG if stuck else None),
            left_out=self.left_out,
            late=self.late,
            warnings=self.warnings,
            nothing_new=self.nothing_new,
            intervals=tuple(self.intervals),
            baseline=self.baseline,
            in_flight=self.in_flight,
            documents=self.documents,
            in_progress=self.in_progress,
        )

    def store(self, requested: Watch, new: MetricReadings) -> bool:
        """Store what still answers the watch; returns whether the reconciler must be woken.

        Args:
            requested: what the read asked for; the watch may have changed since.
            new: what was read.
        """
        if new.error or new.intervals:
            self.longest = _next_longest(self.longest, new)
        wakes = self.error != new.error
        self.error = new.error
        if new.intervals or new.baseline or new.left_out:
            wakes |= self.left_out != new.left_out
            self.left_out = new.left_out
        if new.error is None:
            wakes |= self.warnings != new.warnings
            self.warnings, self.late = new.warnings, new.late
        current = self.next_read
        if _counts_key(current) == _counts_key(requested) and current.read_until == requested.read_until:
            self.nothing_new = new.error is None and requested.read_until is not None and not new.intervals
            for interval in new.intervals:
                wakes |= bool(interval.counts)
                _append(self.intervals, interval)
            newest = self.intervals[-1].end if self.intervals and new.intervals else None
            wakes |= newest is not None and (self.woke_at is None or newest - self.woke_at >= IDLE_WAKE)
        if new.baseline and requested.baseline_of and _baseline_key(current) == _baseline_key(requested):
            self.baseline = new.baseline
            wakes = True
        if new.error is None and current.draining == requested.draining:
            # During an error the last measurement stays, with its time.
            wakes |= self.in_flight != new.in_flight
            self.in_flight = new.in_flight
        wakes |= self._store_documents(requested, new)
        if wakes:
            self.woke_at = self.position
        return wakes

    def _store_documents(self, requested: Watch, new: MetricReadings) -> bool:
        """Store what the pods show of their split documents; returns whether that has changed."""
        current = self.watch
        if new.error is not None or current.documents_of != requested.documents_of:
            return False
        wakes = _without_times(new.documents) != _without_times(self.documents)
        self.documents = new.documents
        if current.leaving == requested.leaving:
            wakes |= self.in_progress != new.in_progress
            self.in_progress = new.in_progress
        return wakes


def _without_times(documents: Mapping[str, Mapping[str, ShownDocument]]) -> dict[str, dict[str, tuple[object, bool]]]:
    return {
        engine: {pod: (shown.digests, shown.refused) for pod, shown in pods.items()}
        for engine, pods in documents.items()
    }


def _next_longest(longest: timedelta, new: MetricReadings) -> timedelta:
    """Half after an error, twice after a success; a refused optional tally shortens it no further than a quarter."""
    if new.error:
        return max(SHORTEST, longest / 2)
    if new.left_out:
        return max(min(longest, LONGEST / 4), longest / 2)
    return min(LONGEST, longest * 2)


def _counts_key(watch: Watch) -> tuple[object, ...]:
    """What the counts depend on, apart from where they begin."""
    return (watch.server, set(watch.engine_of), set(watch.tallies), watch.in_progress, watch.read_until is None)


def _baseline_key(watch: Watch) -> tuple[object, ...]:
    """What the baseline depends on."""
    return (watch.server, watch.baseline_of, watch.requests, set(watch.traffic_of), set(watch.tallies))


def _append(intervals: list[Interval], new: Interval) -> None:
    """Add an interval; one without counts extends one without counts, so that an idle canary needs no memory."""
    if intervals and not new.counts and not intervals[-1].counts:
        intervals[-1] = replace(intervals[-1], end=new.end, in_progress=new.in_progress, sampled=new.sampled)
    else:
        intervals.append(new)


def _after(intervals: list[Interval], read_until: datetime | None) -> list[Interval] | None:
    """The intervals after `read_until`; None if it is not between two of them."""
    for index, interval in enumerate(intervals):
        if interval.begin == read_until:
            return intervals[index:]
        if read_until is not None and interval.begin < read_until < interval.end and not interval.counts:
            # The interval has grown since it was handed out. It has no counts, so it can be cut anywhere.
            return [replace(interval, begin=read_until), *intervals[index + 1 :]]
    return [] if intervals and intervals[-1].end == read_until else None
