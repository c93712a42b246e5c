"""Which series show the same counter, and its samples from all of them. Pure.

Called by `serin.metric_sources.intervals`. A counter belongs to a process: two scrape jobs, two Prometheus replicas or
a federating server show it several times, and a relabelled series shows it again under other labels. Each counter is
counted once, whatever shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from serin.metric_sources.counter_growth import Labels, Row, Samples
from serin.settings import Settings

POD = "pod"
PROCESS = "instance"
"""The target label that identifies a process where no label names its pod."""
OWN_LABELS = ("outcome", "le", "metric", "cached", "load", "boundary")
"""Labels of the model server's series beside revision and epoch; all others come from scraping."""
FEDERATED_BY = "federated_by"
"""Given here to series that a federating server has scraped under its own labels."""
ALWAYS_SCRAPED = frozenset({"__name__", "job", PROCESS, POD, "prometheus", FEDERATED_BY})
"""Labels that scraping gives, whatever the metric; so are all names that end with `replica`."""
USUALLY_SCRAPED = frozenset({"container", "endpoint", "service", "node", "monitor", "cluster", "receive", "tenant_id"})
"""Labels that scraping gives to pods; a user's own metric may have such a label of its own."""
_REPLICA = ("replica", "replica_", "replica__")
_EXPORTED = "exported_"


Own = tuple[tuple[str, str], ...]
"""Names and values of a counter's own labels."""


class Process(NamedTuple):
    """A scraped process; without a namespace where no label names its pod."""

    namespace: str
    name: str


@dataclass(slots=True)
class Counter:
    """A counter of one process, with the series that show it."""

    process: Process
    own: Own
    """The labels that separate it from other counters of its process."""
    rows: list[Row]
    """In the order in which they are preferred."""

    @property
    def labels(self) -> Labels:
        """The labels of its preferred series."""
        return self.rows[0].labels

    def samples(self, begin: int, end: int, behind: int) -> Samples:
        """One stream of samples: from the source that was in front at the begin, then from the one at the end.

        Which source is in front depends only on the samples until then, so consecutive intervals add up to the whole.

        Args:
            begin: of the interval, in milliseconds since 1970.
            end: of the interval.
            behind: milliseconds after which a source counts as gone if another one has a newer sample.
        """
        if len(self.rows) == 1:
            return self.rows[0].samples
        before, after = (_in_front(self.rows, at, behind) for at in (begin, end))
        if before is None or after is None or before is after:
            return after.samples if after else ()
        until_begin = [sample for sample in before.samples if sample[0] <= begin]
        return [*until_begin, *(sample for sample in after.samples if sample[0] > begin)]

    def duplicates(self, behind: int) -> list[Row]:
        """The series that show it at the same time; empty if it is shown once, or was renamed."""
        if len(self.rows) < 2:
            return []
        newest = max(row.samples[-1][0] for row in self.rows)
        current = [row for row in self.rows if newest - row.samples[-1][0] < behind]
        begun = max(row.samples[0][0] for row in current)
        overlapping = [row for row in current if row.samples[-1][0] >= begun]
        return overlapping if len(overlapping) > 1 else []


def _in_front(rows: Sequence[Row], at: int, behind: int) -> Row | None:
    """The preferred source at this time among those that are not behind another one; None without a sample."""
    last = [next((moment for moment, _ in reversed(row.samples) if moment <= at), None) for row in rows]
    newest = max((moment for moment in last if moment is not None), default=None)
    if newest is None:
        return None
    return next(row for row, moment in zip(rows, last, strict=True) if moment is not None and newest - moment < behind)


class Identities:
    """Finds the counter of each series of one family.

    Args:
        selector: of the family.
        label: the label that names the revision.
        settings: names of labels, and the prefix of the model server's series.
    """

    def __init__(self, selector: str, label: str, settings: Settings) -> None:
        self._namespace = settings.namespace_label
        given = {settings.namespace_label, settings.deployment_label, settings.engine_revision_label}
        self._always = (ALWAYS_SCRAPED | given) - {label}
        self._own: tuple[str, ...] | None = None
        if selector.startswith(settings.model_server_metrics):
            self._own = (settings.revision_label, settings.epoch_label, *OWN_LABELS)
        self._pods = self._own is not None or selector.startswith(settings.engine_metrics)

    def counters(self, rows: Iterable[Row]) -> list[Counter]:
        """The counters that these series show."""
        rows = list(map(_federated, rows))
        pods: dict[str, set[Process]] = {}
        podless = False
        for row in rows:
            if pod := row.labels.get(POD):
                process = Process(row.labels.get(self._namespace, ""), pod)
                pods.setdefault(row.labels.get(PROCESS, ""), set()).add(process)
            else:
                podless = True
        known = pods if podless else {}
        found: dict[tuple[Process, Own], Counter] = {}
        doubled: dict[tuple[Process, Own], Counter] = {}
        for row in rows:
            process, own = self._process(row.labels, known), self.own(row.labels)
            counter = found.get((process, own))
            if counter is None:
                found[process, own] = Counter(process, own, [row])
            else:
                counter.rows.append(row)
                doubled[process, own] = counter
        for key, counter in doubled.items():
            merged = _merged(counter.rows)
            if not self._pods and len({self._source(row.labels) for row in merged}) < len(merged):
                # One source shows it several times, so a label that looks like one of scraping is its own.
                del found[key]
                for row in merged:
                    own = self.own(row.labels, usually=False)
                    found.setdefault((counter.process, own), Counter(counter.process, own, [])).rows.append(row)
            else:
                counter.rows = sorted(merged, key=_preference)
        return list(found.values())

    def _process(self, labels: Labels, pods: dict[str, set[Process]]) -> Process:
        if pod := labels.get(POD):
            return Process(labels.get(self._namespace, ""), pod)
        instance = labels.get(PROCESS, "")
        known = pods.get(instance, ())
        # An address that two pods have had says nothing about which of them this is.
        return next(iter(known)) if len(known) == 1 else Process("", instance)

    def own(self, labels: Labels, *, usually: bool = True) -> Own:
        """The labels that separate a counter from others of its process.

        Args:
            labels: of a series.
            usually: whether labels that scraping usually gives are taken for such.
        """
        names: Iterable[str]
        if not (POD in labels or PROCESS in labels):
            names = sorted(labels)  # not scraped from a process, so nothing says which labels it was given
        elif self._own is not None:
            names = self._own
        else:
            dropped = self._always | USUALLY_SCRAPED if usually else self._always
            names = sorted(name for name in labels if name not in dropped and not name.endswith(_REPLICA))
        return tuple(
            [(name, bound_text(text) if name == "le" else text) for name in names if (text := labels.get(name))]
        )

    def _source(self, labels: Labels) -> tuple[str, ...]:
        """What the same series of another job or another Prometheus differs in."""
        return tuple(
            f"{name}={text}" for name, text in sorted(labels.items()) if name in self._always or name.endswith(_REPLICA)
        )


def is_renamed(new: Own, old: Own) -> bool:
    """Whether a counter can be another one under further or fewer labels: they differ in no label that both have.

    A process gives all counters of one name the same labels, so this is never true of two counters of its own.
    """
    before = dict(old)
    after = dict(new)
    return before.keys() != after.keys() and all(before[name] == after[name] for name in before.keys() & after.keys())


def _preference(row: Row) -> tuple[bool, int, list[tuple[str, str]]]:
    """Scraped with its pod's name before without, then with fewer labels before more; then any fixed order."""
    return (POD not in row.labels, len(row.labels), sorted(row.labels.items()))


def _merged(rows: Sequence[Row]) -> list[Row]:
    """The rows, with those of the same series merged."""
    by_series: dict[frozenset[tuple[str, str]], Row] = {}
    for row in rows:
        known = by_series.get(row.series)
        samples = row.samples if known is None else sorted({*known.samples, *row.samples})
        by_series[row.series] = Row(row.labels, samples)
    return list(by_series.values())


def _federated(row: Row) -> Row:
    """The row with its original labels, if a federating server has given it its own `instance` and `job`."""
    labels = row.labels
    if f"{_EXPORTED}{PROCESS}" not in labels:
        return row
    original = {name.removeprefix(_EXPORTED): text for name, text in labels.items() if name.startswith(_EXPORTED)}
    kept = {name: text for name, text in labels.items() if not name.startswith(_EXPORTED) and name not in original}
    return Row(kept | original | {FEDERATED_BY: labels.get(PROCESS, "")}, row.samples)


@lru_cache(maxsize=4096)
def bound_text(le: str) -> str:
    """One spelling of a bucket's bound: `1` for `1.0`, `+Inf` for `inf`; what is no number stays as it is."""
    if re.fullmatch(r"0|[1-9][0-9]*", le, re.ASCII):
        return le
    try:
        bound = float(le)
    except ValueError:
        return le
    text = repr(bound)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text.removesuffix(".0"))


def sources_text(rows: Sequence[Row]) -> str:
    """What tells series of the same counter apart: `job "a" and "b"`."""
    names = sorted({name for row in rows for name in row.labels if name != "__name__"}, key=lambda n: (n != "job", n))
    for name in names:
        values = sorted({row.labels.get(name, "") for row in rows})
        if len(values) > 1:
            shown = [f'"{value}"' if value else "without it" for value in sorted(values, key=lambda v: (not v, v))[:3]]
            return f"{name} {' and '.join(shown)}"
    return "the same labels"
