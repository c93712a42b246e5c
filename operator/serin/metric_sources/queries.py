"""The queries of one read of one Prometheus server, and the readings that their answers give.

Called by `serin.metric_sources.prometheus`. One query per family of counters serves all rollouts; further ones are
needed only while a series has its first sample. Counting is in `intervals`, HTTP in `connection`. Nothing is stored
from one read to the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from serin.analysis.counts import EPOCHS, Baseline, InFlight, Interval, Names
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.baselines import BaselineQueries
from serin.metric_sources.connection import Link
from serin.metric_sources.counter_growth import LOOK_BACK, Row, milliseconds
from serin.metric_sources.failed_queries import FailedQueries
from serin.metric_sources.intervals import Family, FamilySamples, family_of, make_intervals
from serin.metric_sources.port import Watch
from serin.metric_sources.promql import chunks, none_of, one_of, over_range, with_matcher
from serin.metric_sources.response import matrix, vector
from serin.settings import Settings

MARGIN = timedelta(seconds=5)
"""Added to a window of two scrape intervals, because scrapes are not exactly periodic."""
FRESH_SCRAPES = 3
"""Scrapes that may fail before a process counts as gone, and its requests in progress with it."""
SHORTEST_WINDOW = timedelta(seconds=60)
ASPECT = "serin_aspect"
"""Label that separates values from their times in the answer to one query."""


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
        self._failures = FailedQueries(connection)

    @property
    def left_out(self) -> dict[Key, str]:
        """Why an optional tally could not be read, by watch."""
        return self._failures.left_out

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
                failed |= await self._failures.by_watch(error, users, family)
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
            return with_matcher(selector, matcher)

        for values in chunks(attribution.values):
            answer = await self._ask(f"{narrowed(values)}{over_range(window)}", milliseconds(end))
            rows += await asyncio.to_thread(matrix, answer)
        samples = FamilySamples(attribution, rows, _beginning(attribution, rows, starts, milliseconds(end)), {})
        lacking: dict[int, set[str]] = defaultdict(set)
        for row, begin in samples.beginning:
            samples.bases[row.series, begin] = None
            lacking[begin].add(row.labels[attribution.label])
        for begin, lack in lacking.items():
            for values in chunks(lack):
                older = f"last_over_time({narrowed(values)}{over_range(LOOK_BACK)})"
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
                for row in matrix(await self._ask(f"{name}{{{where}}}{over_range(over)}", milliseconds(end))):
                    into[row.labels.get("instance", "")].append(row)
        for each, row, begin in doubtful:
            first = counter_growth.first_after(row.samples, begin, milliseconds(end))
            instance = row.labels["instance"]
            target = counter_growth.target_of(row.labels, attempts[instance], started[instance])
            if first is not None and counter_growth.is_new(first, begin, target, self._scrape):
                each.bases[row.series, begin] = 0.0

    async def baselines(self, watches: Sequence[Watch], at: datetime) -> dict[Key, Baseline | MetricsError]:
        """The baseline of each watch that wants one, or why it could not be read."""
        return await BaselineQueries(self._ask, self._settings, self._failures).baselines(watches, at)

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
