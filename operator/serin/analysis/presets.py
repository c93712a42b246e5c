"""What is measured: from `spec.analysis` to tallies that are read and measurements that are pinned. Pure.

How a measurement counts is in `serin.analysis.measurement`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serin.analysis.counts import Baseline, Names, Tally
from serin.analysis.measurement import How, Measurement, Throughput, bound_of, nearest
from serin.evidence import conditional
from serin.evidence.boundaries import boundaries, quantile
from serin.evidence.metric import MetricParameters

if TYPE_CHECKING:
    from serin.api.analysis import Analysis, Metric

ERROR_MARGIN, OTHER_MARGIN = 1.1, 1.25
SETTLE_AT_LEAST = 30.0
"""Seconds that an epoch lasts before its slices count for a proof; slow failures come late."""


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


def tallies(analysis: Analysis, series: Series, *, measured: bool) -> tuple[Tally, ...]:
    """What is read for these metrics; `measured`: the model server counts in the pods of both sides."""
    read = (_reading(m, series, measured=measured) for m in _tested(analysis) if m.ceiling is None)
    found = [tally for _, bad, total in read for tally in (bad, total) if tally]
    found += [tally for shown in throughputs(analysis, series) for tally in shown.tallies]
    always = (requests(series, measured=measured), durations(series, measured=measured))
    return tuple(dict.fromkeys([*always, *found]))


def optional(analysis: Analysis, series: Series, *, measured: bool) -> tuple[Tally, ...]:
    """Which of them decide nothing: no Required metric, nor how long answers take, is read from them."""
    needed = {requests(series, measured=measured), durations(series, measured=measured)}
    for metric in _tested(analysis):
        if metric.required:
            _, bad, total = _reading(_read_of(metric, analysis), series, measured=measured)
            needed |= {total, bad or total}
    return tuple(tally for tally in tallies(analysis, series, measured=measured) if tally not in needed)


def _tested(analysis: Analysis) -> list[Metric]:
    return [metric for metric in analysis.compared if metric.preset != "Throughput"]


def _read_of(metric: Metric, analysis: Analysis) -> Metric:
    """The metric whose counts are read: what a ceiling limits, else the metric itself."""
    return next((m for m in analysis.compared if metric.ceiling and m.name == metric.ceiling.of), metric)


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
    return tuple(
        _measurement(
            metric,
            _read_of(metric, analysis),
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
    """`read` is as `_read_of` says."""
    how, bad, total = _reading(read, series, measured=measured)
    cumulative = _cumulative(baseline, total) if how is How.ABOVE else {}
    if metric.ceiling and how is How.ABOVE:
        finite = [bound for bound in cumulative if math.isfinite(bound)]
        above = metric.ceiling.above_seconds or 0.0
        cuts: tuple[float, ...] = (nearest(finite, above) if finite else above,)
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
    found = ((bound_of(le), count) for le, count in baseline.histograms.get(tally, {}).items())
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
    """How long an epoch's counts are pooled; see `serin.evidence.conditional.young_seconds`."""
    return conditional.young_seconds(answer_seconds(baseline, tally, 0.9), slice_seconds)
