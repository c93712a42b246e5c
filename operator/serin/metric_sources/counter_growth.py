"""Growth of one counter in `(begin, end]`, from its raw samples. Pure.

Called by `serin.metric_sources.queries` and `intervals`. Growth depends only on the samples and on no earlier reading,
so the growths of consecutive intervals add up to the whole, wherever the intervals are cut. `increase()` cannot be used
for that: it extrapolates, and it misses the first value of a new series.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from serin.analysis.counts import EPOCHS

LOOK_BACK = timedelta(hours=1)
"""How long a series or a target may be without samples and still continue its earlier values."""
DISCOVERY = timedelta(seconds=10)
"""How late Prometheus may begin to scrape a new target; it applies changes every five seconds."""

NO_EPOCH = "none"
"""Epoch label of requests that no split has handled: they are never evidence."""

Labels = Mapping[str, str]
Series = frozenset[tuple[str, str]]
"""The labels of a series, without the name of its metric."""
Samples = Sequence[tuple[int, float]]
"""Times in milliseconds since 1970 with values, oldest first."""

Rise = tuple[float, float]
"""A counter's values at the begin and at the end of a time in which it only grew."""
NEARLY_ALL = 0.9
"""Share of its value that a counter keeps when it runs backwards without a restart, if nothing else is known."""
_NEARLY = 1e-6
"""Ten times 0.1 is one event, although the sum of such floats is a little less."""

_EPOCHS = {str(epoch): epoch for epoch in range(EPOCHS)}
_START_OF_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """A series and its samples in a window that ends with the interval."""

    labels: Labels
    samples: Samples

    @property
    def series(self) -> Series:
        """What identifies the series among all answers to one query."""
        return frozenset(self.labels.items())


@dataclass(frozen=True)
class Target:
    """The scrapes of one process, from LOOK_BACK before the window until the end of the interval."""

    attempts: Samples
    """All attempts to scrape it (`up`): 1 is a success, 0 a failure."""
    started: Samples
    """Start of the process in seconds since 1970, by scrape (`process_start_time_seconds`)."""


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970, rounded down; Prometheus has no finer time."""
    return (at - _START_OF_TIME) // timedelta(milliseconds=1)


def moment(at: int) -> datetime:
    """The time of so many milliseconds since 1970."""
    return _START_OF_TIME + timedelta(milliseconds=at)


def end_of(begin: datetime, until: datetime, longest: timedelta) -> datetime | None:
    """End of the interval that begins at `begin`, if all samples up to `until` are known; None if it is empty."""
    if until <= begin:
        return None
    if until - begin <= longest:
        return until
    # On a grid, so that rollouts that stopped at different times share their queries while they catch up.
    grid = longest / 2
    return _START_OF_TIME + (begin + longest - _START_OF_TIME) // grid * grid


def has_base(samples: Samples, begin: int) -> bool:
    """Whether the samples include the value at the beginning of the interval."""
    return bool(samples) and samples[0][0] <= begin


def first_after(samples: Samples, begin: int, end: int) -> int | None:
    """Time of the first sample in `(begin, end]`; None if there is none."""
    return next((at for at, _ in samples if begin < at <= end), None)


def last(samples: Samples, since: int, end: int) -> float | None:
    """Newest value in `(since, end]`, times in milliseconds since 1970; None if there is none."""
    return next((value for at, value in reversed(samples) if since < at <= end), None)


def growth(
    samples: Samples, begin: int, end: int, base: float | None = None, *, scale: int = 1, started: Samples = ()
) -> int:
    """Growth of a counter in `(begin, end]`, in whole events; see `rises`.

    Args:
        samples: of the series.
        begin: milliseconds since 1970; a sample at this time belongs to the interval before.
        end: milliseconds since 1970; a sample at this time belongs to this interval.
        base: the value before the first sample; None if unknown, so the first sample adds nothing.
        scale: factor on the values.
        started: see `Target.started`.
    """
    return whole(rises(samples, begin, end, base, started), scale)


def whole(grown: Iterable[Rise], scale: int = 1) -> int:
    """The whole events in these rises: the events that were complete at the end and not yet at the begin.

    So parts of an event are never lost: they are counted in the interval in which it is complete.
    """
    events = 0
    for low, high in grown:
        events += math.floor(high * scale + _NEARLY) - math.floor(low * scale + _NEARLY)
    return events


def rises(
    samples: Samples,
    begin: int,
    end: int,
    base: float | None = None,
    started: Samples = (),
    *,
    base_since: int | None = None,
) -> tuple[Rise, ...]:
    """From which value to which a counter rose in `(begin, end]`: one rise for each life of its process.

    A value that is lower than one before it is a reset, or the counter ran backwards (see `is_reset`). A counter that
    ran backwards adds nothing until it exceeds its highest value. Negative values count as zero. `base_since` is the
    earliest time that `base` can be of, `begin` if it is not given: a process that started later began again at zero.
    """
    found: list[Rise] = []
    low = top = base
    since = begin if base_since is None else base_since
    for at, sample in samples:
        if at > end:
            break
        value = max(0.0, sample)
        if low is None or top is None:
            low = top = value
        elif value >= top:
            top = value
        elif is_reset(top, value, since, at, started):
            if top > low:
                found.append((low, top))
            low, top = 0.0, value
        if at <= begin:
            found.clear()
            low = top
        since = at
    if low is not None and top is not None and top > low:
        found.append((low, top))
    return tuple(found)


def plain_rise(values: Sequence[tuple[float, str]], begin: float, end: float) -> Rise | tuple[()] | None:
    """The only rise in `(begin, end]` of a counter that never falls, or () if it does not rise; as `rises`, but faster.

    None if this needs more than a look: it has no value at or before the begin, a value is lower than one before it,
    or the samples are not in order.

    Args:
        values: times in seconds since 1970 with values, as Prometheus sends them.
        begin: in seconds since 1970.
        end: in seconds since 1970.
    """
    low, high, before = None, 0.0, -math.inf
    for at, text in values:
        value = float(text)
        if not (value >= high and at > before and at <= end):  # also if it is NaN
            return None
        if at <= begin:
            low = value
        high, before = value, at
    if low is None or high == math.inf:
        return None
    return (low, high) if high > low else ()


def is_reset(before: float, value: float, since: int, at: int, started: Samples = ()) -> bool:
    """Whether a lower value means that the counter began again at zero; otherwise it ran backwards.

    It has begun again if it lost more than half, or if its process started after the sample before. Where no start of
    the process is known, a loss of a tenth decides: a counter hardly regrows to nine tenths between two scrapes.

    Args:
        before: the highest value before.
        value: the value, which is lower.
        since: time of the sample before.
        at: time of the sample.
        started: see `Target.started`.
    """
    if value <= before / 2:
        return True
    known = bisect_right(started, at, key=lambda sample: sample[0])
    if known:
        return round(started[known - 1][1] * 1000) > since
    return value < NEARLY_ALL * before


def is_doubtful_fall(samples: Samples) -> bool:
    """Whether a value is lower than the one before and only the start of the process says why."""
    return any(value / 2 < later < value for (_, value), (_, later) in pairwise(samples))


def is_new(first: int, begin: int, target: Target, interval: timedelta) -> bool:
    """Whether a series without an earlier sample began at zero in this interval, so that its first value is growth.

    If not, it may be a known series under new labels, or Prometheus may have lost its data. Its first value would then
    be the total of a whole process life.

    Args:
        first: time of its first sample.
        begin: begin of the interval.
        target: the process that it was scraped from.
        interval: time between two scrapes.
    """
    tries = [(at, up) for at, up in target.attempts if first - LOOK_BACK // timedelta(milliseconds=1) < at <= first]
    if any(up == 1 for at, up in tries if at < first):
        return True  # it was scraped before without this series
    at_or_before = bisect_right(target.started, first, key=lambda sample: sample[0])
    if not at_or_before:
        return False
    started = round(target.started[at_or_before - 1][1] * 1000)
    if started > begin:
        return True
    # Never scraped successfully before. Either scrapes were tried since it started (its port opens once the model is
    # loaded), or it is so young that no scrape was due: in both cases no sample of it is missing.
    grace = (2 * interval + DISCOVERY) // timedelta(milliseconds=1)
    return bool(tries) and started > tries[0][0] - grace


def epoch_of(text: str | None) -> int | None:
    """The epoch of a label value; None if it is not one."""
    return _EPOCHS.get(text or "")


def target_of(labels: Labels, known: Iterable[Row], started: Iterable[Row]) -> Target:
    """The scrapes of the target that a series with these labels belongs to."""

    def merged(rows: Iterable[Row]) -> Samples:
        # A series has all labels of its target. An earlier target with fewer labels fits too, so the one with the
        # most labels is taken.
        fitting = [row for row in rows if _without_name(row.labels) <= labels.items()]
        most = max((len(row.labels) for row in fitting), default=0)
        return sorted(sample for row in fitting if len(row.labels) == most for sample in row.samples)

    return Target(merged(known), merged(started))


def _without_name(labels: Labels) -> set[tuple[str, str]]:
    return {(name, text) for name, text in labels.items() if name != "__name__"}
