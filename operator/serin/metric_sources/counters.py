"""A counter, and its samples from all series that show it. Pure.

Called by `serin.metric_sources.intervals`; `identities` finds which series show the same counter. A counter belongs to
a process: two scrape jobs, two Prometheus replicas or a federating server show it several times, and a relabelled
series shows it again under other labels. Each counter is counted once, whatever shows it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from serin.metric_sources.counter_growth import Labels, Row, Samples

POD = "pod"
PROCESS = "instance"
"""The target label that identifies a process where no label names its pod."""
OWN_LABELS = ("outcome", "le", "metric", "cached", "load", "boundary", "check", "result")
"""Labels of the model server's series beside revision and epoch; all others come from scraping."""

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


def is_renamed(new: Own, old: Own) -> bool:
    """Whether a counter can be another one under further or fewer labels: they differ in no label that both have.

    A process gives all counters of one name the same labels, so this is never true of two counters of its own.
    """
    before = dict(old)
    after = dict(new)
    return before.keys() != after.keys() and all(before[name] == after[name] for name in before.keys() & after.keys())


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
