"""The queries of one read of one Prometheus server, and the readings that their answers give.

Called by `serin.metric_sources.prometheus`. One query per family of counters serves all rollouts; further ones are
needed only while a series has its first sample. Counting is in `intervals`, HTTP in `connection`. Nothing is stored
from one read to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from serin.analysis.counts import EPOCHS, Baseline, InFlight, Interval, Names, Tally
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.connection import Link, RefusedError
from serin.metric_sources.counter_growth import LOOK_BACK, Row, milliseconds
from serin.metric_sources.intervals import Family, FamilySamples, family_of, make_intervals
from serin.metric_sources.port import Watch
from serin.metric_sources.promql import chunks, none_of, one_of, with_matcher
from serin.metric_sources.response import matrix, vector
from serin.settings import Settings

RATE_OVER = timedelta(minutes=5)
"""Period of the baseline's request rate."""
HISTOGRAMS_OVER = timedelta(hours=1)
"""Period of the baseline's histograms."""
MARGIN = timedelta(seconds=5)
"""Added to a window of two scrape intervals, because scrapes are not exactly periodic."""
FRESH_SCRAPES = 3
"""Scrapes that may fail before a process counts as gone, and its requests in progress with it."""
SHORTEST_WINDOW = timedelta(seconds=60)
ASPECT = "serin_aspect"
"""Label that separates values from their times in the answer to one query."""


class _Estimate(NamedTuple):
    """Estimated growth of one watch's counters at one value of `by`."""

    key: Key
    value: str
    growth: float


class Queries:
    """One read of one server.

    Args:
        connection: to the server.
        settings: names of labels, scrape interval and lag.
    """

    def __init__(self, connection: Link, settings: Settings) -> None:
        self._ask = connection.query
        self._settings = settings
        self._scrape = timedelta(seconds=settings.scrape_interval)
        self.left_out: dict[Key, str] = {}
        """Why an optional tally could not be read, by watch."""

    async def until(self, now: datetime) -> datetime:
        """The time up to which the server has every sample, in whole seconds, which any notation keeps exactly.

        Args:
            now: the operator's time; the earlier one of both clocks counts, because samples after it may be missing.

        Raises:
            MetricsError: the server does not answer, or its answer is not that of a Prometheus.
        """
        rows = vector(await self._ask("vector(time())"))
        if not rows:
            raise MetricsError("The server does not answer vector(time()); check that the URL is that of a Prometheus.")
        theirs = datetime.fromtimestamp(rows[0][1], UTC)
        return (min(now, theirs) - timedelta(seconds=self._settings.lag)).replace(microsecond=0)

    async def _check_server(self, error: MetricsError) -> None:
        """Ask whether the server still answers after a failed query; if it does, only that query has failed.

        Raises:
            MetricsError: the server does not answer.
        """
        if not isinstance(error, RefusedError):
            await self._ask("vector(time())")

    def _failures(self, error: MetricsError, watches: Iterable[Watch], family: Family) -> dict[Key, MetricsError]:
        """The error of each watch that needs the family; where it is optional and refused, it is left out instead."""
        failures = {}
        for watch in watches:
            if isinstance(error, RefusedError) and family in _optional_families(watch):
                self.left_out[watch.key] = str(error)
            else:
                failures[watch.key] = error
        return failures

    async def intervals(self, watches: Sequence[Watch], until: datetime) -> dict[Key, Interval | MetricsError]:
        """The next interval of each watch, or why it could not be read; a watch whose interval is empty is absent."""
        by_end: dict[datetime, list[Watch]] = defaultdict(list)
        for watch in watches:
            end = counter_growth.end_of(watch.read_until, until, watch.longest) if watch.read_until else None
            if end:
                by_end[end].append(watch)
        read: dict[Key, Interval | MetricsError] = {}
        for end, group in by_end.items():
            read |= await self._intervals_to(end, group)
        return read

    async def _intervals_to(self, end: datetime, watches: Sequence[Watch]) -> dict[Key, Interval | MetricsError]:
        begins = {watch.key: watch.read_until for watch in watches if watch.read_until}
        starts = {key: milliseconds(begin) for key, begin in begins.items()}
        samples: dict[Family, FamilySamples] = {}
        failed: dict[Key, MetricsError] = {}
        for family, users in _families(watches).items():
            try:
                samples[family] = await self._family(family, users, starts, end)
            except MetricsError as error:
                await self._check_server(error)
                failed |= self._failures(error, users, family)
        await self._base_new_series(samples.values(), end)
        answer: dict[Key, Interval | MetricsError] = dict(failed)
        readable = [watch for watch in watches if watch.key not in failed]
        # In a thread, because probes and the Lease must not wait.
        label = self._settings.epoch_label
        fresh = FRESH_SCRAPES * self._scrape
        return answer | await asyncio.to_thread(make_intervals, readable, begins, end, samples, label, fresh=fresh)

    async def _family(
        self, family: Family, watches: Sequence[Watch], starts: Mapping[Key, int], end: datetime
    ) -> FamilySamples:
        """The raw samples of a family, and older values of the series that begin within their interval."""
        selector, names = family
        attribution = Attribution(
            names, [(watch, [r for r, _ in watch.engine_of]) for watch in watches], self._settings
        )
        oldest = min(starts[watch.key] for watch in watches)
        window = max(timedelta(milliseconds=milliseconds(end) - oldest) + 2 * self._scrape + MARGIN, SHORTEST_WINDOW)
        rows: list[Row] = []
        epochs = _live_epochs(watches, names)

        def narrowed(values: Iterable[str]) -> str:
            matcher = one_of(attribution.label, values)
            live = {epoch for value in values for key, _ in attribution.named_by(value) for epoch in epochs[key]}
            if ended := [str(epoch) for epoch in range(EPOCHS) if epoch not in live]:
                matcher += f",{none_of(self._settings.epoch_label, ended)}"
            return _narrowed(selector, matcher)

        for values in chunks(attribution.values):
            answer = await self._ask(f"{narrowed(values)}{_range(window)}", milliseconds(end))
            rows += await asyncio.to_thread(matrix, answer)
        samples = FamilySamples(attribution, rows, _beginning(attribution, rows, starts, milliseconds(end)), {})
        lacking: dict[int, set[str]] = defaultdict(set)
        for row, begin in samples.beginning:
            samples.bases[row.series, begin] = None
            lacking[begin].add(row.labels[attribution.label])
        for begin, lack in lacking.items():
            for values in chunks(lack):
                older = f"last_over_time({narrowed(values)}{_range(LOOK_BACK)})"
                # A target without scrapes for a while continues: no count is lost, and no total of its life is added.
                for labels, value in vector(await self._ask(older, begin)):
                    series = frozenset(labels.items())
                    if (series, begin) in samples.bases:
                        samples.bases[series, begin] = value
        return samples

    async def _base_new_series(self, families: Iterable[FamilySamples], end: datetime) -> None:
        """Set the base of series without an older value to zero if they must have begun at zero."""
        doubtful = [
            (each, row, begin)
            for each in families
            for row, begin in each.beginning
            if each.bases[row.series, begin] is None and {"instance", "job"} <= row.labels.keys()
        ]
        if not doubtful:
            return
        since = timedelta(milliseconds=milliseconds(end) - min(begin for _, _, begin in doubtful))
        jobs = sorted({row.labels["job"] for _, row, _ in doubtful})
        attempts: dict[str, list[Row]] = defaultdict(list)
        started: dict[str, list[Row]] = defaultdict(list)
        for instances in chunks(row.labels["instance"] for _, row, _ in doubtful):
            where = f"{one_of('instance', instances)},{one_of('job', jobs)}"
            for name, over, into in (
                ("up", since + LOOK_BACK, attempts),
                ("process_start_time_seconds", since + self._scrape, started),
            ):
                for row in matrix(await self._ask(f"{name}{{{where}}}{_range(over)}", milliseconds(end))):
                    into[row.labels.get("instance", "")].append(row)
        for each, row, begin in doubtful:
            first = counter_growth.first_after(row.samples, begin, milliseconds(end))
            instance = row.labels["instance"]
            target = counter_growth.target_of(row.labels, attempts[instance], started[instance])
            if first is not None and counter_growth.is_new(first, begin, target, self._scrape):
                each.bases[row.series, begin] = 0.0

    async def baselines(self, watches: Sequence[Watch], at: datetime) -> dict[Key, Baseline | MetricsError]:
        """The baseline of each watch that wants one; estimates, so `increase()` of Prometheus is good enough."""
        wanted = [(watch, watch.baseline_of) for watch in watches if watch.baseline_of is not None]
        rates = {watch.key: 0.0 for watch, _ in wanted}
        histograms: dict[Key, dict[Tally, Mapping[str, float]]] = {watch.key: {} for watch, _ in wanted}
        failed: dict[Key, MetricsError] = {}

        async def estimate(
            tally: Tally, wanting: Sequence[tuple[Watch, Sequence[str]]], over: timedelta
        ) -> list[_Estimate]:
            try:
                return await self._increase(tally, wanting, over, at)
            except MetricsError as error:
                await self._check_server(error)
                failed.update(self._failures(error, [watch for watch, _ in wanting], family_of(tally)))
                return []

        for tally in dict.fromkeys(watch.requests for watch, _ in wanted if watch.requests):
            wanting = [(watch, watch.traffic_of) for watch, _ in wanted if watch.requests == tally]
            # The rate is of all requests, whatever their value of `by`.
            for key, _, value in await estimate(Tally(tally.selector, None, tally.names), wanting, RATE_OVER):
                rates[key] += value / RATE_OVER.total_seconds()
        for tally in dict.fromkeys(tally for watch, _ in wanted for tally in watch.tallies if tally.by == "le"):
            wanting = [(watch, (stable,)) for watch, stable in wanted if tally in watch.tallies]
            buckets: dict[Key, dict[str, float]] = {watch.key: {} for watch, _ in wanting}
            for key, bound, value in await estimate(tally, wanting, HISTOGRAMS_OVER):
                buckets[key][bound] = buckets[key].get(bound, 0.0) + value
            for key, counts in buckets.items():
                histograms[key][tally] = counts
        return dict(failed) | {
            key: Baseline(at, rate, histograms[key]) for key, rate in rates.items() if key not in failed
        }

    async def _increase(
        self, tally: Tally, wanting: Sequence[tuple[Watch, Sequence[str]]], over: timedelta, at: datetime
    ) -> list[_Estimate]:
        s = self._settings
        attribution = Attribution(tally.names, wanting, s)
        by = dict.fromkeys(
            [attribution.label, s.namespace_label, s.deployment_label, *([tally.by] if tally.by is not None else [])]
        )
        estimates: list[_Estimate] = []
        for values in chunks(attribution.values):
            narrowed = _narrowed(tally.selector, one_of(attribution.label, values))
            query = f"sum by ({', '.join(by)}) (increase({narrowed}{_range(over)}))"
            for labels, value in vector(await self._ask(query, milliseconds(at))):
                estimates += [
                    _Estimate(key, labels.get(tally.by or "", ""), value) for key, _ in attribution.of(labels)
                ]
        return estimates

    async def in_flight(self, engines: Iterable[str]) -> dict[tuple[str, str, str], InFlight]:
        """Running and waiting requests by namespace, deployment and engine revision, timed by the oldest sample."""
        s = self._settings
        by = (s.namespace_label, s.deployment_label, s.engine_revision_label)
        per = f"by ({', '.join(by)})"
        found: dict[tuple[str, str, str], InFlight] = {}
        for chunk in chunks(engines):
            where = f"{{{one_of(s.engine_revision_label, chunk)}}}"
            total = f"sum {per} ({s.running_metric}{where}) + sum {per} ({s.waiting_metric}{where})"
            oldest = f"min {per} (timestamp({s.running_metric}{where}))"
            # One query for both: two would be evaluated at different times, perhaps with a scrape between them.
            query = " or ".join(
                f'label_replace({sums}, "{ASPECT}", "{aspect}", "", "")'
                for sums, aspect in ((total, "value"), (oldest, "time"))
            )
            answer: dict[str, dict[tuple[str, str, str], float]] = {"value": {}, "time": {}}
            for labels, value in vector(await self._ask(query)):
                namespace, name, engine = (labels.get(label, "") for label in by)
                answer.setdefault(labels.get(ASPECT, ""), {})[namespace, name, engine] = value
            for place, requests in answer["value"].items():
                if place in answer["time"]:
                    found[place] = InFlight(requests, datetime.fromtimestamp(answer["time"][place], UTC))
        return found


_ALL = frozenset(range(EPOCHS))


def _live_epochs(watches: Iterable[Watch], names: Names) -> dict[Key, frozenset[int]]:
    """The epochs whose series can still grow, by watch; the others are left out of the query.

    A stable that was a canary has series of all its epochs, up to 32 times as many as can grow.
    """
    return {
        watch.key: frozenset(watch.epochs) if names is Names.REVISION and watch.epochs is not None else _ALL
        for watch in watches
    }


def _narrowed(selector: str, matcher: str) -> str:
    try:
        return with_matcher(selector, matcher)
    except MetricsError as error:
        raise RefusedError(str(error)) from error  # other queries are not affected


def _optional_families(watch: Watch) -> set[Family]:
    """The families that only optional tallies need."""
    needed = {family_of(tally) for tally in watch.tallies if tally not in watch.optional}
    return {family_of(tally) for tally in watch.optional} - needed


def _families(watches: Iterable[Watch]) -> dict[Family, list[Watch]]:
    users: dict[Family, list[Watch]] = defaultdict(list)
    for watch in watches:
        for family in dict.fromkeys(family_of(tally) for tally in watch.tallies):
            users[family].append(watch)
    return users


def _beginning(
    attribution: Attribution, rows: Iterable[Row], starts: Mapping[Key, int], end: int
) -> list[tuple[Row, int]]:
    """The series whose first sample is within an interval, each with the begin of that interval."""
    return [
        (row, begin)
        for row in rows
        if row.samples
        for begin in {starts[key] for key, _ in attribution.of(row.labels)}
        if not counter_growth.has_base(row.samples, begin)
        and counter_growth.first_after(row.samples, begin, end) is not None
    ]


def _range(over: timedelta) -> str:
    return f"[{math.ceil(over.total_seconds())}s]"
