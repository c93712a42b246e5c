"""From `spec.analysis` to the counters that are read and the measurements that are tested. Pure.

Called by `serin.rollout`, on every reconcile for the counters, and once per trial for the measurements. How a
measurement counts is in `serin.analysis.measurement`. Presets are described in docs/how-to/choose-metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serin.analysis.counts import Baseline, Names, Tally
from serin.analysis.measurement import (
    MOST_BOUNDARIES,
    AtLoad,
    How,
    Measurement,
    Throughput,
    bound_of,
    nearest,
    times,
)
from serin.analysis.pod_checks import pinned_check
from serin.evidence import conditional
from serin.evidence.boundaries import boundaries, interpolated, quantile
from serin.evidence.metric import MarginOf, MetricParameters
from serin.evidence.non_inferiority import default_tolerance

if TYPE_CHECKING:
    from serin.api.analysis import Analysis, Metric

ERROR_MARGIN, OTHER_MARGIN = 1.1, 1.25
FAILED_CHECK = "failed the check"
"""What is bad in the counts of a check."""
SETTLE_AT_LEAST = 30.0
"""Fewest seconds that an epoch lasts before its slices count for a proof: slow failures come late."""


@dataclass(frozen=True)
class Series:
    """The names of the series that presets are read from; settings of the operator."""

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
    """The counters that these metrics need; `measured`: the model server counts in the pods of both sides."""
    read = (_reading(m, series, measured=measured) for m in _tested(analysis) if m.ceiling is None)
    found = [tally for _, bad, total in read for tally in (bad, total) if tally]
    found += [tally for throughput in throughputs(analysis, series) for tally in throughput.tallies]
    always = (requests(series, measured=measured), durations(series, measured=measured))
    return tuple(dict.fromkeys([*always, *found]))


def optional(analysis: Analysis, series: Series, *, measured: bool) -> tuple[Tally, ...]:
    """The counters that no decision needs: neither a Required metric nor the duration of answers is read from them."""
    needed = {requests(series, measured=measured), durations(series, measured=measured)}
    for metric in _tested(analysis):
        if metric.required:
            _, bad, total = _reading(_read_of(metric, analysis), series, measured=measured)
            needed |= {total, bad or total}
    return tuple(tally for tally in tallies(analysis, series, measured=measured) if tally not in needed)


def _tested(analysis: Analysis) -> list[Metric]:
    return [metric for metric in analysis.compared if metric.preset != "Throughput"]


def _read_of(metric: Metric, analysis: Analysis) -> Metric:
    """The metric whose counts are read: the one that a ceiling limits, else the metric itself."""
    return next((m for m in analysis.compared if metric.ceiling and m.name == metric.ceiling.of), metric)


def throughputs(analysis: Analysis, series: Series) -> tuple[Throughput, ...]:
    """The metrics that are displayed and not tested. Only the engine counts tokens."""
    tokens = Tally(f"{series.engine}generation_tokens_total", names=Names.ENGINE)
    milliseconds = Tally(f"{series.engine}{_END_TO_END}_sum", names=Names.ENGINE, scale=1000)
    return tuple(
        Throughput(metric.name, tokens, milliseconds) for metric in analysis.compared if metric.preset == "Throughput"
    )


def requests(series: Series, *, measured: bool) -> Tally:
    """The counter of finished requests, from which the rate of traffic is read."""
    if measured:
        return Tally(f"{series.model_server}requests_total", by="outcome")
    return Tally(series.requests, by=series.code_label, names=Names.BACKEND)


def measurements(
    analysis: Analysis,
    series: Series,
    baseline: Baseline,
    *,
    measured: bool,
    at_load: bool = False,
    same_pods: bool = False,
    unjudged: Container[str] = (),
    share: float = 1.0,
) -> tuple[Measurement, ...]:
    """Every tested metric, with boundaries from the stable's baseline and its share of alpha.

    Args:
        analysis: the spec's.
        series: the names of the series.
        baseline: the stable's traffic and histograms.
        measured: the model server counts in the pods of both sides.
        at_load: those pods can count latencies by load.
        same_pods: the pods serve both sides, and their one document lists the boundaries of both.
        unjudged: names of the checks that one side cannot make; they are only reported.
        share: of falseRollbackRate, what the built-in comparisons (`serin.analysis.companions`) leave.
    """
    tested = _tested(analysis)
    unequal = {metric.name for metric in tested if _is_latency(metric, measured=measured)}
    cuts = _at_load(tested, unequal, series, baseline, same_pods=same_pods) if at_load else {}
    demoted = (unequal - cuts.keys()) | {
        metric.name for metric in tested if _read_of(metric, analysis).name in unjudged
    }
    required = {metric.name: metric.required and metric.name not in demoted for metric in analysis.compared}
    budget = sum(metric.share or 1.0 for metric in analysis.compared if required[metric.name])
    found = tuple(
        replace(
            _measurement(
                metric,
                _read_of(metric, analysis),
                analysis.false_rollback_rate
                * (share * (metric.share or 1.0) / budget if required[metric.name] else 1.0),
                series,
                baseline,
                measured=measured,
                cuts=cuts.get(metric.name),
            ),
            required=required[metric.name],
            demoted=metric.name in demoted,
        )
        for metric in tested
    )
    return tuple(replace(each, at_load=_shared_lists(each.at_load, found, same_pods=same_pods)) for each in found)


def _shared_lists(own: AtLoad | None, measurements: Sequence[Measurement], *, same_pods: bool) -> AtLoad | None:
    """The boundaries that the split documents list for a latency: those of all metrics that read it."""
    if own is None:
        return None
    same = [each.at_load for each in measurements if each.at_load and each.at_load.metric == own.metric]
    stable = {bound for each in same for bound in each.stable}
    canary = {bound for each in same for bound in each.canary}
    if same_pods:
        stable = canary = stable | canary
    return AtLoad(own.metric, tuple(sorted(stable)), tuple(sorted(canary)))


def _is_latency(metric: Metric, *, measured: bool) -> bool:
    """Whether the metric is a latency that the model server counts; it is compared at equal load or decides nothing."""
    return metric.preset in _LATENCIES and _from_pods(metric, measured=measured)


def _at_load(
    tested: Sequence[Metric], unequal: Container[str], series: Series, baseline: Baseline, *, same_pods: bool
) -> dict[str, tuple[float, ...]]:
    """The boundaries of each latency that is compared at equal load.

    Metrics of one preset share the boundaries that a split document may list for it, and a metric whose margin and
    tolerance differ needs two of them for each of its own. A metric for which none is left is absent.
    """
    found: dict[str, tuple[float, ...]] = {}
    for preset, quantity in _LATENCIES.items():
        metrics = [metric for metric in tested if metric.preset == preset and metric.name in unequal]
        left = MOST_BOUNDARIES
        needed = {metric.name: _lists(metric) + same_pods for metric in metrics}
        each = max(1, MOST_BOUNDARIES // max(1, sum(needed.values())))
        for metric in metrics:
            if left < each * needed[metric.name]:
                break
            left -= each * needed[metric.name]
            cumulative = _cumulative(baseline, _latency(quantity, series, measured=True))
            wanted = next(quantiles for quantiles in QUANTILES_AT_LOAD if len(quantiles) <= each)
            # Without samples of the stable: the usual ones, from the lowest.
            found[metric.name] = interpolated(cumulative, wanted) or _USUAL_BOUNDARIES[preset][:each]
    return found


def _lists(metric: Metric) -> int:
    """How many boundaries the canary's document lists for each boundary of the metric."""
    return 1 if _margin(metric) == _ratio(metric) else 2


def _margin(metric: Metric) -> float:
    return metric.margin or (ERROR_MARGIN if metric.preset == "ErrorRate" else OTHER_MARGIN)


def _ratio(metric: Metric) -> float:
    return (metric.tolerance and metric.tolerance.ratio) or OTHER_MARGIN


def _measurement(
    metric: Metric,
    read: Metric,
    alpha: float,
    series: Series,
    baseline: Baseline,
    *,
    measured: bool,
    cuts: tuple[float, ...] | None,
) -> Measurement:
    """The measurement of a metric; `read` is the result of `_read_of`, `cuts` are boundaries at equal load."""
    if cuts is not None and metric.preset:
        return _measurement_at_load(metric, alpha, series, cuts)
    how, bad, total = _reading(read, series, measured=measured)
    cumulative = _cumulative(baseline, total) if how is How.ABOVE else {}
    if metric.ceiling and how is How.ABOVE:
        finite = [bound for bound in cumulative if math.isfinite(bound)]
        above = metric.ceiling.above_seconds or 0.0
        cuts = (nearest(finite, above) if finite else above,)
    elif how is How.ABOVE:
        usual = _USUAL_BOUNDARIES[read.preset] if read.preset else ()
        cuts = boundaries(cumulative) if any(cumulative.values()) or not usual else usual
    else:
        cuts = ()
    ratio, absolute = _tolerance(metric, baseline)
    return Measurement(
        name=metric.name,
        how=how,
        total=total,
        bad=bad,
        parameters=MetricParameters(
            alpha=alpha,
            margin=_margin(metric),
            ratio=ratio,
            absolute=absolute,
            boundaries=cuts,
            ceiling=metric.ceiling.rate if metric.ceiling else None,
        ),
        required=metric.required,
        unit="s" if how is How.ABOVE and read.preset else "",
        described=FAILED_CHECK if how is How.CHECK else "",
        check=pinned_check(read),
    )


def _tolerance(metric: Metric, baseline: Baseline) -> tuple[float, float]:
    """Relative and absolute tolerance; what is not written follows the traffic before the trial."""
    written = metric.tolerance
    ratio, absolute = default_tolerance(baseline.requests_per_second)
    if written is None:
        return ratio, absolute
    return (
        ratio if written.ratio is None else written.ratio,
        absolute if written.absolute is None else written.absolute,
    )


def _measurement_at_load(metric: Metric, alpha: float, series: Series, cuts: tuple[float, ...]) -> Measurement:
    """The measurement of a latency at equal load; `measurements` adds the boundaries of other metrics."""
    parameters = MetricParameters(
        alpha=alpha,
        margin=_margin(metric),
        ratio=_ratio(metric),
        absolute=_absolute(metric),
        boundaries=cuts,
        margin_of=MarginOf.TIMES,
    )
    name = METRIC_LABELS[metric.preset or ""]
    where = f'{{metric="{name}"}}'
    factors = {parameters.margin, parameters.ratio}
    return Measurement(
        name=metric.name,
        how=How.AT_LOAD,
        total=Tally(f"{series.model_server}latency_requests_total{where}", by="cached,load"),
        bad=Tally(f"{series.model_server}latency_above_total{where}", by="cached,load,boundary"),
        parameters=parameters,
        required=metric.required,
        unit="s",
        at_load=AtLoad(name, cuts, tuple(sorted({times(cut, factor) for cut in cuts for factor in factors}))),
    )


def _absolute(metric: Metric) -> float:
    tolerance = metric.tolerance
    return 0.005 if tolerance is None or tolerance.absolute is None else tolerance.absolute


METRIC_LABELS = {
    "TimeToFirstToken": "ttft",
    "TimePerOutputToken": "tpot",
    "EndToEndLatency": "e2e",
    "QueueTime": "queue",
}
"""By preset, the name of the latency in the split document and in the label `metric`."""
QUANTILES_AT_LOAD = ((0.5, 0.75, 0.9, 0.97, 0.995), (0.5, 0.9, 0.97), (0.5, 0.9), (0.75,))
"""The stable's quantiles at which a latency is cut at equal load: the first that are not too many."""

_LATENCIES = {
    "TimeToFirstToken": "time_to_first_token_seconds",
    "EndToEndLatency": "e2e_request_latency_seconds",
    "TimePerOutputToken": "request_time_per_output_token_seconds",
    "QueueTime": "request_queue_time_seconds",
}
"""By preset, the name of the quantity in vLLM's series; the model server uses the same names."""
_END_TO_END = _LATENCIES["EndToEndLatency"]
_USUAL_BOUNDARIES = {
    "TimeToFirstToken": (0.1, 0.5, 2.5, 10.0),
    "EndToEndLatency": (1.0, 5.0, 20.0, 60.0),
    "TimePerOutputToken": (0.025, 0.1, 0.3, 1.0),
    "QueueTime": (0.3, 2.5, 10.0, 60.0),
}
"""Boundaries in seconds of a latency without samples of the stable: bounds of vLLM's own buckets."""


def _reading(metric: Metric, series: Series, *, measured: bool) -> tuple[How, Tally | None, Tally]:
    """How requests are classified, the counter of bad requests if there is one, and the counter of all requests."""
    if metric.ratio:
        return How.PAIR, Tally(metric.ratio.bad), Tally(metric.ratio.total)
    if metric.check:
        return How.CHECK, None, Tally(f'{series.model_server}checks_total{{check="{metric.name}"}}', by="result")
    if metric.histogram:
        return How.ABOVE, None, Tally(metric.histogram.buckets, by="le")
    from_pods = _from_pods(metric, measured=measured)
    if metric.preset is None or metric.preset == "ErrorRate":
        return (How.OUTCOME if from_pods else How.CODE), None, requests(series, measured=from_pods)
    return How.ABOVE, None, _latency(_LATENCIES[metric.preset], series, measured=from_pods)


def _from_pods(metric: Metric, *, measured: bool) -> bool:
    return measured if metric.source is None else metric.source == "ModelServer"


def _latency(quantity: str, series: Series, *, measured: bool) -> Tally:
    if measured:
        return Tally(f"{series.model_server}{quantity}_bucket", by="le")
    return Tally(f"{series.engine}{quantity}_bucket", by="le", names=Names.ENGINE)


def arrivals(series: Series, *, measured: bool) -> Tally | None:
    """The counter of requests as they arrive, which only the model server has. Each side's share is read from it."""
    return Tally(f"{series.model_server}requests_started_total") if measured else None


def durations(series: Series, *, measured: bool) -> Tally:
    """The histogram of the duration of answers, from which settle and blank times are derived."""
    return _latency(_END_TO_END, series, measured=measured)


def _cumulative(baseline: Baseline, tally: Tally) -> dict[float, float]:
    found = ((bound_of(le), count) for le, count in baseline.histograms.get(tally, {}).items())
    return {bound: count for bound, count in found if bound is not None}


def answer_seconds(baseline: Baseline, tally: Tally, q: float) -> float:
    """A quantile of the duration of the stable's answers in seconds; 0.0 without samples."""
    return quantile(_cumulative(baseline, tally), q) or 0.0


def blank_seconds(baseline: Baseline, tally: Tally, slice_seconds: float) -> float:
    """How long series without an epoch label are ignored: until 99 % of the answers have ended and were scraped.

    `SETTLE_AT_LEAST` stands for the duration if the stable has no samples.
    """
    return (answer_seconds(baseline, tally, 0.99) or SETTLE_AT_LEAST) + slice_seconds


def young_seconds(baseline: Baseline, tally: Tally, slice_seconds: float) -> float:
    """How long an epoch's counts are pooled; see `serin.evidence.conditional.young_seconds`."""
    return conditional.young_seconds(answer_seconds(baseline, tally, 0.9), slice_seconds)
