"""The queries of one read of one Prometheus server, and the readings that their answers give.

Called by `serin.metric_sources.prometheus`. One query per family of counters serves all rollouts; further ones are
needed only while a series has its first sample. Counting is in `intervals`, HTTP in `connection`. Nothing is stored
from one read to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, starmap

from serin.analysis.counts import EPOCHS, Baseline, InFlight, Interval, Names, ShownDocument, Tally
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.baselines import BaselineQueries
from serin.metric_sources.connection import Link
from serin.metric_sources.counter_growth import LOOK_BACK, NO_EPOCH, Row, milliseconds
from serin.metric_sources.counters import POD, PROCESS, Own, Process
from serin.metric_sources.document_queries import ASPECT, DocumentQueries
from serin.metric_sources.failed_queries import FailedQueries
from serin.metric_sources.intervals import Doubtful, Family, FamilyCounts, Older, family_of, make_intervals
from serin.metric_sources.late_samples import MOST, LateSamples, Place
from serin.metric_sources.port import TooLargeAnswerError, Watch
from serin.metric_sources.promql import chunks, none_of, one_of, over_range, with_matcher
from serin.metric_sources.response import matrix, series, vector
from serin.settings import Settings

MARGIN = timedelta(seconds=5)
"""Added to a window of two scrape intervals, because scrapes are not exactly periodic."""
BEHIND = 0.98
"""Scrape intervals after which a series counts as gone if another one of its counter has a newer sample.

Not quite one, because scrapes are not exactly periodic."""
FRESH_SCRAPES = 3
"""Scrapes that may fail before a process counts as gone, and its requests in progress with it."""
SKEW = timedelta(seconds=5)
"""Smallest difference of the two clocks that is reported, and the step in which it is."""
SKEWED = "Prometheus' clock is {} s {} the operator's, so counts come late; correct the clocks of the nodes."
LATE = (
    "Samples can be queried up to {} s after their time, later than SERIN_EVIDENCE_LAG ({:g} s). Serin waits for "
    "them; raise SERIN_EVIDENCE_LAG, or make remote write faster."
)
NONE = timedelta()
SHORTEST_WINDOW = timedelta(seconds=60)


class Queries:
    """One read of one server.

    Args:
        connection: to the server.
        settings: names of labels, scrape interval and lag.
    """

    def __init__(self, connection: Link, settings: Settings, late: LateSamples | None = None) -> None:
        self._ask = connection.query
        self._settings = settings
        self._scrape = timedelta(seconds=settings.scrape_interval)
        self._failures = FailedQueries(connection)
        self._late = late if late is not None else LateSamples()
        self._known: dict[Key, datetime] = {}
        self.ahead = timedelta()
        """By how much the server's clock is ahead of the operator's; 0 below `SKEW`."""
        self.doubled: dict[Key, str] = {}
        """Which sources show the same counter, by watch."""
        self.warnings: list[str] = []
        """What is unusual about the server, in sentences."""

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
        skew = theirs - now
        if abs(skew) >= SKEW:
            steps = round(abs(skew) / SKEW)
            self.warnings.append(
                SKEWED.format(round(steps * SKEW.total_seconds()), "ahead of" if skew > NONE else "behind")
            )
            self.ahead = max(NONE, skew)
        self._theirs = theirs
        return (min(now, theirs) - timedelta(seconds=self._settings.lag)).replace(microsecond=0)

    async def measure_lateness(self, watches: Sequence[Watch], until: datetime) -> datetime:
        """The time up to which the server has every sample, once it is known how late its samples come.

        Args:
            watches: of this server.
            until: the time up to which it has every sample if they come within the usual lag.

        Raises:
            MetricsError: the server does not answer at all.
        """
        s = self._settings
        by_tally: dict[Tally, list[Watch]] = defaultdict(list)
        for watch in watches:
            if tally := watch.in_progress[0] if watch.in_progress else watch.requests:
                by_tally[tally].append(watch)
        for tally, users in by_tally.items():
            attribution = Attribution(tally.names, [(watch, [r for r, _ in watch.engine_of]) for watch in users], s)
            by = tuple(dict.fromkeys((attribution.label, s.namespace_label, s.deployment_label, POD, PROCESS)))
            found: dict[Place, datetime] = {}
            keys: dict[Place, list[Key]] = {}
            for values in chunks(attribution.values):
                narrowed = with_matcher(tally.selector, one_of(attribution.label, values))
                query = f"max by ({', '.join(by)}) (timestamp({narrowed}))"
                try:
                    rows = vector(await self._ask(query))
                except MetricsError as error:
                    await self._failures.by_watch(error, users, family_of(tally))
                    continue
                for labels, value in rows:
                    place = tuple(labels.get(name, "") for name in by)
                    found[place] = datetime.fromtimestamp(value, UTC)
                    keys[place] = [key for key, _ in attribution.of(labels)]
            self._late.note(found, self._theirs, self._scrape)
            for place, of in keys.items():
                known = self._late.known_until(place, self._scrape)
                if known is not None:
                    self._known |= {key: min(self._known.get(key, known), known) for key in of}
        lag, needed = timedelta(seconds=s.lag), self._late.most
        if needed <= lag:
            return until
        wait = timedelta(seconds=5 * math.ceil(needed.total_seconds() / 5))
        # What a read finds came some time after the read before.
        if self._late.measured - timedelta(seconds=s.collect_interval) > lag:
            self.warnings.append(LATE.format(round(wait.total_seconds()), s.lag))
        return until - (wait - lag)

    async def intervals(self, watches: Sequence[Watch], until: datetime) -> dict[Key, Interval | MetricsError]:
        """The next interval of each watch, or why it could not be read; a watch whose interval is empty is absent."""
        by_end: dict[datetime, list[Watch]] = defaultdict(list)
        for watch in watches:
            # A process whose next sample is overdue may have samples that cannot be queried yet.
            known = self._known.get(watch.key, until)
            last = until if known >= until else max(until - MOST, known).replace(microsecond=0)
            end = counter_growth.end_of(watch.read_until, last, watch.longest) if watch.read_until else None
            if end:
                by_end[end].append(watch)
        read: dict[Key, Interval | MetricsError] = {}
        for end, group in by_end.items():
            read |= await self._intervals_to(end, group)
        return read

    async def _intervals_to(self, end: datetime, watches: Sequence[Watch]) -> dict[Key, Interval | MetricsError]:
        begins = {watch.key: watch.read_until for watch in watches if watch.read_until}
        starts = {key: milliseconds(begin) for key, begin in begins.items()}
        counts: dict[Family, FamilyCounts] = {}
        failed: dict[Key, MetricsError] = {}
        for family, users in _families(watches).items():
            try:
                counts[family] = await self._family(family, users, starts, end)
            except MetricsError as error:
                failed |= await self._failures.by_watch(error, users, family)
        await self._settle(counts.values(), end)
        for each in counts.values():
            self.doubled |= each.doubled
        answer: dict[Key, Interval | MetricsError] = dict(failed)
        readable = [watch for watch in watches if watch.key not in failed]
        # In a thread, because probes and the Lease must not wait.
        made = await asyncio.to_thread(make_intervals, readable, begins, end, counts)
        return answer | {key: replace(interval, ahead=self.ahead) for key, interval in made.items()}

    async def _family(
        self, family: Family, watches: Sequence[Watch], starts: Mapping[Key, int], end: datetime
    ) -> FamilyCounts:
        """What a family has counted; counters that begin or fall in their interval are `doubtful` still."""
        selector, names = family
        oldest = min(starts[watch.key] for watch in watches)
        window = max(timedelta(milliseconds=milliseconds(end) - oldest) + 2 * self._scrape + MARGIN, SHORTEST_WINDOW)
        epochs = _live_epochs(watches, names)
        compared = {family_of(tally) for watch in watches for tally in watch.in_progress or ()}
        counts = FamilyCounts(
            family,
            watches,
            starts=starts,
            end=milliseconds(end),
            behind=BEHIND * self._scrape // timedelta(milliseconds=1),
            levels_since=milliseconds(end - FRESH_SCRAPES * self._scrape) if family in compared else None,
            notes_samples=family in {family_of(watch.arrivals) for watch in watches if watch.arrivals},
            settings=self._settings,
        )
        attribution = counts.attribution

        def narrowed(values: Iterable[str]) -> str:
            matcher = one_of(attribution.label, values)
            live = {epoch for value in values for key, _ in attribution.named_by(value) for epoch in epochs[key]}
            if ended := [str(epoch) for epoch in range(EPOCHS) if epoch not in live]:
                matcher += f",{none_of(self._settings.epoch_label, [*ended, NO_EPOCH])}"
            return with_matcher(selector, matcher)

        async def add(values: Sequence[str]) -> None:
            """Count the series of these revisions; an answer that is too large is asked for in two parts."""
            try:
                answer = await self._ask(f"{narrowed(values)}{over_range(window)}", milliseconds(end))
            except TooLargeAnswerError:
                if len(values) == 1:
                    raise
                for half in (values[: len(values) // 2], values[len(values) // 2 :]):
                    await add(half)
                return
            await asyncio.to_thread(lambda: counts.add(series(answer)))

        for values in chunks(attribution.values):
            await add(values)
        await self._find_bases(counts, narrowed)
        return counts

    async def _find_bases(self, counts: FamilyCounts, narrowed: Callable[[Iterable[str]], str]) -> None:
        """Count the counters that begin in their interval and have an older value, perhaps under other labels."""
        lacking: dict[int, list[Doubtful]] = defaultdict(list)
        for doubtful in counts.doubtful:
            if doubtful.begins:
                lacking[doubtful.begin].append(doubtful)
        label = counts.attribution.label
        left = [doubtful for doubtful in counts.doubtful if not doubtful.begins]
        for begin, begun in lacking.items():
            older: dict[Process, dict[Own, tuple[int, float]]] = defaultdict(dict)
            for values in chunks(doubtful.counter.labels[label] for doubtful in begun):
                query = f"last_over_time({narrowed(values)}{over_range(LOOK_BACK)})"
                # A target without scrapes for a while continues: no count is lost, and no total of its life is added.
                found = counts.identities.found(series(await self._ask(query, begin)))
                for counter in chain.from_iterable(starmap(counts.identities.counters, found.items())):
                    older[counter.process][counter.own] = (begin, max(row.samples[0][1] for row in counter.rows))
            for doubtful in begun:
                counter = doubtful.counter
                known = older.get(counter.process) or older.get(Process("", counter.labels.get(PROCESS, ""))) or {}
                if counter.own in known:
                    older_value = known[counter.own][1]
                    if counts.falls_from(doubtful, older_value):
                        left.append(doubtful._replace(base=older_value))
                    else:
                        counts.settle(doubtful, older_value, ())
                    continue
                others = [Older(own, at, value) for own, (at, value) in known.items()]
                base = counts.renamed_from(doubtful, others)
                if base is None:
                    left.append(doubtful)
                else:
                    counts.settle(doubtful, base, ())
        counts.doubtful = left

    async def _settle(self, families: Iterable[FamilyCounts], end: datetime) -> None:
        """Count the counters for which the scrapes of their process decide: where they begin at zero, or were reset."""
        scraped = [
            (each, doubtful)
            for each in families
            for doubtful in each.doubtful
            if {PROCESS, "job"} <= doubtful.counter.labels.keys()
        ]
        attempts: dict[str, list[Row]] = defaultdict(list)
        started: dict[str, list[Row]] = defaultdict(list)
        if scraped:
            since = timedelta(milliseconds=milliseconds(end) - min(doubtful.begin for _, doubtful in scraped))
            jobs = sorted({doubtful.counter.labels["job"] for _, doubtful in scraped})
            for instances in chunks(doubtful.counter.labels[PROCESS] for _, doubtful in scraped):
                where = f"{one_of(PROCESS, instances)},{one_of('job', jobs)}"
                for name, over, into in (
                    ("up", since + LOOK_BACK, attempts),
                    ("process_start_time_seconds", since + self._scrape, started),
                ):
                    for row in matrix(await self._ask(f"{name}{{{where}}}{over_range(over)}", milliseconds(end)), name):
                        into[row.labels.get(PROCESS, "")].append(row)
        for each in families:
            for doubtful in each.doubtful:
                labels, begin = doubtful.counter.labels, doubtful.begin
                instance = labels.get(PROCESS, "")
                target = counter_growth.target_of(labels, attempts.get(instance, ()), started.get(instance, ()))
                base, base_since = doubtful.base, None
                if base is not None:
                    base_since = begin - LOOK_BACK // timedelta(milliseconds=1)
                elif doubtful.begins and "job" in labels:
                    samples = doubtful.counter.samples(begin, each.end, each.behind)
                    first = counter_growth.first_after(samples, begin, each.end)
                    if first is not None and counter_growth.is_new(first, begin, target, self._scrape):
                        base = 0.0
                each.settle(doubtful, base, target.started, base_since)

    async def baselines(self, watches: Sequence[Watch], at: datetime) -> dict[Key, Baseline | MetricsError]:
        """The baseline of each watch that wants one, or why it could not be read."""
        return await BaselineQueries(self._ask, self._settings, self._failures).baselines(watches, at)

    async def documents(
        self, watches: Sequence[Watch]
    ) -> tuple[dict[Key, dict[str, dict[str, ShownDocument]]], dict[Key, dict[str, float]]]:
        """The documents that pods show, by watch, engine revision and pod; and requests in progress by revision."""
        queries = DocumentQueries(self._ask, self._settings)
        # In this order: a pod that has switched has its last request of a revision in the later answer.
        shown = await queries.shown(watches)
        return shown, await queries.in_progress(watches)

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
