"""How raw samples of counters become whole numbers of events in `(begin, end]`. Pure.

Used by `serin.metric_sources.queries`, which asks for the samples. What a counter grew by depends on its samples and
on nothing that was remembered, so intervals that follow each other add up to the truth wherever they are cut. Whose
series it is says `serin.metric_sources.attribution`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from serin.analysis.counts import EPOCHS

LOOK_BACK = timedelta(hours=1)
"""For so long a silent series, or target, is the same that it was."""
DISCOVERY = timedelta(seconds=10)
"""So late Prometheus may begin to scrape a new target: it takes up changes every five seconds."""

Labels = Mapping[str, str]
Series = frozenset[tuple[str, str]]
"""The labels of a series, without the name of its metric."""
Samples = Sequence[tuple[int, float]]
"""Times in milliseconds since 1970 with values, oldest first."""

_START_OF_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """A series and its samples in a window that ends with the interval."""

    labels: Labels
    samples: Samples

    @property
    def series(self) -> Series:
        """What identifies the series among all answers to one question."""
        return frozenset(self.labels.items())


@dataclass(frozen=True)
class Target:
    """What is known of a scraped process, from LOOK_BACK before the window until the end of the interval."""

    attempts: Samples
    """Every scrape that was tried: 1 where it succeeded, 0 where not (`up`)."""
    started: Samples
    """When the process says it began, in seconds since 1970, by scrape (`process_start_time_seconds`)."""


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970, rounded down: Prometheus knows no finer time."""
    return (at - _START_OF_TIME) // timedelta(milliseconds=1)


def end_of(begin: datetime, until: datetime, longest: timedelta) -> datetime | None:
    """Where the interval ends that begins here, when all is known until then; None: nothing to read yet."""
    if until <= begin:
        return None
    if until - begin <= longest:
        return until
    # On a grid, so that rollouts that stopped at different moments catch up by the same queries.
    grid = longest / 2
    return _START_OF_TIME + (begin + longest - _START_OF_TIME) // grid * grid


def has_base(samples: Samples, begin: int) -> bool:
    """Whether the value at the beginning of the interval is among the samples."""
    return bool(samples) and samples[0][0] <= begin


def first_after(samples: Samples, begin: int, end: int) -> int | None:
    """When the series was first seen in `(begin, end]`."""
    return next((at for at, _ in samples if begin < at <= end), None)


def last(samples: Samples, since: int, end: int) -> float | None:
    """The newest value in `(since, end]`, in milliseconds since 1970; None if there is none."""
    return next((value for at, value in reversed(samples) if since < at <= end), None)


def growth(samples: Samples, begin: int, end: int, base: float | None = None) -> float:
    """What a counter grew by in `(begin, end]`.

    Args:
        samples: of the series.
        begin: milliseconds since 1970; a sample at this moment belongs to what was before.
        end: milliseconds since 1970; a sample at this moment belongs to the interval.
        base: the value before the first sample; None: unknown, so that the first one counts nothing.
    """
    total, before = 0.0, base
    for at, value in samples:
        if at > end:
            break
        if at > begin and before is not None:
            # Lower than before means that the counter started anew: all that it shows is new.
            total += value - before if value >= before else value
        before = value
    return total


def is_new(first: int, begin: int, target: Target, interval: timedelta) -> bool:
    """Whether a series without any earlier sample began at zero, so that its first value is growth.

    Else it may be a series under another label, or of a Prometheus that lost its data, and would import the total of a
    lifetime.

    Args:
        first: when it was first seen.
        begin: where the interval begins.
        target: the process it was scraped from.
        interval: between two scrapes.
    """
    tries = [(at, up) for at, up in target.attempts if first - LOOK_BACK // timedelta(milliseconds=1) < at <= first]
    if any(up == 1 for at, up in tries if at < first):
        return True  # it was scraped before, and had no such series
    shown = bisect_right(target.started, first, key=lambda sample: sample[0])
    if not shown:
        return False
    started = round(target.started[shown - 1][1] * 1000)
    if started > begin:
        return True
    # Never scraped with success before. Tried all its life (a port that opens once the model is loaded), or so young
    # that there was no time to try: then it was not missed either.
    grace = (2 * interval + DISCOVERY) // timedelta(milliseconds=1)
    return bool(tries) and started > tries[0][0] - grace


def epoch_of(text: str | None) -> int | None:
    """The epoch that a label shows; None if it shows none."""
    if text is None or not re.fullmatch(r"0|[1-9][0-9]?", text, re.ASCII):
        return None
    return int(text) if int(text) < EPOCHS else None


def target_of(labels: Labels, known: Iterable[Row], started: Iterable[Row]) -> Target:
    """What is known of the target that the series with these labels was scraped from."""

    def merged(rows: Iterable[Row]) -> Samples:
        # Every label of the target is on its series; the other way round an older name of the same target fits too,
        # if it was shorter.
        fitting = [row for row in rows if row.labels.items() <= labels.items()]
        most = max((len(row.labels) for row in fitting), default=0)
        return sorted(sample for row in fitting if len(row.labels) == most for sample in row.samples)

    return Target(merged(known), merged(started))
