"""One metric as it is measured: from what was read to exposures and bad counts, and how it is kept.

Pinned when a canary gets its first request and stored with the trial state, so that no change of the spec or of the
operator makes old and new counts mean different things. `serin.analysis.presets` says what is measured. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from serin.analysis.counts import Interval, Names, Point, Tally
from serin.evidence.metric import MetricParameters

BAD_OUTCOMES = frozenset({"server_error", "rejected", "stream_error", "aborted", "timed_out"})
"""Of the model server's: what a revision can be blamed for."""
NOT_COUNTED_OUTCOMES = frozenset({"excluded"})
"""Of the model server's: what says something about the client or its quota."""
BAD_CODES = frozenset({"400", "413", "422"})
"""Client errors that a bad revision causes: a context too short, a limit too low, a parameter it does not take."""
NOT_COUNTED_CODES = frozenset({"401", "403", "404", "408", "429", "499"})
"""Codes that say something about the client or its quota, and nothing about the revision."""

Side = tuple[str, int | None]
"""Revision and epoch; the epoch is None where the series carries none."""


class How(StrEnum):
    """How the values of a tally's `by` label are told into bad, good and neither."""

    OUTCOME = "outcome"
    CODE = "code"
    ABOVE = "above"
    PAIR = "pair"


@dataclass(frozen=True)
class Measurement:
    """One metric as it is measured and tested."""

    name: str
    how: How
    total: Tally
    bad: Tally | None
    """Only where bad ones have a counter of their own."""
    parameters: MetricParameters
    required: bool
    unit: str = ""
    """Of the boundaries; `s`, or nothing for a user's own histogram."""

    @property
    def comparable(self) -> bool:
        """False for a histogram that the stable has not shown: nobody knows where it could be cut."""
        return self.how is not How.ABOVE or bool(self.parameters.boundaries)

    @property
    def compares_pods(self) -> bool:
        """Whether the stable's pods are compared among themselves: for comparisons that a proof rests on.

        Where the label `instance` of the series names a pod of the revision: users may count anywhere.
        """
        shown_by_pods = self.how is How.OUTCOME or (self.how is How.ABOVE and bool(self.unit))
        return shown_by_pods and self.required and self.parameters.ceiling is None

    def lacks_shared_bounds(self, interval: Interval) -> bool:
        """Whether the histograms of both sides have no bound in common, so that nothing can be counted."""
        bounds = interval.bounds.get(self.total, {})
        return self.how is How.ABOVE and len(bounds) > 1 and not _shared(bounds)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        return (self.total,) if self.bad is None else (self.bad, self.total)

    def counts(self, interval: Interval) -> dict[Side, list[tuple[int, int]]]:
        """Exposures and bad counts of one interval by revision and epoch, one pair per leaf of the metric."""
        if not interval.unread.isdisjoint(self.tallies):
            return {}
        totals = interval.counts.get(self.total, {})
        match self.how:
            case How.OUTCOME:
                return _told(totals, _outcome)
            case How.CODE:
                return _told(totals, _code)
            case How.PAIR:
                bad = interval.counts.get(self.bad, {}) if self.bad else {}
                return _pairs(totals, bad)
            case How.ABOVE:
                return _above(totals, self.parameters, interval.bounds.get(self.total, {}))

    def by_process(self, interval: Interval) -> dict[str, dict[Side, list[tuple[int, int]]]]:
        """The same by process, as far as one revision was told apart."""
        processes = {process for tally in self.tallies for process in interval.apart.get(tally, {})}
        return {
            process: self.counts(
                replace(
                    interval,
                    counts={tally: interval.apart.get(tally, {}).get(process, {}) for tally in self.tallies},
                )
            )
            for process in sorted(processes)
        }


@dataclass(frozen=True)
class Throughput:
    """Generated tokens by second of answering. A mean, so it is shown and never tested."""

    name: str
    tokens: Tally
    milliseconds: Tally

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        return (self.tokens, self.milliseconds)

    def counts(self, interval: Interval) -> dict[Side, list[tuple[int, int]]]:
        """Milliseconds and tokens of one interval by revision and epoch."""
        if not interval.unread.isdisjoint(self.tallies):
            return {}
        return _pairs(interval.counts.get(self.milliseconds, {}), interval.counts.get(self.tokens, {}))


def _outcome(value: str) -> bool | None:
    return None if value in NOT_COUNTED_OUTCOMES else value in BAD_OUTCOMES


def _code(value: str) -> bool | None:
    if value in NOT_COUNTED_CODES or not (len(value) == 3 and value.isdecimal()):
        return None
    return value.startswith("5") or value in BAD_CODES


def _told(points: Mapping[Point, int], bad: Any) -> dict[Side, list[tuple[int, int]]]:
    sums: dict[Side, list[tuple[int, int]]] = {}
    for (revision, epoch, value), count in points.items():
        verdict = bad(value)
        if verdict is not None:
            n, x = sums.get((revision, epoch), [(0, 0)])[0]
            sums[revision, epoch] = [(n + count, x + count * verdict)]
    return sums


def _pairs(totals: Mapping[Point, int], bad: Mapping[Point, int]) -> dict[Side, list[tuple[int, int]]]:
    """Two counters of one process. One that has no epoch takes the other's from it, or they would never meet.

    A bad one may be found in a later interval than its request was counted in: then there are more of them than
    requests, and `serin.evidence.metric` carries what is too much forward.
    """
    epochs = [{epoch for _, epoch, _ in points} for points in (totals, bad) if points]
    alike = all((None in each) == (None in epochs[0]) for each in epochs)
    sums: dict[Side, list[tuple[int, int]]] = {}
    for points, is_bad in ((totals, 0), (bad, 1)):
        for (revision, epoch, _), count in points.items():
            side = (revision, epoch if alike else None)
            n, x = sums.get(side, [(0, 0)])[0]
            sums[side] = [(n, x + count) if is_bad else (n + count, x)]
    return sums


def _above(
    points: Mapping[Point, int], parameters: MetricParameters, bounds: Mapping[str, frozenset[str]]
) -> dict[Side, list[tuple[int, int]]]:
    """A cut that is not a bound of both sides is moved to one that is, on both alike; without any, nothing counts.

    A limit that a user wrote in seconds is moved to the nearest one, as where it is pinned.
    """
    cuts: Sequence[float] = parameters.boundaries
    if bounds:
        shared = _shared(bounds)
        if not shared:
            return {}
        limit = parameters.ceiling is not None
        cuts = [
            nearest(shared, cut) if limit else max((b for b in shared if b <= cut), default=shared[0]) for cut in cuts
        ]
    sides: dict[Side, dict[float, int]] = {}
    for (revision, epoch, le), count in points.items():
        bound = bound_of(le)
        if bound is not None:
            sides.setdefault((revision, epoch), {})[bound] = count
    found = {}
    for side, cumulative in sides.items():
        n = cumulative.get(math.inf, 0)
        # A bucket that did not grow is absent: nothing was at or below its bound, nor below any bound under it.
        within = [max((count for bound, count in cumulative.items() if bound <= cut), default=0) for cut in cuts]
        found[side] = [(n, n - min(n, count)) for count in within] or [(n, 0)]
    return found


def nearest(bounds: Iterable[float], wanted: float) -> float:
    """The bound that is nearest to what is wanted; of two, the lower one."""
    return min(bounds, key=lambda bound: (abs(bound - wanted), bound))


def _shared(bounds: Mapping[str, frozenset[str]]) -> list[float]:
    """The finite bounds that every side has, ascending."""
    shared = set.intersection(*({bound_of(le) for le in each} for each in bounds.values()))
    return sorted(bound for bound in shared if bound is not None and math.isfinite(bound))


def bound_of(le: str) -> float | None:
    """The upper bound of a bucket; None if the label is no number."""
    try:
        return float(le)
    except ValueError:
        return None


# Kept with the state ---------------------------------------------------------------------------------------------


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """The inverse of `measurement_from_json`."""
    p = measurement.parameters
    return {
        "name": measurement.name,
        "how": measurement.how.value,
        "total": tally_to_json(measurement.total),
        "bad": tally_to_json(measurement.bad) if measurement.bad else None,
        "required": measurement.required,
        "unit": measurement.unit,
        "alpha": p.alpha,
        "margin": p.margin,
        "ratio": p.ratio,
        "absolute": p.absolute,
        "boundaries": list(p.boundaries),
        "ceiling": p.ceiling,
    }


def measurement_from_json(data: Mapping[str, Any]) -> Measurement:
    """Read what `measurement_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    return Measurement(
        name=str(data["name"]),
        how=How(data["how"]),
        total=tally_from_json(data["total"]),
        bad=tally_from_json(data["bad"]) if data["bad"] else None,
        required=bool(data["required"]),
        unit=str(data["unit"]),
        parameters=MetricParameters(
            alpha=float(data["alpha"]),
            margin=float(data["margin"]),
            ratio=float(data["ratio"]),
            absolute=float(data["absolute"]),
            boundaries=tuple(float(b) for b in data["boundaries"]),
            ceiling=None if data["ceiling"] is None else float(data["ceiling"]),
        ),
    )


def tally_to_json(tally: Tally) -> dict[str, Any]:
    """The inverse of `tally_from_json`."""
    return {"selector": tally.selector, "by": tally.by, "names": tally.names.value, "scale": tally.scale}


def tally_from_json(data: Mapping[str, Any]) -> Tally:
    """Read what `tally_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    names, scale = Names(data["names"]), int(data.get("scale", 1))
    return Tally(str(data["selector"]), by=data["by"], names=names, scale=scale)
