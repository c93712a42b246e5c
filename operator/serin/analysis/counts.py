"""The contract between the decision and the metric sources: what is to be counted, and what was counted. Pure.

The decision asks for tallies (`Wanted`), and a metric source (`serin.metric_sources`) answers with intervals of exact
counts (`MetricReadings`). `serin.analysis.measurement` defines what a count means for a canary. Times are
timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

EPOCHS = 32
"""Number of values of the epoch label; they are used in turn."""


class Names(StrEnum):
    """How a series names the revision whose requests it counts."""

    REVISION = "revision"
    """By the label `revision`, with the label `epoch` if there is one: the model server's own series."""
    BACKEND = "backend"
    """By the label in which the gateway names its backend, a Service."""
    ENGINE = "engine"
    """By the target label that carries the pod's engine revision: vLLM's own series."""


@dataclass(frozen=True)
class Tally:
    """A family of counters that is read once for all rollouts that need it."""

    selector: str
    """A plain PromQL vector selector: a metric's name, or `name{label="value"}`."""
    by: str | None = None
    """The label by whose values counts are separate, such as `outcome` or `le`, or several: `cached,load`. None: one
    sum."""
    names: Names = Names.REVISION
    scale: int = 1
    """Factor on the counter's values: 1000 turns seconds into milliseconds."""


Point = tuple[str, int | None, str]
"""What has its own count: revision, epoch (None if the series has no such label), value of the `by` label or "" (values
of several labels are joined by commas)."""


@dataclass(frozen=True)
class Interval:
    """The growth of the counters in `(begin, end]`; intervals follow each other without a gap."""

    begin: datetime
    end: datetime
    counts: Mapping[Tally, Mapping[Point, int]] = field(default_factory=dict)
    """Growth by tally and point, whole numbers; a point that did not grow is absent."""
    bounds: Mapping[Tally, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """For histograms (`by="le"`) that grew: by revision, the bounds of all its series, whether or not they grew."""
    by_process: Mapping[Tally, Mapping[str, Mapping[Point, int]]] = field(default_factory=dict)
    """A part of `counts` by process: the growth of one revision (`Wanted.by_process_of`)."""
    unread: frozenset[Tally] = frozenset()
    """The tallies of `Wanted.optional` that could not be read; their growth stays unknown."""
    in_progress: Mapping[tuple[str, int], int] | None = None
    """Requests that had arrived and not ended at `end`, by revision and epoch, in the processes that ran then; None if
    that is not wanted or not known."""
    sampled: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    """By revision and process that counts `Wanted.arrivals`, its newest sample, in the interval or a few scrapes
    before, on the source's clock. A process is named by its pod, or by its instance where no label names the pod."""
    ahead: timedelta = timedelta()
    """By how much the source's clock is ahead of the operator's: its samples are that much older than they seem."""

    @property
    def begin_by_clock(self) -> datetime:
        """The begin on the operator's clock, by which epochs begin."""
        return self.begin - self.ahead

    @property
    def end_by_clock(self) -> datetime:
        """The end on the operator's clock."""
        return self.end - self.ahead


@dataclass(frozen=True)
class Wanted:
    """What the decision needs to know about one LLMDeployment."""

    read_until: datetime | None = None
    """The trial state contains the counts up to here; the next interval begins here. None: no counts are needed."""
    engine_of: tuple[tuple[str, str], ...] = ()
    """The revisions whose requests are counted, with their engine revisions."""
    tallies: tuple[Tally, ...] = ()
    """What is counted."""
    optional: tuple[Tally, ...] = ()
    """The tallies that no decision needs; one whose query is refused is left out."""
    epochs: tuple[int, ...] | None = None
    """The epochs that are read from series with an epoch label; None: all."""
    in_progress: tuple[Tally, Tally] | None = None
    """The tallies of requests as they arrive and as they end; the difference in a process is in progress there."""
    by_process_of: str | None = None
    """The revision whose counts are needed by process as well."""
    by_process: tuple[Tally, ...] = ()
    """The tallies that are needed by process."""
    baseline_of: str | None = None
    """The stable's revision as long as its `Baseline` is needed."""
    baseline_tallies: tuple[Tally, ...] = ()
    """The tallies besides histograms whose growth by value is in the baseline."""
    requests: Tally | None = None
    """Finished requests, from which the baseline's rate is read."""
    arrivals: Tally | None = None
    """Requests as they arrive: the baseline reads how many come without an epoch, an interval when they were sampled.
    """
    traffic_of: tuple[str, ...] = ()
    """All revisions that may have answered them in the last minutes."""
    draining: tuple[str, ...] = ()
    """Engine revisions whose requests in flight are needed."""
    documents_of: tuple[str, ...] = ()
    """Engine revisions whose pods must say which split document they use."""
    leaving: tuple[str, ...] = ()
    """Revisions without weight in pods that stay, whose requests in progress are needed."""
    backend_of: tuple[tuple[str, str], ...] = ()
    """The ends of the names of the Services that get the revisions' requests; a revision without one has its own."""


@dataclass(frozen=True)
class Baseline:
    """Traffic and the stable's histograms before the canary got its first request. Estimates, used by no test."""

    at: datetime
    requests_per_second: float
    """Finished requests of all revisions over the five minutes before; 0.0 without traffic."""
    histograms: Mapping[Tally, Mapping[str, float]] = field(default_factory=dict)
    """The stable's counts over the hour before, by the value of the tally's label: cumulative bucket counts by upper
    bound (`le` in one spelling), requests by response code. Empty where the stable has no such series."""
    without_epoch: float = 0.0
    """Of the stable's requests of these minutes, the share (0 to 1) that no split has handled: their epoch was none."""
    stable_requests: float = 0.0
    """How many requests of the stable that share is of."""


@dataclass(frozen=True)
class InFlight:
    """Requests that are running or waiting in an engine revision's pods, and when that was measured."""

    requests: float
    at: datetime


@dataclass(frozen=True)
class ShownDocument:
    """Which split document a pod shows as the one in force."""

    digests: frozenset[str]
    """Of the documents that its processes use; several while only some of them have switched."""
    at: datetime
    """Time of the oldest sample that says so."""
    refused: bool = False
    """Whether a process refuses the document on its volume, so that an older one stays in force."""


@dataclass(frozen=True)
class MetricReadings:
    """What the collector has read for one LLMDeployment since the trial state."""

    error: str | None = None
    """Why the metrics are unavailable, in one sentence; None if they are not."""
    intervals: tuple[Interval, ...] = ()
    """Oldest first, without a gap; the first begins where the trial state ends."""
    baseline: Baseline | None = None
    """None until it was read."""
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    """By engine revision; one without any series is absent."""
    documents: Mapping[str, Mapping[str, ShownDocument]] = field(default_factory=dict)
    """By engine revision and pod (or target, where no label names the pod); a pod without samples is absent."""
    in_progress: Mapping[str, float] = field(default_factory=dict)
    """By revision that leaves, its requests that have arrived and not ended; absent if that is unknown."""
    left_out: str | None = None
    """Why a tally that no decision needs was not read, in one sentence; None if all were."""
    late: timedelta = timedelta()
    """By how much longer than usual the newest counts are behind the operator's clock: late samples, and skew."""
    warnings: tuple[str, ...] = ()
    """What is unusual about the samples although they could be counted, in sentences."""
    nothing_new: bool = False
    """Whether the last read succeeded and found no newer sample."""


NO_READINGS = MetricReadings()
