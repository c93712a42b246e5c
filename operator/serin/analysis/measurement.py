"""One metric as it is measured: from intervals of counter growth to requests and bad requests of each revision.

A measurement is fixed when a canary gets its first request and is stored with the trial state, so that no change of
the spec or of the operator changes the meaning of the counts during a trial. `serin.analysis.presets` makes it from
`spec.analysis`, and `serin.analysis.stored_state` stores it. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from serin.analysis.answers import Kind, counted_before, kind_of_code, kind_of_outcome
from serin.analysis.counts import Interval, Point, Tally
from serin.evidence.metric import MetricParameters
from serin.evidence.slices import Counts

RevisionInEpoch = tuple[str, int | None]
"""Revision and epoch; the epoch is None where the series has no such label."""
CountsByRevision = Mapping[RevisionInEpoch, tuple[Counts, ...]]
"""By revision and epoch, the counts of each leaf of a metric."""
CountsByCell = Mapping[tuple[str, int | None, int], tuple[Counts, ...]]
"""As `CountsByRevision`, and by cell: only the requests of one cell are compared with each other; 0: all requests."""
LOAD_FROM = 1.0
"""Mean number of requests in the engine below which a request is in load bucket 0."""
LOAD_RATIO = 1.3
"""How many times wider each load bucket is than the one before."""
LOAD_BUCKETS = 20
MOST_BOUNDARIES = 6
"""Boundaries of one latency in a split document."""


class How(StrEnum):
    """How requests are classified as bad or good, or are not counted."""

    OUTCOME = "outcome"
    """By the outcome that the model server reports."""
    CODE = "code"
    """By the response code that the gateway reports."""
    ABOVE = "above"
    """Bad is above a boundary of a histogram."""
    PAIR = "pair"
    """Bad requests have a counter of their own."""
    EXCLUDED_OUTCOME = "excludedOutcome"
    """Bad is an answer that the model server reports as excluded, such as a 404."""
    EXCLUDED_CODE = "excludedCode"
    """Bad is a response code of the gateway that is excluded."""
    AT_LOAD = "atLoad"
    """Bad is above a boundary; requests are compared only with those at the same load and with as warm a cache."""
    CHECK = "check"
    """By the result of a check of the model server. An answer that it could not judge is not counted."""
    SKIPPED_CHECK = "skippedCheck"
    """Bad is an answer that a check of the model server could not judge."""


_RESULTS = {
    How.CHECK: {"pass": False, "fail": True},
    How.SKIPPED_CHECK: {"pass": False, "fail": False, "skipped": True},
}
"""The results of a check that are counted, and whether they are bad."""


@dataclass(frozen=True)
class AtLoad:
    """A latency that the pods count by load, and the boundaries that their split documents list for it."""

    metric: str
    """Name of the latency in the split document and in the label `metric`."""
    stable: tuple[float, ...]
    canary: tuple[float, ...]
    """The stable's boundaries times what the canary may be slower: by margin and by tolerance."""


def times(boundary: float, factor: float) -> float:
    """The canary's boundary for one of the stable's; six significant digits, as in the split document."""
    return float(f"{boundary * factor:.6g}")


@dataclass(frozen=True)
class Measurement:
    """One metric as it is measured and tested."""

    name: str
    how: How
    total: Tally
    bad: Tally | None
    """The counter of bad requests, if they have one of their own."""
    parameters: MetricParameters
    required: bool
    unit: str = ""
    """Unit of the boundaries: `s`, or empty for a user's own histogram."""
    at_load: AtLoad | None = None
    """For `How.AT_LOAD`: what the pods count."""
    demoted: bool = False
    """Whether the metric only reports, whatever the spec asks: one side cannot count it by load, or cannot judge it."""
    all_answers: bool = True
    """Whether answers that are neither good nor bad are in the denominator; False in trials that version 0.1 began."""
    rejects: bool = True
    """Whether it can roll back a canary. If not, it only holds one."""
    steers: bool = True
    """Whether it steers and holds the ramp. If not, only the promotion waits for its proof."""
    young_seconds: float | None = None
    """How long the strata of an epoch stay open; None: as long as those of the trial."""
    settle_seconds: float | None = None
    """How long an epoch lasts before its slices count for the proof; None: as long as in the trial."""
    described: str = ""
    """What is bad, to follow a number of requests: `silent for 60 s or longer`."""
    check: str = ""
    """For `How.CHECK` and `SKIPPED_CHECK`: the check as the split document lists it, in JSON."""

    def __post_init__(self) -> None:
        """Check that the documents have the boundaries.

        Raises:
            ValueError: one is missing.
        """
        if (self.how is How.AT_LOAD) != (self.at_load is not None):
            raise ValueError("what is counted at load and how do not fit together")
        for canary in (False, True):
            self._numbers(canary=canary, for_proof=canary)

    def _numbers(self, *, canary: bool, for_proof: bool) -> tuple[str, ...]:
        """By leaf, the number of its boundary in the split document of a side."""
        if self.at_load is None:
            return ()
        listed = self.at_load.canary if canary else self.at_load.stable
        return tuple(str(listed.index(bound)) for bound in self._cuts(canary=canary, for_proof=for_proof))

    def _cuts(self, *, canary: bool, for_proof: bool = False) -> tuple[float, ...]:
        p = self.parameters
        if not canary:
            return p.boundaries
        return tuple(times(bound, p.ratio if for_proof else p.margin) for bound in p.boundaries)

    def boundary(self, leaf: int, *, canary: bool) -> float:
        """The boundary above which requests of a side are bad, in `unit`."""
        return self._cuts(canary=canary and self.how is How.AT_LOAD)[leaf]

    @property
    def proof_differs(self) -> bool:
        """Whether the proof has boundaries of its own."""
        return self.how is How.AT_LOAD and self.parameters.margin != self.parameters.ratio

    @property
    def ignores_load(self) -> bool:
        """Whether latencies are compared whatever the load was."""
        return self.how is How.ABOVE and self.parameters.ceiling is None

    @property
    def comparable(self) -> bool:
        """False for a histogram without boundaries: the stable had no samples from which to choose them."""
        return self.how is not How.ABOVE or bool(self.parameters.boundaries)

    @property
    def compares_pods(self) -> bool:
        """Whether the stable's pods are compared with each other: only for comparisons that a promotion needs.

        The label `instance` of the series must name a pod of the revision; users' own series can come from anywhere.
        """
        scraped_from_pods = self.how in {How.OUTCOME, How.AT_LOAD, How.CHECK} or (
            self.how is How.ABOVE and bool(self.unit)
        )
        return scraped_from_pods and self.required and self.parameters.ceiling is None

    def lacks_shared_bounds(self, interval: Interval) -> bool:
        """Whether nothing can be counted: the histograms of both sides have no bound in common, or one lacks +Inf."""
        bounds = interval.bounds.get(self.total, {})
        if self.how is not How.ABOVE:
            return False
        endless = all(any(bound_of(le) == math.inf for le in each) for each in bounds.values())
        return not endless or (len(bounds) > 1 and not _shared(bounds))

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        return (self.total,) if self.bad is None else (self.bad, self.total)

    def counts(self, interval: Interval) -> CountsByRevision:
        """The counts of one interval; empty if a tally of the metric could not be read."""
        if not interval.unread.isdisjoint(self.tallies):
            return {}
        totals = interval.counts.get(self.total, {})
        match self.how:
            case How.OUTCOME | How.CODE | How.EXCLUDED_OUTCOME | How.EXCLUDED_CODE | How.CHECK | How.SKIPPED_CHECK:
                return _classified(totals, self._is_bad)
            case How.PAIR:
                bad = interval.counts.get(self.bad, {}) if self.bad else {}
                return {key: (Counts(n, x),) for key, (n, x) in _matched(totals, bad).items()}
            case How.ABOVE:
                return _above(totals, self.parameters, interval.bounds.get(self.total, {}))
            case How.AT_LOAD:
                raise ValueError("counts at load are by cell; use by_cell")

    def by_cell(self, interval: Interval, *, canary: str, for_proof: bool = False) -> CountsByCell:
        """The counts of one interval by revision, epoch and cell; empty if a tally could not be read.

        Args:
            interval: what was counted.
            canary: the canary's revision, whose requests have boundaries of their own.
            for_proof: with the boundaries of the proof.
        """
        if self.how is not How.AT_LOAD:
            return {(revision, epoch, 0): leaves for (revision, epoch), leaves in self.counts(interval).items()}
        if not interval.unread.isdisjoint(self.tallies):
            return {}
        above = interval.counts.get(self.bad, {}) if self.bad else {}
        numbers = {side: self._numbers(canary=side, for_proof=for_proof) for side in (False, True)}
        found = {}
        for (revision, epoch, value), n in interval.counts.get(self.total, {}).items():
            cell = cell_of(value)
            if cell is not None:
                bad = (above.get((revision, epoch, f"{value},{number}"), 0) for number in numbers[revision == canary])
                found[revision, epoch, cell] = tuple(Counts(n, min(n, x)) for x in bad)
        return found

    def cells_by_process(self, interval: Interval, revision: str) -> dict[str, dict[int, tuple[Counts, ...]]]:
        """The stable's counts of one interval by process and cell, over all epochs."""
        found: dict[str, dict[int, tuple[Counts, ...]]] = {}
        for process, part in self._parts(interval).items():
            cells = found.setdefault(process, {})
            for (of, _, cell), leaves in self.by_cell(part, canary="").items():
                if of == revision:
                    known = cells.get(cell, (Counts(),) * len(leaves))
                    cells[cell] = tuple(had + more for had, more in zip(known, leaves, strict=True))
        return found

    def _is_bad(self, value: str) -> bool | None:
        """Whether an answer with this outcome, code or result is bad; None if it is not counted."""
        if results := _RESULTS.get(self.how):
            return results.get(value)
        code = self.how in {How.CODE, How.EXCLUDED_CODE}
        if not self.all_answers:
            return counted_before(value, code=code)
        kind = kind_of_code(value) if code else kind_of_outcome(value)
        wanted = Kind.BAD if self.how in {How.OUTCOME, How.CODE} else Kind.EXCLUDED
        return None if kind is None else kind is wanted

    def counts_by_process(self, interval: Interval) -> dict[str, CountsByRevision]:
        """The counts of one interval by process, for the revision that is read by process."""
        return {process: self.counts(part) for process, part in self._parts(interval).items()}

    def _parts(self, interval: Interval) -> dict[str, Interval]:
        """The interval by process, with the counts of that process alone."""
        processes = {process for tally in self.tallies for process in interval.by_process.get(tally, {})}
        return {
            process: replace(
                interval, counts={tally: interval.by_process.get(tally, {}).get(process, {}) for tally in self.tallies}
            )
            for process in sorted(processes)
        }


@dataclass(frozen=True, slots=True)
class Generated:
    """Tokens that one side generated, and for how long it answered."""

    milliseconds: int = 0
    tokens: int = 0

    def __add__(self, other: Generated) -> Generated:
        return Generated(self.milliseconds + other.milliseconds, self.tokens + other.tokens)


NOTHING_GENERATED = Generated()


@dataclass(frozen=True)
class Throughput:
    """Generated tokens per second of answering. It is a mean, so it is displayed and never tested."""

    name: str
    tokens: Tally
    milliseconds: Tally

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        return (self.tokens, self.milliseconds)

    def generated(self, interval: Interval) -> Mapping[RevisionInEpoch, Generated]:
        """Milliseconds and tokens of one interval; empty if one of the two could not be read."""
        if not interval.unread.isdisjoint(self.tallies):
            return {}
        both = _matched(interval.counts.get(self.milliseconds, {}), interval.counts.get(self.tokens, {}))
        return {key: Generated(milliseconds, tokens) for key, (milliseconds, tokens) in both.items()}


def _classified(points: Mapping[Point, int], is_bad: Callable[[str], bool | None]) -> CountsByRevision:
    """The counts by the value of the `by` label; None of `is_bad` leaves a value out."""
    sums: dict[RevisionInEpoch, Counts] = {}
    for (revision, epoch, value), count in points.items():
        bad = is_bad(value)
        if bad is not None:
            sums[revision, epoch] = sums.get((revision, epoch), Counts()) + Counts(count, count * bad)
    return {key: (counts,) for key, counts in sums.items()}


def _matched(first: Mapping[Point, int], second: Mapping[Point, int]) -> dict[RevisionInEpoch, tuple[int, int]]:
    """The growth of two counters of the same pods. If only one has the epoch label, it is ignored in the other.

    The second can be ahead of the first: a bad request can be counted in an interval before its request. Then it is
    larger, and `serin.evidence.metric` carries the excess over.
    """
    alike = len({any(epoch is None for _, epoch, _ in points) for points in (first, second) if points}) < 2
    growth: tuple[dict[RevisionInEpoch, int], ...] = ({}, {})
    for points, sums in zip((first, second), growth, strict=True):
        for (revision, epoch, _), count in points.items():
            key = (revision, epoch if alike else None)
            sums[key] = sums.get(key, 0) + count
    keys = dict.fromkeys([*growth[0], *growth[1]])
    return {key: (growth[0].get(key, 0), growth[1].get(key, 0)) for key in keys}


def _above(
    points: Mapping[Point, int], parameters: MetricParameters, bounds: Mapping[str, frozenset[str]]
) -> CountsByRevision:
    """The observations above each boundary; empty if the two sides' histograms have no bound in common.

    A boundary that is not a bound of both sides is replaced by the next lower one, for both. A user's limit in seconds
    is replaced by the nearest one, as when the trial began.
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
    histograms: dict[RevisionInEpoch, dict[float, int]] = {}
    for (revision, epoch, le), count in points.items():
        bound = bound_of(le)
        if bound is not None:
            histograms.setdefault((revision, epoch), {})[bound] = count
    found = {}
    for key, cumulative in histograms.items():
        n = cumulative.get(math.inf, 0)
        # A bucket that did not grow is absent: nothing was at or below its bound, nor below any bound under it.
        within = [max((count for bound, count in cumulative.items() if bound <= cut), default=0) for cut in cuts]
        found[key] = tuple(Counts(n, n - min(n, count)) for count in within) or (Counts(n, 0),)
    return found


def cell_of(value: str) -> int | None:
    """The cell of the labels `cached` and `load`, such as `low,3`; None if they are not what the pods write."""
    cached, _, load = value.partition(",")
    if cached not in {"low", "high"} or not (load.isascii() and load.isdecimal()) or int(load) >= LOAD_BUCKETS:
        return None
    return 1 + 2 * int(load) + (cached == "high")


def nearest(bounds: Iterable[float], wanted: float) -> float:
    """The nearest bound; of two, the lower one."""
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
