"""Intervals from samples: the growth of all series, summed by tally and point for each watch. Pure.

Called by `serin.metric_sources.queries`, in a thread because a hundred rollouts have many samples. Uses
`counter_growth` for one series, and `attribution` for the revisions that it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from serin.analysis.counts import Interval, Names, Point, Tally
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.counter_growth import Labels, Row, Series, milliseconds
from serin.metric_sources.port import Watch

PROCESS = "instance"
"""The target label that identifies a process."""


class Family(NamedTuple):
    """The tallies that one query reads: all with this selector and these names, whatever their `by`."""

    selector: str
    names: Names


class _Growth(NamedTuple):
    """Growth of one series of one watch."""

    revision: str
    labels: Labels
    events: float


_Levels = dict[Key, dict[tuple[str, int], float]]
"""Counter values by watch, then by revision and epoch."""


@dataclass(frozen=True)
class FamilySamples:
    """The samples of one family, and the base values of series that begin within an interval."""

    attribution: Attribution
    rows: Sequence[Row]
    beginning: Sequence[tuple[Row, int]]
    """The series whose first sample is within an interval, each with the begin of that interval."""
    bases: dict[tuple[Series, int], float | None]
    """The base value of those series, by series and begin; None if unknown, so the first sample adds nothing."""


def family_of(tally: Tally) -> Family:
    """The family whose query reads a tally."""
    return Family(tally.selector, tally.names)


def make_intervals(
    watches: Sequence[Watch],
    begins: Mapping[Key, datetime],
    end: datetime,
    samples: Mapping[Family, FamilySamples],
    epoch_label: str,
    *,
    fresh: timedelta,
) -> dict[Key, Interval]:
    """The interval of each watch, from its own begin to the common end.

    Args:
        watches: those that want counts.
        begins: the begin of the interval, by watch.
        end: the end of all intervals.
        samples: by family; the tallies of a family that is missing are `unread`.
        epoch_label: name of the label with the epoch.
        fresh: a process without a scrape for so long before the end counts as gone.
    """
    starts = {key: milliseconds(begin) for key, begin in begins.items()}
    compared = {family_of(tally) for watch in watches for tally in watch.in_progress or ()}
    levels = {
        family: _levels(samples[family], milliseconds(end - fresh), milliseconds(end), epoch_label)
        for family in compared & samples.keys()
    }
    grown = {family: _grown(each, starts, milliseconds(end)) for family, each in samples.items()}
    return {
        watch.key: _interval(
            watch,
            begins[watch.key],
            end,
            {
                tally: grown[family_of(tally)].get(watch.key, ())
                for tally in watch.tallies
                if family_of(tally) in samples
            },
            epoch_label,
            in_progress=_in_progress(watch, levels),
        )
        for watch in watches
    }


def _interval(
    watch: Watch,
    begin: datetime,
    end: datetime,
    by_tally: Mapping[Tally, Sequence[_Growth]],
    epoch_label: str,
    *,
    in_progress: Mapping[tuple[str, int], int] | None,
) -> Interval:
    counts: dict[Tally, Mapping[Point, int]] = {}
    bounds: dict[Tally, Mapping[str, frozenset[str]]] = {}
    of_processes: dict[Tally, Mapping[str, Mapping[Point, int]]] = {}
    for tally, grown in by_tally.items():
        if not (points := _points(grown, tally, epoch_label)):
            continue
        counts[tally] = points
        if tally.by == "le":
            bounds[tally] = _bounds(grown)
        if tally in watch.by_process:
            by_process: dict[str, list[_Growth]] = defaultdict(list)
            for growth in grown:
                if growth.events and growth.revision == watch.by_process_of and (process := growth.labels.get(PROCESS)):
                    by_process[process].append(growth)
            of_processes[tally] = {process: _points(part, tally, epoch_label) for process, part in by_process.items()}
    return Interval(begin, end, counts, bounds, of_processes, frozenset(watch.tallies) - by_tally.keys(), in_progress)


def _levels(family: FamilySamples, since: int, end: int, epoch_label: str) -> _Levels:
    """The newest values in `(since, end]` of a family's counters, summed over processes."""
    levels: _Levels = defaultdict(lambda: defaultdict(float))
    for row in family.rows:
        value, epoch = (
            counter_growth.last(row.samples, since, end),
            counter_growth.epoch_of(row.labels.get(epoch_label)),
        )
        if value is not None and epoch is not None:
            for key, revision in family.attribution.of(row.labels):
                levels[key][revision, epoch] += value
    return levels


def _in_progress(watch: Watch, levels: Mapping[Family, _Levels]) -> dict[tuple[str, int], int] | None:
    """Requests in progress by revision and epoch; None if one of the two counters is not wanted or was not read.

    A scrape reads both counters of a process at once, so their newest values belong together.
    """
    families = [family_of(tally) for tally in watch.in_progress or ()]
    if not families or any(family not in levels for family in families):
        return None
    arrived, ended = (levels[family].get(watch.key, {}) for family in families)
    counts = {place: round(value - ended.get(place, 0.0)) for place, value in arrived.items()}
    return {place: count for place, count in counts.items() if count > 0}


def _grown(family: FamilySamples, starts: Mapping[Key, int], end: int) -> dict[Key, list[_Growth]]:
    """The growth of every series by watch, including series that did not grow."""
    grown: dict[Key, list[_Growth]] = defaultdict(list)
    for row in family.rows:
        for key, revision in family.attribution.of(row.labels):
            begin = starts[key]
            base = None if counter_growth.has_base(row.samples, begin) else family.bases.get((row.series, begin))
            grown[key].append(_Growth(revision, row.labels, counter_growth.growth(row.samples, begin, end, base)))
    return grown


def _bounds(grown: Iterable[_Growth]) -> dict[str, frozenset[str]]:
    """The bounds of a histogram's series by revision, including series that did not grow."""
    found: dict[str, set[str]] = defaultdict(set)
    for growth in grown:
        if bound := growth.labels.get("le"):
            found[growth.revision].add(bound)
    return {revision: frozenset(bounds) for revision, bounds in found.items()}


def _points(grown: Iterable[_Growth], tally: Tally, epoch_label: str) -> dict[Point, int]:
    """Growth of one watch by point; a point that grew by less than one event is absent."""
    sums: dict[Point, float] = defaultdict(float)
    for revision, labels, count in grown:
        if not count:
            continue
        epoch = counter_growth.epoch_of(labels.get(epoch_label)) if tally.names is Names.REVISION else None
        sums[revision, epoch, labels.get(tally.by, "") if tally.by is not None else ""] += count
    scaled = {point: round(total * tally.scale) for point, total in sums.items()}
    return {point: count for point, count in scaled.items() if count}
