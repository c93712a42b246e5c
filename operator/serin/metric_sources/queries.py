"""What is asked of one Prometheus server in one reading, and what the answers say about each rollout.

Used by `serin.metric_sources.prometheus`. One query per family of counters serves every rollout; further ones are asked
only while some series is seen for the first time. Counting is in `serin.metric_sources.intervals`, HTTP in
`serin.metric_sources.connection`; nothing is remembered here from one reading to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from serin.analysis.counts import EPOCHS, Baseline, InFlight, Interval, Names, Tally
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources import counter_growth, intervals
from serin.metric_sources.attribution import Owners
from serin.metric_sources.connection import Link, RefusedError
from serin.metric_sources.counter_growth import LOOK_BACK, Row, milliseconds
from serin.metric_sources.intervals import Family, Found, family_of
from serin.metric_sources.port import Watch
from serin.metric_sources.promql import chunks, none_of, one_of, with_matcher
from serin.metric_sources.response import matrix, vector
from serin.settings import Settings

RATE_OVER = timedelta(minutes=5)
HISTOGRAMS_OVER = timedelta(hours=1)
MARGIN = timedelta(seconds=5)
FRESH_SCRAPES = 3
"""So many scrapes may fail before a process is taken to be gone, and what it had in progress with it."""
SHORTEST_WINDOW = timedelta(seconds=60)
ASPECT = "serin_aspect"
"""Label by which one query tells its values from their times."""


class Questions:
    """One reading of one server.

    Args:
        connection: to the server.
        settings: labels and intervals.
    """

    def __init__(self, connection: Link, settings: Settings) -> None:
        self._ask = connection.query
        self._settings = settings
        self._scrape = timedelta(seconds=settings.scrape_interval)
        self.left_out: dict[Key, str] = {}
        """Of whom the server refused a query that decides nothing, and in which words."""

    async def until(self, now: datetime) -> datetime:
        """Up to which moment the server knows every sample; whole seconds, so that any notation keeps it exactly.

        Its own clock counts as well as ours (`now`): ahead of it nothing is stored yet.
        """
        rows = vector(await self._ask("vector(time())"))
        if not rows:
            raise MetricsError("Prometheus does not tell its time; check that the URL is one of a Prometheus.")
        theirs = datetime.fromtimestamp(rows[0][1], UTC)
        return (min(now, theirs) - timedelta(seconds=self._settings.lag)).replace(microsecond=0)

    async def _still_there(self, error: MetricsError) -> None:
        """Whoever asked for too much is told so alone, as long as the server answers others.

        Raises:
            MetricsError: it does not.
        """
        if not isinstance(error, RefusedError):
            await self._ask("vector(time())")

    def _failed(self, error: MetricsError, asking: Iterable[Watch], family: Family) -> dict[Key, MetricsError]:
        """Whom it concerns that a family could not be read; who can do without it if it is refused is told so."""
        concerned = {}
        for watch in asking:
            if isinstance(error, RefusedError) and family in _dispensable(watch):
                self.left_out[watch.key] = str(error)
            else:
                concerned[watch.key] = error
        return concerned

    async def intervals(self, watches: Sequence[Watch], until: datetime) -> dict[Key, Interval | MetricsError]:
        """What was counted since each watch was read, or why that is not known; a watch without news is absent."""
        by_end: dict[datetime, list[Watch]] = defaultdict(list)
        for watch in watches:
            end = counter_growth.end_of(watch.read_until, until, watch.longest) if watch.read_until else None
            if end:
                by_end[end].append(watch)
        found: dict[Key, Interval | MetricsError] = {}
        for end, group in by_end.items():
            found |= await self._intervals_to(end, group)
        return found

    async def _intervals_to(self, end: datetime, watches: Sequence[Watch]) -> dict[Key, Interval | MetricsError]:
        begins = {watch.key: watch.read_until for watch in watches if watch.read_until}
        starts = {key: milliseconds(begin) for key, begin in begins.items()}
        found: dict[Family, Found] = {}
        failed: dict[Key, MetricsError] = {}
        for family, asking in _families(watches).items():
            try:
                found[family] = await self._family(family, asking, starts, end)
            except MetricsError as error:
                await self._still_there(error)
                failed |= self._failed(error, asking, family)
        await self._judge_new(found.values(), end)
        answer: dict[Key, Interval | MetricsError] = dict(failed)
        told = [watch for watch in watches if watch.key not in failed]
        # Not in the event loop: probes and leases wait for nobody.
        label = self._settings.epoch_label
        fresh = FRESH_SCRAPES * self._scrape
        return answer | await asyncio.to_thread(intervals.intervals, told, begins, end, found, label, fresh=fresh)

    async def _family(self, family: Family, asking: Sequence[Watch], starts: Mapping[Key, int], end: datetime) -> Found:
        """Raw samples of a family, and the older values of series that show none before their interval."""
        selector, names = family
        owners = Owners(names, [(watch, [r for r, _ in watch.engine_of]) for watch in asking], self._settings)
        oldest = min(starts[watch.key] for watch in asking)
        window = max(timedelta(milliseconds=milliseconds(end) - oldest) + 2 * self._scrape + MARGIN, SHORTEST_WINDOW)
        rows: list[Row] = []
        epochs = _live_epochs(asking, names)

        def narrowed(values: Iterable[str]) -> str:
            matcher = one_of(owners.label, values)
            live = {epoch for value in values for key, _ in owners.behind(value) for epoch in epochs[key]}
            if over := [str(epoch) for epoch in range(EPOCHS) if epoch not in live]:
                matcher += f",{none_of(self._settings.epoch_label, over)}"
            return _narrowed(selector, matcher)

        for values in chunks(owners.values):
            answer = await self._ask(f"{narrowed(values)}{_range(window)}", milliseconds(end))
            rows += await asyncio.to_thread(matrix, answer)
        found = Found(owners, rows, _first_seen(owners, rows, starts, milliseconds(end)), {})
        lacking: dict[int, set[str]] = defaultdict(set)
        for row, begin in found.fresh:
            found.bases[row.series, begin] = None
            lacking[begin].add(row.labels[owners.label])
        for begin, lack in lacking.items():
            for values in chunks(lack):
                older = f"last_over_time({narrowed(values)}{_range(LOOK_BACK)})"
                # A target that was silent for a while neither loses what it counted nor imports its lifetime.
                for labels, value in vector(await self._ask(older, begin)):
                    series = frozenset(labels.items())
                    if (series, begin) in found.bases:
                        found.bases[series, begin] = value
        return found

    async def _judge_new(self, found: Iterable[Found], end: datetime) -> None:
        """Give those series a base of zero that have no older value and began at zero."""
        doubtful = [
            (each, row, begin)
            for each in found
            for row, begin in each.fresh
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
        """What traffic and stable of each watch showed before; estimates, so that Prometheus may compute them."""
        wanted = [(watch, watch.baseline_of) for watch in watches if watch.baseline_of is not None]
        rates = {watch.key: 0.0 for watch, _ in wanted}
        histograms: dict[Key, dict[Tally, Mapping[str, float]]] = {watch.key: {} for watch, _ in wanted}
        failed: dict[Key, MetricsError] = {}

        async def estimate(
            tally: Tally, asking: Sequence[tuple[Watch, Sequence[str]]], over: timedelta
        ) -> list[_Estimate]:
            try:
                return await self._increase(tally, asking, over, at)
            except MetricsError as error:
                await self._still_there(error)
                failed.update(self._failed(error, [watch for watch, _ in asking], family_of(tally)))
                return []

        for tally in dict.fromkeys(watch.requests for watch, _ in wanted if watch.requests):
            asking = [(watch, watch.traffic_of) for watch, _ in wanted if watch.requests == tally]
            # What `by` counts apart is one here.
            for key, _, value in await estimate(Tally(tally.selector, None, tally.names), asking, RATE_OVER):
                rates[key] += value / RATE_OVER.total_seconds()
        for tally in dict.fromkeys(tally for watch, _ in wanted for tally in watch.tallies if tally.by == "le"):
            asking = [(watch, (stable,)) for watch, stable in wanted if tally in watch.tallies]
            buckets: dict[Key, dict[str, float]] = {watch.key: {} for watch, _ in asking}
            for key, bound, value in await estimate(tally, asking, HISTOGRAMS_OVER):
                buckets[key][bound] = buckets[key].get(bound, 0.0) + value
            for key, counts in buckets.items():
                histograms[key][tally] = counts
        return dict(failed) | {
            key: Baseline(at, rate, histograms[key]) for key, rate in rates.items() if key not in failed
        }

    async def _increase(
        self, tally: Tally, asking: Sequence[tuple[Watch, Sequence[str]]], over: timedelta, at: datetime
    ) -> list[_Estimate]:
        s = self._settings
        owners = Owners(tally.names, asking, s)
        apart = dict.fromkeys(
            [owners.label, s.namespace_label, s.deployment_label, *([tally.by] if tally.by is not None else [])]
        )
        found: list[_Estimate] = []
        for values in chunks(owners.values):
            narrowed = _narrowed(tally.selector, one_of(owners.label, values))
            query = f"sum by ({', '.join(apart)}) (increase({narrowed}{_range(over)}))"
            for labels, value in vector(await self._ask(query, milliseconds(at))):
                found += [(key, labels.get(tally.by or "", ""), value) for key, _ in owners.of(labels)]
        return found

    async def in_flight(self, engines: Iterable[str]) -> dict[tuple[str, str, str], InFlight]:
        """Running and waiting requests by namespace, deployment and engine revision, as old as the oldest sample."""
        s = self._settings
        by = (s.namespace_label, s.deployment_label, s.engine_revision_label)
        per = f"by ({', '.join(by)})"
        found: dict[tuple[str, str, str], InFlight] = {}
        for chunk in chunks(engines):
            where = f"{{{one_of(s.engine_revision_label, chunk)}}}"
            total = f"sum {per} ({s.running_metric}{where}) + sum {per} ({s.waiting_metric}{where})"
            oldest = f"min {per} (timestamp({s.running_metric}{where}))"
            # One query for both: two would be evaluated at two moments, with a scrape between them.
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


_Estimate = tuple[Key, str, float]
"""Whose, the value of `by`, and how much."""
_ALL = frozenset(range(EPOCHS))


def _live_epochs(asking: Iterable[Watch], names: Names) -> dict[Key, frozenset[int]]:
    """The epochs in which something may still grow, by watch; the others need not be asked for.

    A stable that was a canary once still shows the series of all its epochs, up to 32 times what can grow.
    """
    return {
        watch.key: frozenset(watch.epochs) if names is Names.REVISION and watch.epochs is not None else _ALL
        for watch in asking
    }


def _narrowed(selector: str, matcher: str) -> str:
    try:
        return with_matcher(selector, matcher)
    except MetricsError as error:
        raise RefusedError(str(error)) from error  # others may still be asked for


def _dispensable(watch: Watch) -> set[Family]:
    """The families of which nothing decides."""
    needed = {family_of(tally) for tally in watch.tallies if tally not in watch.optional}
    return {family_of(tally) for tally in watch.optional} - needed


def _families(watches: Iterable[Watch]) -> dict[Family, list[Watch]]:
    asking: dict[Family, list[Watch]] = defaultdict(list)
    for watch in watches:
        for family in dict.fromkeys(family_of(tally) for tally in watch.tallies):
            asking[family].append(watch)
    return asking


def _first_seen(owners: Owners, rows: Iterable[Row], starts: Mapping[Key, int], end: int) -> list[tuple[Row, int]]:
    return [
        (row, begin)
        for row in rows
        if row.samples
        for begin in {starts[key] for key, _ in owners.of(row.labels)}
        if not counter_growth.has_base(row.samples, begin)
        and counter_growth.first_after(row.samples, begin, end) is not None
    ]


def _range(over: timedelta) -> str:
    return f"[{math.ceil(over.total_seconds())}s]"
