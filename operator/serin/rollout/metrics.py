"""What is measured: from `spec.analysis` to tallies that are read and parameters that are tested, and from what was
read to counts.

Pinned as `Measurement`s when a canary gets its first request and kept with the state of the evidence, so that nothing
that a user or an upgrade changes meanwhile makes old and new counts mean different things. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from serin.evidence.boundaries import boundaries, quantile
from serin.evidence.metric import MetricParameters
from serin.rollout.readings import Baseline, Interval, Names, Point, Tally

if TYPE_CHECKING:
    from serin.api.analysis import Analysis, Metric

BAD_OUTCOMES = frozenset({"server_error", "rejected", "stream_error", "aborted", "timed_out"})
"""Of the model server's: what a revision can be blamed for."""
NOT_COUNTED_OUTCOMES = frozenset({"excluded"})
"""Of the model server's: what says something about the client or its quota."""
BAD_CODES = frozenset({"400", "413", "422"})
"""Client errors that a bad revision causes: a context too short, a limit too low, a parameter it does not take."""
NOT_COUNTED_CODES = frozenset({"401", "403", "404", "408", "429", "499"})
"""Codes that say something about the client or its quota, and nothing about the revision."""
ERROR_MARGIN, OTHER_MARGIN = 1.1, 1.25
SETTLE_AT_LEAST = 30.0
"""Seconds that an epoch lasts before its slices count for a proof; slow failures come late."""

Side = tuple[str, int | None]
"""Revision and epoch; the epoch is None where the series carries none."""


class How(StrEnum):
    """How the values of a tally's `by` label are told into bad, good and neither."""

    OUTCOME = "outcome"
    CODE = "code"
    ABOVE = "above"
    PAIR = "pair"


@dataclass(frozen=True)
class Series:
    """How the series are called that presets are read from; the operator's own setting."""

    model_server: str = "serin_"
    """Prefix of the model server's own series."""
    engine: str = "vllm:"
    """Prefix of vLLM's series."""
    requests: str = "envoy_cluster_upstream_rq"
    """The gateway's counter of finished requests."""
    code_label: str = "envoy_response_code"
    """Its label for the exact response code."""


DEFAULT_SERIES = Series()


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
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        return (self.total,) if self.bad is None else (self.bad, self.total)

    def counts(self, interval: Interval) -> dict[Side, list[tuple[int, int]]]:
        """Exposures and bad counts of one interval by revision and epoch, one pair per leaf of the metric."""
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
                return _above(totals, self.parameters.boundaries, interval.bounds.get(self.total, {}))

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

    def counts(self, interval: Interval) -> dict[Side, list[tuple[int, int]]]:
        """Milliseconds and tokens of one interval by revision and epoch."""
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
    points: Mapping[Point, int], cuts: Sequence[float], bounds: Mapping[str, frozenset[str]]
) -> dict[Side, list[tuple[int, int]]]:
    """A cut that is not a bound of both sides is moved to one that is, on both alike; without any, nothing counts."""
    if bounds:
        shared = set.intersection(*({_bound(le) for le in each} for each in bounds.values()))
        finite = sorted(bound for bound in shared if bound is not None and math.isfinite(bound))
        if not finite:
            return {}
        cuts = [max((bound for bound in finite if bound <= cut), default=finite[0]) for cut in cuts]
    sides: dict[Side, dict[float, int]] = {}
    for (revision, epoch, le), count in points.items():
        bound = _bound(le)
        if bound is not None:
            sides.setdefault((revision, epoch), {})[bound] = count
    found = {}
    for side, cumulative in sides.items():
        n = cumulative.get(math.inf, 0)
        # A bucket that did not grow is absent: nothing was at or below its bound, nor below any bound under it.
        within = [max((count for bound, count in cumulative.items() if bound <= cut), default=0) for cut in cuts]
        found[side] = [(n, n - min(n, count)) for count in within] or [(n, 0)]
    return found


def _bound(le: str) -> float | None:
    try:
        return float(le)
    except ValueError:
        return None


# From the spec ---------------------------------------------------------------------------------------------------


def tallies(analysis: Analysis, series: Series, *, measured: bool) -> tuple[Tally, ...]:
    """What is read for these metrics; `measured`: the model server counts in the pods of both sides."""
    read = (_reading(m, series, measured=measured) for m in _tested(analysis) if m.ceiling is None)
    found = [tally for _, bad, total in read for tally in (bad, total) if tally]
    found += [tally for shown in throughputs(analysis, series) for tally in (shown.tokens, shown.milliseconds)]
    always = (requests(series, measured=measured), durations(series, measured=measured))
    return tuple(dict.fromkeys([*always, *found]))


def _tested(analysis: Analysis) -> list[Metric]:
    return [metric for metric in analysis.compared if metric.preset != "Throughput"]


def throughputs(analysis: Analysis, series: Series) -> tuple[Throughput, ...]:
    """What is shown beside the metrics that are tested; only the engine knows it."""
    tokens = Tally(f"{series.engine}generation_tokens_total", names=Names.ENGINE)
    milliseconds = Tally(f"{series.engine}{_END_TO_END}_sum", names=Names.ENGINE, scale=1000)
    return tuple(
        Throughput(metric.name, tokens, milliseconds) for metric in analysis.compared if metric.preset == "Throughput"
    )


def requests(series: Series, *, measured: bool) -> Tally:
    """Finished requests: what a rate of traffic is read from."""
    if measured:
        return Tally(f"{series.model_server}requests_total", by="outcome")
    return Tally(series.requests, by=series.code_label, names=Names.BACKEND)


def measurements(analysis: Analysis, series: Series, baseline: Baseline, *, measured: bool) -> tuple[Measurement, ...]:
    """Every metric, ready to be tested: boundaries from what the stable showed, alpha by share."""
    budget = sum(metric.share or 1.0 for metric in analysis.compared if metric.required)
    by_name = {metric.name: metric for metric in analysis.compared}
    return tuple(
        _measurement(
            metric,
            by_name[metric.ceiling.of] if metric.ceiling else metric,
            analysis.false_rollback_rate * ((metric.share or 1.0) / budget if metric.required else 1.0),
            series,
            baseline,
            measured=measured,
        )
        for metric in _tested(analysis)
    )


def _measurement(
    metric: Metric, read: Metric, alpha: float, series: Series, baseline: Baseline, *, measured: bool
) -> Measurement:
    """`read` is what a ceiling limits, else the metric itself."""
    how, bad, total = _reading(read, series, measured=measured)
    cumulative = _cumulative(baseline, total) if how is How.ABOVE else {}
    if metric.ceiling and how is How.ABOVE:
        finite = [bound for bound in cumulative if math.isfinite(bound)]
        above = metric.ceiling.above_seconds or 0.0
        cuts: tuple[float, ...] = (min(finite, key=lambda b: (abs(b - above), b)) if finite else above,)
    elif how is How.ABOVE:
        unseen = _UNSEEN[read.preset] if read.preset else ()
        cuts = boundaries(cumulative) if any(cumulative.values()) or not unseen else unseen
    else:
        cuts = ()
    tolerance = metric.tolerance
    return Measurement(
        name=metric.name,
        how=how,
        total=total,
        bad=bad,
        parameters=MetricParameters(
            alpha=alpha,
            margin=metric.margin or (ERROR_MARGIN if metric.preset == "ErrorRate" else OTHER_MARGIN),
            ratio=(tolerance and tolerance.ratio) or 1.25,
            absolute=0.005 if tolerance is None or tolerance.absolute is None else tolerance.absolute,
            boundaries=cuts,
            ceiling=metric.ceiling.rate if metric.ceiling else None,
        ),
        required=metric.required,
        unit="s" if how is How.ABOVE and read.preset else "",
    )


_LATENCIES = {
    "TimeToFirstToken": "time_to_first_token_seconds",
    "EndToEndLatency": "e2e_request_latency_seconds",
    "TimePerOutputToken": "request_time_per_output_token_seconds",
    "QueueTime": "request_queue_time_seconds",
}
"""Preset to the name that vLLM gives the quantity; the model server's series are called alike."""
_END_TO_END = _LATENCIES["EndToEndLatency"]
_UNSEEN = {
    "TimeToFirstToken": (0.1, 0.5, 2.5, 10.0),
    "EndToEndLatency": (1.0, 5.0, 20.0, 60.0),
    "TimePerOutputToken": (0.025, 0.1, 0.3, 1.0),
    "QueueTime": (0.3, 2.5, 10.0, 60.0),
}
"""Seconds at which a latency is cut where the stable has shown none yet: bounds of vLLM's own buckets."""


def _reading(metric: Metric, series: Series, *, measured: bool) -> tuple[How, Tally | None, Tally]:
    """How a metric is told, its counter of bad ones if that is one of its own, and the other one."""
    if metric.ratio:
        return How.PAIR, Tally(metric.ratio.bad), Tally(metric.ratio.total)
    if metric.histogram:
        return How.ABOVE, None, Tally(metric.histogram.buckets, by="le")
    from_pods = measured if metric.source is None else metric.source == "ModelServer"
    if metric.preset is None or metric.preset == "ErrorRate":
        return (How.OUTCOME if from_pods else How.CODE), None, requests(series, measured=from_pods)
    return How.ABOVE, None, _latency(_LATENCIES[metric.preset], series, measured=from_pods)


def _latency(quantity: str, series: Series, *, measured: bool) -> Tally:
    if measured:
        return Tally(f"{series.model_server}{quantity}_bucket", by="le")
    return Tally(f"{series.engine}{quantity}_bucket", by="le", names=Names.ENGINE)


def arrivals(series: Series, *, measured: bool) -> Tally | None:
    """Requests as they arrive, which only the model server counts: what the share of each side is read from."""
    return Tally(f"{series.model_server}requests_started_total") if measured else None


def durations(series: Series, *, measured: bool) -> Tally:
    """How long whole answers take: what settling and blanking are measured by."""
    return _latency(_END_TO_END, series, measured=measured)


def _cumulative(baseline: Baseline, tally: Tally) -> dict[float, float]:
    found = ((_bound(le), count) for le, count in baseline.histograms.get(tally, {}).items())
    return {bound: count for bound, count in found if bound is not None}


def answer_seconds(baseline: Baseline, tally: Tally, q: float) -> float:
    """A quantile of the stable's answers in seconds; 0.0 where it has shown none."""
    return quantile(_cumulative(baseline, tally), q) or 0.0


def blank_seconds(baseline: Baseline, tally: Tally, slice_seconds: float) -> float:
    """How long series without an epoch are not believed: what 99 of 100 answers take, and every pod was scraped since.

    A guess where the stable has shown no duration.
    """
    return (answer_seconds(baseline, tally, 0.99) or SETTLE_AT_LEAST) + slice_seconds


def young_seconds(baseline: Baseline, tally: Tally, slice_seconds: float) -> float:
    """How long an epoch's counts are pooled: until nine of ten answers have come, and every pod was scraped since.

    What is still missing distorts a rate by a tenth at the most, which the margin of a metric allows. 0.0 where answers
    take less than a tenth of a slice, so that hardly a scrape could fall between the quick and the slow ones, and where
    the stable has shown no duration.
    """
    most = answer_seconds(baseline, tally, 0.9)
    return most + slice_seconds if most > slice_seconds / 10 else 0.0


# Kept with the state ---------------------------------------------------------------------------------------------


def to_json(measurement: Measurement) -> dict[str, Any]:
    """The inverse of `from_json`."""
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


def from_json(data: Mapping[str, Any]) -> Measurement:
    """Read what `to_json` wrote.

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
