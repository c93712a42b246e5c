"""Intervals from samples: the growth of all series, summed by tally and point for each watch. Pure.

Called by `serin.metric_sources.queries`, in a thread because a hundred rollouts have many samples. Uses
`counter_growth` for one series, and `attribution` for the revisions that it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from serin.analysis.counts import Interval, Names, Point, Tally
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution, Counted
from serin.metric_sources.counter_growth import NO_EPOCH, Rise, Samples, moment
from serin.metric_sources.counters import Counter, Own, Process, is_renamed, sources_text
from serin.metric_sources.identities import CounterKey, Identities, Place, Shown
from serin.metric_sources.port import Watch
from serin.metric_sources.response import UNREADABLE, Sent, SentValues, samples_of, unreadable, values_of
from serin.settings import Settings


class Family(NamedTuple):
    """The tallies that one query reads: all with this selector and these names, whatever their `by`."""

    selector: str
    names: Names


class Doubtful(NamedTuple):
    """A counter whose growth depends on more than its samples: it begins, or its value falls a little."""

    counter: Counter
    begin: int
    begins: bool
    """Whether it has no sample at or before the begin."""
    base: float | None = None
    """Its value of some time before the window, if that is known."""


class Older(NamedTuple):
    """The newest sample of a counter that a new one may continue."""

    own: Own
    at: int
    value: float


@dataclass(slots=True)
class TallyCounts:
    """What was counted for one tally of one watch."""

    scale: int
    by: tuple[int, ...]
    """Where the labels of `Tally.by` are in `Identities.names`."""
    by_process_of: str | None
    """The revision whose counts are needed by process as well."""
    points: dict[Point, int] = field(default_factory=dict)
    by_process: dict[str, dict[Point, int]] = field(default_factory=dict)

    def add(self, revision: str, epoch: int | None, known: Sequence[str], process: str, grown: Sequence[Rise]) -> None:
        """Add the growth of one counter; growth of less than one event is left out."""
        if count := counter_growth.whole(grown, self.scale):
            point = (revision, epoch, ",".join([known[index] for index in self.by]))
            self.points[point] = self.points.get(point, 0) + count
            if revision == self.by_process_of and process:
                points = self.by_process.setdefault(process, {})
                points[point] = points.get(point, 0) + count


class FamilyCounts:
    """What one family has counted for each watch; filled answer by answer, so that no answer is kept.

    Args:
        family: the family.
        watches: those that want it.
        starts: the begin of the interval, by watch, in milliseconds since 1970.
        end: the end of all intervals.
        behind: milliseconds after which a source of a counter counts as gone if another one has a newer sample.
        levels_since: counters without a sample since then are not in progress; None: levels are not needed.
        notes_samples: whether the times of samples are needed.
        settings: names of labels.
    """

    def __init__(
        self,
        family: Family,
        watches: Sequence[Watch],
        *,
        starts: Mapping[Key, int],
        end: int,
        behind: int,
        levels_since: int | None,
        notes_samples: bool,
        settings: Settings,
    ) -> None:
        self.family = family
        self.attribution = Attribution(
            family.names, [(watch, [r for r, _ in watch.engine_of]) for watch in watches], settings
        )
        tallies = [(watch, tally) for watch in watches for tally in watch.tallies if family_of(tally) == family]
        by = {tally: tuple(tally.by.split(",")) if tally.by is not None else () for _, tally in tallies}
        self.identities = Identities(
            family.selector, self.attribution.label, settings, chain.from_iterable(by.values())
        )
        self.tallies: dict[Key, dict[Tally, TallyCounts]] = defaultdict(dict)
        """What was counted, by watch and tally."""
        for watch, tally in tallies:
            places = tuple(map(self.identities.index, by[tally]))
            by_process_of = watch.by_process_of if tally in watch.by_process else None
            self.tallies[watch.key][tally] = TallyCounts(tally.scale, places, by_process_of)
        self._histogram = any(tally.by == "le" for _, tally in tallies)
        self._bound, self._epoch = (self.identities.index(name) for name in ("le", settings.epoch_label))
        self._starts, self.end, self.behind, self._levels_since = starts, end, behind, levels_since
        self._notes_samples = notes_samples
        self.bounds: dict[Key, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.levels: dict[Key, dict[tuple[str, int], float]] = defaultdict(lambda: defaultdict(float))
        self.sampled: dict[Key, dict[str, dict[Process, int]]] = defaultdict(lambda: defaultdict(dict))
        """By watch and revision, the time of the newest sample of each process, in milliseconds since 1970."""
        self.doubtful: list[Doubtful] = []
        self.doubled: dict[Key, str] = {}
        """By watch, which sources show the same counter."""

    def add(self, series: Iterable[tuple[Sent, SentValues]]) -> None:
        """Count the series of one answer.

        Raises:
            MetricsError: a series cannot be parsed.
        """
        found = self.identities.found(series)
        place_of = self.identities.place
        counted: dict[Place, list[Counted]] = {}
        begun: list[Doubtful] = []
        for key, shown in found.items():
            if shown.others is None:
                place = place_of(shown.known)
                if place not in counted:
                    counted[place] = self.attribution.of_place(place)
                if not counted[place]:
                    samples_of(shown.values)
                    continue
                if self._is_plain(key, shown, counted[place]):
                    continue
            for counter in self.identities.counters(key, shown):
                begun += self._examine(counter)
        if begun:
            self._continue_renamed(begun, found)

    def _is_plain(self, key: CounterKey, shown: Shown, counted: Sequence[Counted]) -> bool:
        """Count a counter that one series shows and that only grows, as nearly all do; False if it is another one."""
        begin = self._starts[counted[0].key]
        if len(counted) > 1 and any(self._starts[each.key] != begin for each in counted):
            return False
        values = values_of(shown.values)
        try:
            rise = counter_growth.plain_rise(values, begin / 1000, self.end / 1000)
            if rise is None:
                return False
            if self._histogram or self._notes_samples or self._levels_since is not None:
                newest = (round(values[-1][0] * 1000), float(values[-1][1]))
                self._note(shown.known, Process(key[0], key[1]), newest, counted)
        except UNREADABLE as error:
            raise unreadable(shown.values) from error
        if rise:
            for each in counted:
                self._count(each, shown.known, key[1], (rise,))
        return True

    def _examine(self, counter: Counter) -> list[Doubtful]:
        """Count a counter, or note that it is doubtful; those that begin are returned instead."""
        begun: list[Doubtful] = []
        counted = self.attribution.of(counter.labels)
        at_end = counter.samples(self.end, self.end, self.behind)
        newest = next((sample for sample in reversed(at_end) if sample[0] <= self.end), None)
        self._note(self.identities.known(counter.labels), counter.process, newest, counted)
        if duplicates := counter.duplicates(self.behind):
            for key, _ in counted:
                self.doubled.setdefault(key, sources_text(duplicates))
        for begin in {self._starts[key] for key, _ in counted}:
            samples = counter.samples(begin, self.end, self.behind)
            if not counter_growth.has_base(samples, begin):
                if counter_growth.first_after(samples, begin, self.end) is not None:
                    begun.append(Doubtful(counter, begin, begins=True))
            elif counter_growth.is_doubtful_fall(samples):
                self.doubtful.append(Doubtful(counter, begin, begins=False))
            else:
                self._count_rises(counter, begin, counter_growth.rises(samples, begin, self.end))
        return begun

    def _note(
        self,
        known: Sequence[str],
        process: Process,
        newest: tuple[int, float] | None,
        counted: Iterable[Counted],
    ) -> None:
        """Note what is needed of a counter beside its growth: its bound, its height at the end, its newest sample."""
        if self._histogram and (bound := known[self._bound]):
            for key, revision in counted:
                self.bounds[key][revision].add(bound)
        if self._levels_since is not None and newest is not None and newest[0] > self._levels_since:
            epoch = counter_growth.epoch_of(known[self._epoch])
            if epoch is not None:
                for key, revision in counted:
                    self.levels[key][revision, epoch] += newest[1]
        if self._notes_samples and newest is not None:
            for key, revision in counted:
                processes = self.sampled[key][revision]
                processes[process] = max(newest[0], processes.get(process, newest[0]))

    def _continue_renamed(self, begun: Iterable[Doubtful], found: Mapping[CounterKey, Shown]) -> None:
        """Count those of these counters that continue another one of the same answer; the others stay doubtful."""
        begun_with: dict[Process, set[tuple[str, ...]]] = defaultdict(set)
        for doubtful in begun:
            begun_with[doubtful.counter.process].add(tuple([name for name, _ in doubtful.counter.own]))
        older: dict[Process, list[Older]] = defaultdict(list)
        for key, shown in found.items():
            process = Process(key[0], key[1])
            # A renamed counter has further or fewer labels than before. Other counters need not be decoded.
            if process in begun_with and (shown.others or begun_with[process] != {self.identities.own_names(key)}):
                for counter in self.identities.counters(key, shown):
                    older[process] += [Older(counter.own, *row.samples[-1]) for row in counter.rows]
        for doubtful in begun:
            base = self.renamed_from(doubtful, older[doubtful.counter.process])
            if base is None:
                self.doubtful.append(doubtful)
            else:
                self.settle(doubtful, base, ())

    def settle(self, doubtful: Doubtful, base: float | None, started: Samples, base_since: int | None = None) -> None:
        """Count a doubtful counter.

        Args:
            doubtful: the counter.
            base: its value at the begin; None if unknown, so that its first sample adds nothing.
            started: see `counter_growth.Target.started`.
            base_since: see `counter_growth.rises`.
        """
        counter, begin = doubtful.counter, doubtful.begin
        samples = counter.samples(begin, self.end, self.behind)
        grown = counter_growth.rises(samples, begin, self.end, base, started, base_since=base_since)
        self._count_rises(counter, begin, grown)

    def _count_rises(self, counter: Counter, begin: int, grown: Sequence[Rise]) -> None:
        """Add the growth of a counter to the counts of those of its watches whose interval has this begin."""
        if grown:
            known = self.identities.known(counter.labels)
            for each in self.attribution.of(counter.labels):
                if self._starts[each.key] == begin:
                    self._count(each, known, counter.process.name, grown)

    def _count(self, counted: Counted, known: Sequence[str], process: str, grown: Sequence[Rise]) -> None:
        """Add the growth of a counter to the counts of one watch."""
        key, revision = counted
        epoch = None
        if self.family.names is Names.REVISION:
            if (text := known[self._epoch]) == NO_EPOCH:
                return
            epoch = counter_growth.epoch_of(text)
        for counts in self.tallies[key].values():
            counts.add(revision, epoch, known, process, grown)

    def falls_from(self, doubtful: Doubtful, base: float) -> bool:
        """Whether the counter begins below its older value, so that only the start of its process says why."""
        samples = doubtful.counter.samples(doubtful.begin, self.end, self.behind)
        return counter_growth.is_doubtful_fall([(doubtful.begin, base), *samples[:1]])

    def renamed_from(self, doubtful: Doubtful, others: Iterable[Older]) -> float | None:
        """The last value of the counter that this one continues under other labels; None if there is none.

        Args:
            doubtful: a counter that begins.
            others: counters of its process.
        """
        counter, begin = doubtful.counter, doubtful.begin
        samples = counter.samples(begin, self.end, self.behind)
        first, value = next(sample for sample in samples if sample[0] > begin)
        values = [
            old.value for old in others if old.at < first and old.value <= value and is_renamed(counter.own, old.own)
        ]
        return max(values, default=None)


def family_of(tally: Tally) -> Family:
    """The family whose query reads a tally."""
    return Family(tally.selector, tally.names)


def make_intervals(
    watches: Sequence[Watch],
    begins: Mapping[Key, datetime],
    end: datetime,
    counts: Mapping[Family, FamilyCounts],
) -> dict[Key, Interval]:
    """The interval of each watch, from its own begin to the common end.

    Args:
        watches: those that want counts.
        begins: the begin of the interval, by watch.
        end: the end of all intervals.
        counts: by family; the tallies of a family that is missing are `unread`.
    """
    return {watch.key: _interval(watch, begins[watch.key], end, counts) for watch in watches}


def _interval(watch: Watch, begin: datetime, end: datetime, families: Mapping[Family, FamilyCounts]) -> Interval:
    counts: dict[Tally, Mapping[Point, int]] = {}
    bounds: dict[Tally, Mapping[str, frozenset[str]]] = {}
    by_process: dict[Tally, Mapping[str, Mapping[Point, int]]] = {}
    read = [tally for tally in watch.tallies if family_of(tally) in families]
    for tally in read:
        family = families[family_of(tally)]
        found = family.tallies[watch.key][tally]
        if not found.points:
            continue
        counts[tally] = found.points
        if tally.by == "le":
            known = family.bounds.get(watch.key, {})
            bounds[tally] = {revision: frozenset(texts) for revision, texts in known.items()}
        if tally in watch.by_process:
            by_process[tally] = found.by_process
    unread = frozenset(watch.tallies) - frozenset(read)
    return Interval(
        begin, end, counts, bounds, by_process, unread, _in_progress(watch, families), _sampled(watch, families)
    )


def _sampled(watch: Watch, families: Mapping[Family, FamilyCounts]) -> dict[str, dict[str, datetime]]:
    """By revision and process, the newest sample that counts arrivals."""
    family = families.get(family_of(watch.arrivals)) if watch.arrivals else None
    found = family.sampled.get(watch.key, {}) if family else {}
    return {revision: {process.name: moment(at) for process, at in times.items()} for revision, times in found.items()}


def _in_progress(watch: Watch, counts: Mapping[Family, FamilyCounts]) -> dict[tuple[str, int], int] | None:
    """Requests in progress by revision and epoch; None if one of the two counters is not wanted or was not read.

    A scrape reads both counters of a process at once, so their newest values belong together.
    """
    families = [family_of(tally) for tally in watch.in_progress or ()]
    if not families or any(family not in counts for family in families):
        return None
    arrived, ended = (counts[family].levels.get(watch.key, {}) for family in families)
    found = {place: round(value - ended.get(place, 0.0)) for place, value in arrived.items()}
    return {place: count for place, count in found.items() if count > 0}
