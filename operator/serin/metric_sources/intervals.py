"""From samples to intervals: what every series of a reading grew by, summed for each rollout that asked. Pure.

Called by `serin.metric_sources.queries`, in a thread: of a hundred rollouts there are many samples. What one counter
grew by is said in `serin.metric_sources.counter_growth`, whose it is in `serin.metric_sources.attribution`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serin.analysis.counts import Interval, Names, Point, Tally
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Owners
from serin.metric_sources.counter_growth import Labels, Row, Series, milliseconds
from serin.metric_sources.port import Watch

PROCESS = "instance"
"""The target label that tells processes apart."""

Family = tuple[str, Names]
"""Selector and names: tallies that differ only in `by` are read by the same query."""
_Levels = dict[Key, dict[tuple[str, int], float]]
"""Values of counters by watch, revision and epoch."""
_Grown = tuple[str, Labels, float]
"""A series of one watch: revision, labels, and what it grew by."""


@dataclass(frozen=True)
class Found:
    """The answer to one family, and what the first sample of a series is to be compared with."""

    owners: Owners
    rows: Sequence[Row]
    fresh: Sequence[tuple[Row, int]]
    """The series that are first seen within an interval, with where it begins."""
    bases: dict[tuple[Series, int], float | None]
    """By series and beginning, for series without a sample before it; None: their first value counts nothing."""


def family_of(tally: Tally) -> Family:
    """By which query a tally is read."""
    return (tally.selector, tally.names)


def intervals(
    watches: Sequence[Watch],
    begins: Mapping[Key, datetime],
    end: datetime,
    found: Mapping[Family, Found],
    epoch_label: str,
    *,
    fresh: timedelta,
) -> dict[Key, Interval]:
    """What each watch is told of the time from its own beginning to the common end.

    A process that was not scraped for `fresh` before the end is taken to be gone.
    """
    starts = {key: milliseconds(begin) for key, begin in begins.items()}
    compared = {family_of(tally) for watch in watches for tally in watch.in_progress or ()}
    levels = {
        family: _levels(found[family], milliseconds(end - fresh), milliseconds(end), epoch_label)
        for family in compared & found.keys()
    }
    grown = {family: _grown(each, starts, milliseconds(end)) for family, each in found.items()}
    return {
        watch.key: _interval(
            watch,
            begins[watch.key],
            end,
            {tally: grown[family_of(tally)].get(watch.key, ()) for tally in watch.tallies if family_of(tally) in found},
            epoch_label,
            in_progress=_in_progress(watch, levels),
        )
        for watch in watches
    }


def _interval(
    watch: Watch,
    begin: datetime,
    end: datetime,
    by_tally: Mapping[Tally, Sequence[_Grown]],
    epoch_label: str,
    *,
    in_progress: Mapping[tuple[str, int], int] | None,
) -> Interval:
    counts: dict[Tally, Mapping[Point, int]] = {}
    bounds: dict[Tally, Mapping[str, frozenset[str]]] = {}
    apart: dict[Tally, Mapping[str, Mapping[Point, int]]] = {}
    for tally, grown in by_tally.items():
        if not (points := _points(grown, tally, epoch_label)):
            continue
        counts[tally] = points
        if tally.by == "le":
            bounds[tally] = _bounds(grown)
        if tally in watch.apart:
            by_process: dict[str, list[_Grown]] = defaultdict(list)
            for revision, labels, growth in grown:
                if growth and revision == watch.apart_of and (process := labels.get(PROCESS)):
                    by_process[process].append((revision, labels, growth))
            apart[tally] = {process: _points(part, tally, epoch_label) for process, part in by_process.items()}
    return Interval(begin, end, counts, bounds, apart, frozenset(watch.tallies) - by_tally.keys(), in_progress)


def _levels(found: Found, since: int, end: int, epoch_label: str) -> _Levels:
    """What the counters of a family show in `(since, end]`, summed over processes, by whose requests they count."""
    levels: _Levels = defaultdict(lambda: defaultdict(float))
    for row in found.rows:
        value, epoch = (
            counter_growth.last(row.samples, since, end),
            counter_growth.epoch_of(row.labels.get(epoch_label)),
        )
        if value is not None and epoch is not None:
            for key, revision in found.owners.of(row.labels):
                levels[key][revision, epoch] += value
    return levels


def _in_progress(watch: Watch, levels: Mapping[Family, _Levels]) -> dict[tuple[str, int], int] | None:
    """Requests in progress by revision and epoch; None where one of the two counters is not wanted or was not read.

    One page shows both counters of a process, so their last values belong together.
    """
    families = [family_of(tally) for tally in watch.in_progress or ()]
    if not families or any(family not in levels for family in families):
        return None
    arrived, ended = (levels[family].get(watch.key, {}) for family in families)
    counts = {place: round(value - ended.get(place, 0.0)) for place, value in arrived.items()}
    return {place: count for place, count in counts.items() if count > 0}


def _grown(found: Found, starts: Mapping[Key, int], end: int) -> dict[Key, list[_Grown]]:
    """What every series grew by, by whose requests it counts; those that did not grow are told as well."""
    grown: dict[Key, list[_Grown]] = defaultdict(list)
    for row in found.rows:
        for key, revision in found.owners.of(row.labels):
            begin = starts[key]
            base = None if counter_growth.has_base(row.samples, begin) else found.bases.get((row.series, begin))
            grown[key].append((revision, row.labels, counter_growth.growth(row.samples, begin, end, base)))
    return grown


def _bounds(grown: Iterable[_Grown]) -> dict[str, frozenset[str]]:
    """The bounds of a histogram's series by revision, whether or not they grew."""
    found: dict[str, set[str]] = defaultdict(set)
    for revision, labels, _ in grown:
        if bound := labels.get("le"):
            found[revision].add(bound)
    return {revision: frozenset(bounds) for revision, bounds in found.items()}


def _points(grown: Iterable[_Grown], tally: Tally, epoch_label: str) -> dict[Point, int]:
    """Growth of one rollout by point; a point that did not grow by a whole event is absent."""
    sums: dict[Point, float] = defaultdict(float)
    for revision, labels, growth in grown:
        if not growth:
            continue
        epoch = counter_growth.epoch_of(labels.get(epoch_label)) if tally.names is Names.REVISION else None
        sums[revision, epoch, labels.get(tally.by, "") if tally.by is not None else ""] += growth
    scaled = {point: round(total * tally.scale) for point, total in sums.items()}
    return {point: count for point, count in scaled.items() if count}
