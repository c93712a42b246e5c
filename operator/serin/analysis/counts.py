"""What is counted, and what was counted: the words between the decision and whoever reads Prometheus. Pure.

The decision asks for tallies; a metric source answers with intervals of exact counts (`serin.metric_sources`). What a
count means for a canary is said in `serin.analysis.measurement`. Times are timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

EPOCHS = 32
"""Values that the epoch label can have; they are used in turn."""


class Names(StrEnum):
    """How a series says whose requests it counts."""

    REVISION = "revision"
    """By the label `revision`, with the label `epoch` beside it where there is one: the model server's own series."""
    BACKEND = "backend"
    """By the label in which the gateway names its backend, a Service."""
    ENGINE = "engine"
    """By the target label that carries the pod's engine revision: vLLM's own series."""


@dataclass(frozen=True)
class Tally:
    """One family of counters to be read, the same for every rollout that asks for it."""

    selector: str
    """A plain PromQL vector selector: a metric's name, or `name{label="value"}`."""
    by: str | None = None
    """The label whose values are counted apart, such as `outcome` or `le`; None: all together."""
    names: Names = Names.REVISION
    scale: int = 1
    """Parts that one is counted in: 1000 makes milliseconds of a counter of seconds."""


Point = tuple[str, int | None, str]
"""What is counted apart: revision, epoch (None where the series carries none), value of the `by` label ("" without)."""


@dataclass(frozen=True)
class Interval:
    """What the counters grew by in `(begin, end]`; intervals follow each other without a gap."""

    begin: datetime
    end: datetime
    counts: Mapping[Tally, Mapping[Point, int]] = field(default_factory=dict)
    """Growth by tally and point, whole numbers; a point that did not grow is absent."""
    bounds: Mapping[Tally, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """Of histograms (`by="le"`) that grew: by revision, the bounds that its series have, whether or not they grew."""
    apart: Mapping[Tally, Mapping[str, Mapping[Point, int]]] = field(default_factory=dict)
    """Part of `counts`: the growth of one revision (`Wanted.apart_of`) by process."""
    unread: frozenset[Tally] = frozenset()
    """Those of `Wanted.optional` that could not be read: what they grew by is not known, and never will be."""
    in_progress: Mapping[tuple[str, int], int] | None = None
    """Requests that had arrived and not ended at `end`, by revision and epoch, in the processes that were there then;
    None where that is not wanted or not known."""


@dataclass(frozen=True)
class Wanted:
    """What the decision wants to know of one LLMDeployment."""

    read_until: datetime | None = None
    """Counts up to here have been taken into account; the next interval begins here. None: no counts wanted."""
    engine_of: tuple[tuple[str, str], ...] = ()
    """The revisions whose requests are counted, each with its engine revision."""
    tallies: tuple[Tally, ...] = ()
    """What is counted."""
    optional: tuple[Tally, ...] = ()
    """Which of the tallies decide nothing, so that one whose query is refused can be left out."""
    epochs: tuple[int, ...] | None = None
    """The only epochs that still matter of series that carry one; None: all."""
    in_progress: tuple[Tally, Tally] | None = None
    """Tallies of requests as they arrive and as they end: the difference in a process is in progress there."""
    apart_of: str | None = None
    """The revision whose counts are wanted by process, too."""
    apart: tuple[Tally, ...] = ()
    """Which of the tallies are wanted by process."""
    baseline_of: str | None = None
    """The stable's revision while what it showed before the canary is still wanted (see `Baseline`)."""
    requests: Tally | None = None
    """Finished requests: what the baseline's rate is read from."""
    traffic_of: tuple[str, ...] = ()
    """All revisions that may have answered them of late, whichever was the stable then."""
    draining: tuple[str, ...] = ()
    """Engine revisions whose requests in flight are wanted."""


@dataclass(frozen=True)
class Baseline:
    """What traffic and stable showed before the canary got its first request. Estimates: they feed no test."""

    at: datetime
    requests_per_second: float
    """All finished requests, whoever answered them, over the five minutes before; 0.0 without traffic."""
    histograms: Mapping[Tally, Mapping[str, float]] = field(default_factory=dict)
    """Cumulative bucket counts of the stable by upper bound (`le` as written), over the hour before."""


@dataclass(frozen=True)
class InFlight:
    """Requests that an engine revision's pods are working on, running and waiting, and when that was measured."""

    requests: float
    at: datetime


@dataclass(frozen=True)
class MetricReadings:
    """What the collector has read for one LLMDeployment and nobody has taken into account yet."""

    error: str | None = None
    """Why there is no current evidence (one sentence), or None."""
    intervals: tuple[Interval, ...] = ()
    """What was counted, oldest first, without a gap; the first begins where the state of the evidence ends."""
    baseline: Baseline | None = None
    """What traffic and stable showed before the canary; None until it was read."""
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    """By engine revision; an engine revision without any series is absent."""
    left_out: str | None = None
    """Why something that decides nothing was not read (one sentence), or None."""


NO_READINGS = MetricReadings()
