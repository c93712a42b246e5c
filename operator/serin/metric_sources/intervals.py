"""Intervals from samples: the growth of all series, summed by tally and point for each watch. Pure.

Called by `serin.metric_sources.queries`, in a thread because a hundred rollouts have many samples. Uses
`counter_growth` for one series, and `attribution` for the revisions that it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from serin.analysis.counts import Interval, Names, Point, Sampled, Tally
from serin.kube_types import Key
from serin.metric_sources import counter_growth
from serin.metric_sources.attribution import Attribution, Counted
from serin.metric_sources.counter_growth import Labels, Rise, Row, Samples, moment
from serin.metric_sources.counters import Counter, Identities, Own, Process, bound_text, is_renamed, sources_text
from serin.metric_sources.port import Watch


class Family(NamedTuple):
    """The tallies that one query reads: all with this selector and these names, whatever their `by`."""

    selector: str
    names: Names


class Growth(NamedTuple):
    """Growth of one counter of one watch."""

    revision: str
    labels: Labels
    process: str
    rises: tuple[Rise, ...]


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


@dataclass
class FamilyCounts:
    """What one family has counted for each watch; filled answer by answer, so that no answer is kept.

    Args:
        attribution: of its series.
        identities: of its counters.
        starts: the begin of the interval, by watch, in milliseconds since 1970.
        end: the end of all intervals.
        behind: milliseconds after which a source of a counter counts as gone if another one has a newer sample.
        levels_since: counters without a sample since then are not in progress; None: levels are not needed.
        epoch_label: name of the label with the epoch.
        notes_samples: whether the times of samples are needed.
    """

    attribution: Attribution
    identities: Identities
    starts: Mapping[Key, int]
    end: int
    behind: int
    levels_since: int | None
    epoch_label: str
    notes_samples: bool = False
    grown: dict[Key, list[Growth]] = field(default_factory=lambda: defaultdict(list))
    bounds: dict[Key, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    levels: dict[Key, dict[tuple[str, int], float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    sampled: dict[Key, dict[str, dict[Process, int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By watch and revision, the time of the newest sample of each process, in milliseconds since 1970."""
    doubtful: list[Doubtful] = field(default_factory=list)
    doubled: dict[Key, str] = field(default_factory=dict)
    """By watch, which sources show the same counter."""

    def add(self, rows: Iterable[Row]) -> None:
        """Count the series of one answer."""
        counters = self.identities.counters(rows)
        begun: list[Doubtful] = []
        for counter in counters:
            counted = self.attribution.of(counter.labels)
            if not counted:
                continue
            self._note(counter, counted)
            for begin in {self.starts[key] for key, _ in counted}:
                samples = counter.samples(begin, self.end, self.behind)
                if not counter_growth.has_base(samples, begin):
                    if counter_growth.first_after(samples, begin, self.end) is not None:
                        begun.append(Doubtful(counter, begin, begins=True))
                elif counter_growth.is_doubtful_fall(samples):
                    self.doubtful.append(Doubtful(counter, begin, begins=False))
                else:
                    self._count(counter, begin, samples)
        if begun:
            self._continue_renamed(begun, counters)

    def _note(self, counter: Counter, counted: Iterable[Counted]) -> None:
        """Note what is needed of a counter beside its growth: bounds, level, and whether it is shown several times."""
        for row in counter.rows:
            if bound := row.labels.get("le"):
                for key, revision in counted:
                    self.bounds[key][revision].add(bound_text(bound))
        if self.levels_since is not None:
            epoch = counter_growth.epoch_of(counter.labels.get(self.epoch_label))
            value = counter_growth.last(counter.samples(self.end, self.end, self.behind), self.levels_since, self.end)
            if epoch is not None and value is not None:
                for key, revision in counted:
                    self.levels[key][revision, epoch] += value
        if self.notes_samples:
            samples = counter.samples(self.end, self.end, self.behind)
            for newest in [at for at, _ in samples if at <= self.end][-1:]:
                for key, revision in counted:
                    processes = self.sampled[key][revision]
                    processes[counter.process] = max(newest, processes.get(counter.process, newest))
        if duplicates := counter.duplicates(self.behind):
            for key, _ in counted:
                self.doubled.setdefault(key, sources_text(duplicates))

    def _continue_renamed(self, begun: Iterable[Doubtful], counters: Iterable[Counter]) -> None:
        """Count those of these counters that continue another one of the same answer; the others stay doubtful."""
        processes = {doubtful.counter.process for doubtful in begun}
        older: dict[Process, list[Older]] = defaultdict(list)
        for counter in counters:
            if counter.process in processes:
                older[counter.process] += [Older(counter.own, *row.samples[-1]) for row in counter.rows]
        for doubtful in begun:
            base = self.renamed_from(doubtful, older[doubtful.counter.process])
            if base is None:
                self.doubtful.append(doubtful)
            else:
                self.settle(doubtful, base, ())

    def _count(
        self,
        counter: Counter,
        begin: int,
        samples: Samples,
        base: float | None = None,
        started: Samples = (),
        *,
        base_since: int | None = None,
    ) -> None:
        grown = counter_growth.rises(samples, begin, self.end, base, started, base_since=base_since)
        if grown:
            for key, revision in self.attribution.of(counter.labels):
                if self.starts[key] == begin:
                    self.grown[key].append(Growth(revision, counter.labels, counter.process.name, grown))

    def settle(self, doubtful: Doubtful, base: float | None, started: Samples, base_since: int | None = None) -> None:
        """Count a doubtful counter.

        Args:
            doubtful: the counter.
            base: its value at the begin; None if unknown, so that its first sample adds nothing.
            started: see `counter_growth.Target.started`.
            base_since: see `counter_growth.rises`.
        """
        counter, begin = doubtful.counter, doubtful.begin
        self._count(counter, begin, counter.samples(begin, self.end, self.behind), base, started, base_since=base_since)

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
    epoch_label: str,
) -> dict[Key, Interval]:
    """The interval of each watch, from its own begin to the common end.

    Args:
        watches: those that want counts.
        begins: the begin of the interval, by watch.
        end: the end of all intervals.
        counts: by family; the tallies of a family that is missing are `unread`.
        epoch_label: name of the label with the epoch.
    """
    return {watch.key: _interval(watch, begins[watch.key], end, counts, epoch_label) for watch in watches}


def _interval(
    watch: Watch, begin: datetime, end: datetime, families: Mapping[Family, FamilyCounts], epoch_label: str
) -> Interval:
    counts: dict[Tally, Mapping[Point, int]] = {}
    bounds: dict[Tally, Mapping[str, frozenset[str]]] = {}
    of_processes: dict[Tally, Mapping[str, Mapping[Point, int]]] = {}
    read = [tally for tally in watch.tallies if family_of(tally) in families]
    for tally in read:
        family = families[family_of(tally)]
        grown = family.grown.get(watch.key, ())
        if not (points := _points(grown, tally, epoch_label)):
            continue
        counts[tally] = points
        if tally.by == "le":
            known = family.bounds.get(watch.key, {})
            bounds[tally] = {revision: frozenset(texts) for revision, texts in known.items()}
        if tally in watch.by_process:
            by_process: dict[str, list[Growth]] = defaultdict(list)
            for growth in grown:
                if growth.revision == watch.by_process_of and growth.process:
                    by_process[growth.process].append(growth)
            of_processes[tally] = {process: _points(part, tally, epoch_label) for process, part in by_process.items()}
    unread = frozenset(watch.tallies) - frozenset(read)
    return Interval(
        begin, end, counts, bounds, of_processes, unread, _in_progress(watch, families), _sampled(watch, families)
    )


def _sampled(watch: Watch, families: Mapping[Family, FamilyCounts]) -> dict[str, Sampled]:
    """When the processes that count arrivals were scraped, by revision.

    Processes that serve all these revisions split their requests themselves, so each of their samples shows all sides
    at one moment: the newest sample of any of them is then that of all.
    """
    family = families.get(family_of(watch.arrivals)) if watch.arrivals else None
    found = family.sampled.get(watch.key, {}) if family else {}
    shared = len(found) > 1 and len({frozenset(processes) for processes in found.values()}) == 1
    return {
        revision: Sampled(moment(max(times) if shared else min(times)), moment(max(times)))
        for revision, times in ((revision, processes.values()) for revision, processes in found.items())
    }


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


def _points(grown: Iterable[Growth], tally: Tally, epoch_label: str) -> dict[Point, int]:
    """Growth of one watch by point; a point that grew by less than one event is absent."""
    sums: dict[Point, int] = defaultdict(int)
    by = tally.by.split(",") if tally.by is not None else ()
    for revision, labels, _, rises in grown:
        count = counter_growth.whole(rises, tally.scale)
        if not count:
            continue
        epoch = None
        if tally.names is Names.REVISION:
            text = labels.get(epoch_label)
            if text == counter_growth.NO_EPOCH:
                continue
            epoch = counter_growth.epoch_of(text)
        value = ",".join([labels.get(label, "") for label in by])
        sums[revision, epoch, bound_text(value) if tally.by == "le" else value] += count
    return dict(sums)
