"""The state of a trial: what was measured so far, by metric, and the moment up to which Prometheus was read.

`serin.rollout.canary` begins it when the canary gets its first request, `serin.analysis.update` adds what was counted
since, `serin.analysis.verdict` judges it. Between two reconciles it is JSON in a ConfigMap
(`serin.analysis.stored_state`): one write holds the tests and that moment, so a crash neither loses nor doubles a
request. Nothing here changes in place; a change returns a new state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from serin.analysis.counts import EPOCHS, Tally
from serin.analysis.measurement import NOTHING_GENERATED, Generated, How, Measurement, Throughput
from serin.analysis.scraped import NOTHING_SCRAPED, Scraped
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.left import NOBODY_LEFT, LeftTest
from serin.evidence.lost import NOTHING_LOST, LostTest
from serin.evidence.metric import MetricTests
from serin.evidence.noise import Noise
from serin.evidence.pods_at_load import PodsAtLoad
from serin.evidence.slices import NO_REQUESTS, RequestsBySide

LATEST = timedelta(hours=1)
"""How long after the end of an epoch its counters are read at most."""
EARLIEST = timedelta(minutes=2)
"""How long they are read at least."""
CLIENTS_WAIT = timedelta(minutes=11)
"""How long they are read at least where nothing counts requests that are overdue: clients give up after ten minutes."""
TIMES_SETTLED = 3
"""How many times the settle time, which 99.9 % of the stable's answers take at most, they are read at least."""
_SETTLED = re.compile(r'requests_settled_total\{.*\ble="([0-9]+)"')
NEWEST_SLICES = 4
"""Number of slices of which `TrialState.newest_arrivals` holds the arrivals at least."""
MOST_NEWEST = 64
"""Largest number of intervals in it."""
AHEAD = 4
"""Epochs that can begin before the collector knows of them: a reconcile can fail between route and watch."""


@dataclass(frozen=True)
class Epoch:
    """A period of constant weight."""

    began: datetime
    weight: int
    """The canary's weight in parts of 10,000. Requests of an epoch with weight 0 are not counted."""


@dataclass(frozen=True)
class MetricState:
    """One metric of a trial: how it is measured, and the tests that its counts were added to."""

    measurement: Measurement
    tests: MetricTests
    noise: Noise | PodsAtLoad
    """Whether the stable's pods differ from each other; gets counts only where pods can be distinguished."""

    @classmethod
    def begin(cls, measurement: Measurement) -> MetricState:
        """A metric before its first request."""
        return cls(
            measurement, MetricTests.begin(measurement.parameters), noise_of(measurement)(measurement.parameters)
        )


def noise_of(measurement: Measurement) -> type[Noise | PodsAtLoad]:
    """The class of `MetricState.noise`."""
    return PodsAtLoad if measurement.how is How.AT_LOAD else Noise


@dataclass(frozen=True)
class ThroughputState:
    """One throughput of a trial, with what each side has generated."""

    throughput: Throughput
    canary: Generated = NOTHING_GENERATED
    stable: Generated = NOTHING_GENERATED


@dataclass(frozen=True)
class Arrived:
    """Requests of both sides that arrived in one interval."""

    end: datetime
    """End of the interval."""
    requests: int
    canary: int = 0
    """Those of the canary; states of version 0.1 lack it."""
    canary_sampled: datetime | None = None
    """The newest sample of any pod of the canary by then; None: not known."""
    stable_sampled: datetime | None = None
    """All pods of the stable that were in the trial have a sample of this time or a later one by then; None: not known.
    """


@dataclass(frozen=True)
class TrialState:
    """The state of one trial."""

    trial: str
    """Which trial: `<revision>@<attempt>`."""
    since: datetime
    """When the canary got its first weight."""
    until: datetime
    """Everything that was counted up to here is part of the state."""
    metrics: tuple[MetricState, ...]
    epochs: Mapping[int, Epoch]
    """By the value of the epoch label, the last 32."""
    requests_per_second: float
    """Of all revisions before the rollout."""
    settle_seconds: float
    """How long an epoch lasts before its slices count for a proof."""
    blank_seconds: float
    """How long series without an epoch label are ignored after a change of weight."""
    against: str = ""
    """The stable's revision; empty in states that an early version stored."""
    young_seconds: float = 0.0
    """How long after the beginning of an epoch its counts are pooled, because slow answers may be missing."""
    expected_without_sample: float = 0.0
    """Canary requests that the stable's traffic leads to expect since the last request of the canary was counted."""
    canary_sample_at: datetime | None = None
    """End of the last interval in which a request of the canary ended; None: there was none."""
    arrivals: Tally | None = None
    """Counts requests as they arrive; None where no series does."""
    arrived: RequestsBySide = NO_REQUESTS
    """Requests that arrived in the newest epoch."""
    newest_arrivals: tuple[Arrived, ...] = ()
    """The arrivals of the last `NEWEST_SLICES` slices, and those before that a pod of the stable has no sample after.
    """
    scraped: Scraped = NOTHING_SCRAPED
    """When the pods of both sides were scraped, and which arrivals are left out of the proof."""
    arrived_before: Mapping[int, RequestsBySide] = EMPTY
    """By epoch, requests that arrived in the epochs before the newest."""
    ended: Tally | None = None
    """Counts requests as they end, whatever their outcome; None: they are not compared with the arrivals."""
    in_progress: Mapping[int, RequestsBySide] = EMPTY
    """By epoch, requests that have arrived and not ended, as of `until`."""
    crowded_since: datetime | None = None
    """Since when the canary has too many requests in progress (`serin.analysis.missing`); None: it does not."""
    slice_seconds: float = 15.0
    """Seconds between two scrapes of a pod."""
    lost: LostTest = NOTHING_LOST
    """Whether requests are lost on the way to the canary."""
    expected_without_arrival: float = 0.0
    """Canary requests that the stable's arrivals lead to expect since the last one arrived at the canary."""
    canary_arrival_at: datetime | None = None
    """End of the last interval in which a request arrived at the canary; None: there was none."""
    left: LeftTest = NOBODY_LEFT
    """Whether clients leave one side more often than the other."""
    sticky: bool = False
    """Whether the gateway keeps a client at one backend; then lost requests hold the canary, and take no weight."""
    loss_tolerance: float = 0.1
    """The share of the canary's requests that may be lost; a promotion needs the proof that fewer are."""
    throughputs: tuple[ThroughputState, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "arrived_before", "in_progress"):
            if not isinstance(value := getattr(self, name), FrozenMap):
                object.__setattr__(self, name, FrozenMap(value))

    @property
    def silent_for(self) -> timedelta:
        """How long no request of the canary has been counted."""
        return self.until - (self.canary_sample_at or self.since)

    @property
    def canary_requests(self) -> int:
        """Requests of the canary that were counted, by the metric that counted most."""
        return max((total.n1 for metric in self.metrics for total in metric.tests.totals), default=0)

    @property
    def stable_requests(self) -> int:
        """Requests of the stable that were counted, by the metric that counted most."""
        return max((total.n0 for metric in self.metrics for total in metric.tests.totals), default=0)

    @property
    def newest(self) -> int | None:
        """The epoch that began last; None before the first one."""
        return max(self.epochs, key=lambda epoch: self.epochs[epoch].began, default=None)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        found = [tally for metric in self.metrics for tally in metric.measurement.tallies]
        found += [tally for each in self.throughputs for tally in each.throughput.tallies]
        return tuple(dict.fromkeys([*found, *(tally for tally in (self.arrivals, self.ended) if tally)]))

    @property
    def progress_tallies(self) -> tuple[Tally, Tally] | None:
        """The two tallies whose difference is in progress: arrivals and ends; None where that is not needed.

        Where requests are counted when they have been silent for long, that comparison replaces it.
        """
        counts_silence = any(
            metric.measurement.how is How.PAIR and metric.measurement.described for metric in self.metrics
        )
        return (self.arrivals, self.ended) if self.arrivals and self.ended and not counts_silence else None

    @property
    def canary_arrivals(self) -> int:
        """Requests that arrived at the canary's pods."""
        return self.arrived.canary + sum(arrived.canary for arrived in self.arrived_before.values())

    @property
    def optional(self) -> tuple[Tally, ...]:
        """The tallies that no decision needs."""
        needed = {tally for m in self.metrics if m.measurement.required for tally in m.measurement.tallies}
        return tuple(tally for tally in self.tallies if tally not in needed)

    @property
    def tallies_by_process(self) -> tuple[Tally, ...]:
        """The tallies that have to be read by process as well."""
        compared = [metric.measurement for metric in self.metrics if metric.measurement.compares_pods]
        return tuple(dict.fromkeys(tally for measurement in compared for tally in measurement.tallies))

    @property
    def ends_within(self) -> timedelta:
        """How long after the end of an epoch the requests that arrived in it are still counted.

        A few times what the stable's answers take. A request that takes longer is counted as overdue by then; where no
        comparison counts these, its end is waited for.
        """
        totals = (metric.measurement.total.selector for metric in self.metrics)
        overdue = [int(found[1]) for selector in totals if (found := _SETTLED.search(selector))]
        scrapes = timedelta(seconds=NEWEST_SLICES * self.slice_seconds)
        answers = timedelta(seconds=TIMES_SETTLED * self.settle_seconds) + scrapes
        if not overdue:
            return min(LATEST, max(CLIENTS_WAIT, answers))
        return min(LATEST, max(EARLIEST, answers) + timedelta(seconds=max(overdue)))

    @property
    def live_epochs(self) -> tuple[int, ...]:
        """The epochs in which a request can still end, and those that can begin before the collector knows of them."""
        begun = sorted(self.epochs, key=lambda epoch: self.epochs[epoch].began)
        ends = [self.epochs[epoch].began for epoch in begun[1:]]
        over = {epoch for epoch, end in zip(begun, ends, strict=False) if self.until - end > self.ends_within}
        ahead = {(begun[-1] + step) % EPOCHS for step in range(1, AHEAD + 1)} if begun else set(range(EPOCHS))
        return tuple(sorted((set(begun) - over) | ahead))


def without_arrivals(state: TrialState) -> TrialState:
    """The state without what it knows of lost requests: of a canary that has no weight because of them."""
    return replace(
        state,
        scraped=replace(state.scraped, left_out=EMPTY),
        lost=NOTHING_LOST,
        expected_without_arrival=0.0,
        canary_arrival_at=state.until,
        arrived=NO_REQUESTS,
        newest_arrivals=(),
        arrived_before=EMPTY,
    )


def without_clocks(state: TrialState) -> TrialState:
    """The state without the times that move while nothing is counted: equal if nothing was counted in between."""
    metrics = [
        replace(metric, noise=replace(metric.noise, seconds=0.0)) if isinstance(metric.noise, PodsAtLoad) else metric
        for metric in state.metrics
    ]
    return replace(
        state,
        until=state.since,
        lost=replace(state.lost, since=0.0),
        metrics=tuple(metrics),
        scraped=replace(state.scraped, canary=EMPTY, stable=EMPTY),
    )


def name_of(revision: str, attempt: int) -> str:
    """The name of a trial in its state."""
    return f"{revision}@{attempt}"


def revision_of(state: TrialState) -> str:
    """The revision that the trial of a state is about."""
    return state.trial.partition("@")[0]


def begin_epoch(state: TrialState, epoch: int, weight: int, now: datetime) -> TrialState:
    """The state in which the label's value `epoch` means a new period; its strata of an older period are closed."""
    metrics = state.metrics
    if epoch in state.epochs:
        metrics = tuple(replace(metric, tests=metric.tests.close_epoch(epoch)) for metric in metrics)
    before = dict(state.arrived_before) | ({state.newest: state.arrived} if state.newest is not None else {})
    before.pop(epoch, None)
    return replace(
        state,
        metrics=metrics,
        epochs=FrozenMap(state.epochs).put(epoch, Epoch(now, weight)),
        arrived=NO_REQUESTS,
        newest_arrivals=(),
        arrived_before=FrozenMap(before),
        scraped=state.scraped.begin_epoch(epoch, state.newest, now),
    )
