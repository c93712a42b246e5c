"""`spec.analysis`: the metrics that a canary is compared by, how strictly, and the Prometheus that has them.

A trial uses the analysis that the spec had when the canary got its first request. The analysis is not part of the
revision, so changing it starts no trial. The entries of `metrics` have no defaults in the CRD: the API server would
write them into the list, and GitOps tools, which compare lists as a whole, would always report a difference.
`serin.analysis.presets` defines how a metric is counted.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from serin.api.base import ApiModel, list_map
from serin.api.check import Check
from serin.api.duration import Duration, PositiveDuration
from serin.api.fields import Label, Subdomain, matches, must_match, quoted
from serin.api.rule import Rule
from serin.api.selector import PLAIN

SELECTOR_MESSAGE = (
    'Write a plain selector such as my_total or my_total{job="x"}, without functions, ranges or offsets; Serin adds '
    "the revision label."
)
_URL = "^https?://[A-Za-z0-9.:_-]+(/[A-Za-z0-9._~/-]*)?$|^https?://\\[[0-9a-fA-F:]+\\](:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$"

Selector = Annotated[str, Field(min_length=1, max_length=1024), must_match(PLAIN, SELECTOR_MESSAGE)]
_is_header_name = matches("^[A-Za-z0-9-]+$")


class Preset(StrEnum):
    """A metric that Serin measures without selectors from the user."""

    ERROR_RATE = "ErrorRate"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - a preset, not a password
    END_TO_END_LATENCY = "EndToEndLatency"
    TIME_PER_OUTPUT_TOKEN = "TimePerOutputToken"  # noqa: S105 - a preset, not a password
    QUEUE_TIME = "QueueTime"
    THROUGHPUT = "Throughput"
    """Generated tokens per second of answering, from vLLM's own metrics. A mean: reported, never tested."""


class MetricSourceName(StrEnum):
    """Where a preset is counted."""

    MODEL_SERVER = "ModelServer"
    """Serin's middleware in the engine pods: counts by revision and epoch, so it is exact across changes of weight."""
    ENGINE = "Engine"
    """vLLM's own metrics, by engine revision: latencies and throughput. Not used for a while after each change of
    weight."""
    GATEWAY = "Gateway"
    """The gateway's counters, by backend: errors only. Not used for a while after each change of weight."""


class Mode(StrEnum):
    """What a metric may decide."""

    REQUIRED = "Required"
    """The metric can roll back a canary, and a promotion needs its proof."""
    ADVISORY = "Advisory"
    """The metric is reported and decides nothing."""


class Tolerance(ApiModel):
    """How much worse than the stable a canary may be and still be promoted.

    For errors, a `ratio` or a `histogram`: its bad rate is at most the stable's bad rate times `ratio`, plus
    `absolute`. For a latency of the model server: it is at most `ratio` times as slow at equal load, except for the
    share `absolute` of the requests.
    """

    ratio: Annotated[float | None, Field(ge=1, le=10)] = None
    """Factor on the stable's bad rate (default 1.5), or on its latency at equal load (default 1.25: a quarter
    slower)."""
    absolute: Annotated[float | None, Field(ge=0, le=0.5)] = None
    """Share of all requests that is added: 0.002 is 0.2 percentage points. Default: 0.002 if the LLMDeployment got 5
    requests per second or more in the five minutes before the trial, otherwise 0.005; for a latency at equal load
    0.005."""


class Ratio(ApiModel):
    """Share of bad requests, from two counters of yours that have the label `revision`."""

    bad: Selector
    """PromQL selector of the counter of bad requests."""
    total: Selector
    """PromQL selector of the counter of all requests, bad ones included."""


class Histogram(ApiModel):
    """A histogram of yours that has the label `revision`."""

    buckets: Selector
    """PromQL selector of its `_bucket` series; Serin groups them by `le`."""


class Ceiling(ApiModel):
    """Limit on a bad rate. A canary above it is not promoted; it is rolled back if it is also worse than the stable."""

    of: Label
    """Name of another metric in this list, whose bad rate is limited."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Highest allowed share of bad requests, between 0 and 1."""
    above_seconds: Annotated[float | None, Field(gt=0, le=3600)] = None
    """Only for a latency: a request is bad above this many seconds. Serin uses the nearest bucket boundary of the
    histogram."""


_MEASURES = ("preset", "ratio", "histogram", "ceiling", "check")


class Metric(ApiModel):
    """One metric by which the canary is compared with the stable."""

    RULES = (
        Rule(
            cel="[has(self.preset), has(self.ratio), has(self.histogram), has(self.ceiling), has(self.check)]"
            ".filter(p, p).size() == 1",
            message="Set exactly one of preset, ratio, histogram, ceiling and check in each metric.",
            holds=lambda metric: sum(getattr(metric, kind) is not None for kind in _MEASURES) == 1,
        ),
        Rule(
            cel="!has(self.source) || has(self.preset)",
            message="Remove source; it applies only to a preset.",
            holds=lambda metric: metric.source is None or metric.preset is not None,
        ),
        Rule(
            cel="!has(self.source) || !has(self.preset) || "
            "(self.source == 'ModelServer' ? self.preset != 'Throughput' : "
            "(self.source == 'Gateway') == (self.preset == 'ErrorRate'))",
            message="Choose another source: Gateway has only ErrorRate, Engine has no ErrorRate, "
            "ModelServer has no Throughput.",
            holds=lambda metric: (
                metric.source is None
                or (
                    metric.preset is not Preset.THROUGHPUT
                    if metric.source is MetricSourceName.MODEL_SERVER
                    else (metric.source is MetricSourceName.GATEWAY) == (metric.preset is Preset.ERROR_RATE)
                )
            ),
        ),
        Rule(
            cel="(!has(self.ceiling) && (!has(self.preset) || self.preset != 'Throughput')) || "
            "(!has(self.margin) && !has(self.tolerance))",
            message="Remove margin and tolerance; they do not apply to a ceiling or to Throughput.",
            holds=lambda metric: (
                (metric.ceiling is None and metric.preset is not Preset.THROUGHPUT)
                or (metric.margin is None and metric.tolerance is None)
            ),
        ),
        Rule(
            cel="!has(self.preset) || self.preset != 'Throughput' || (has(self.mode) && self.mode == 'Advisory')",
            message="Set mode: Advisory for Throughput; it is a mean, which Serin reports but does not test.",
            holds=lambda metric: metric.preset is not Preset.THROUGHPUT or not metric.required,
        ),
    )

    name: Label
    """Name of the metric in status, messages and Serin's own metrics."""
    preset: Preset | None = None
    """A metric that Serin measures without selectors of yours."""
    ratio: Ratio | None = None
    """Share of bad requests, from two counters of yours."""
    histogram: Histogram | None = None
    """Distribution of a value such as a latency, from a histogram of yours."""
    ceiling: Ceiling | None = None
    """Limit on the bad rate of another metric. A canary above it is not promoted; it is rolled back if it is also worse
    than the stable."""
    check: Check | None = None
    """Share of answers that fail a check, which the pods make. The name of the metric is the label `check` of
    `serin_checks_total`."""
    source: MetricSourceName | None = None
    """Where a preset is counted. Default: ModelServer if the pods of both stable and canary run Serin's middleware,
    otherwise Gateway for errors and Engine for latencies."""
    share: Annotated[float | None, Field(gt=0, le=1000)] = None
    """Relative part of falseRollbackRate that this metric gets among the Required metrics. Default: 1."""
    mode: Mode | None = None
    """`Required`: the metric can roll back a canary, and a promotion needs its proof. `Advisory`: it is only reported.
    Default: Required."""
    margin: Annotated[float | None, Field(ge=1, le=10)] = None
    """How many times the stable's bad rate the canary's bad rate may be before this counts against it; for a latency of
    the model server: how many times as slow it may be, at equal load. Default: 1.1 for errors, 1.25 for all other
    metrics. It limits the rollback; `tolerance` limits the promotion."""
    tolerance: Tolerance | None = None
    """How much worse than the stable a canary may be and still be promoted; it must be proven to be no worse."""

    @property
    def required(self) -> bool:
        """Whether the metric can decide."""
        return self.mode is not Mode.ADVISORY

    @property
    def counts_answers(self) -> bool:
        """Whether it is a share of bad answers, which the ramp can follow: errors, a ratio or a check."""
        return self.ratio is not None or self.check is not None or self.preset is Preset.ERROR_RATE


class LocalRef(ApiModel):
    """Reference to a Secret in the same namespace."""

    name: Subdomain
    """Name of the Secret."""


class PrometheusServer(ApiModel):
    """A Prometheus server."""

    url: Annotated[
        str,
        Field(min_length=1, max_length=1024),
        must_match(_URL, "Write the URL of a Prometheus server such as https://prometheus.example.com:9090/prefix."),
    ]
    """Base URL of the server; Serin adds `/api/v1`."""
    headers: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]],
        Field(max_length=8),
        Rule(
            cel=f"self.all(name, name.matches({quoted('^[A-Za-z0-9-]+$')}))",
            message="Write names of HTTP headers: letters, digits and '-'.",
            holds=lambda headers: all(map(_is_header_name, headers)),
        ),
        Rule(
            cel="!self.exists(name, name.lowerAscii() == 'authorization')",
            message="Remove the Authorization header; put credentials into a Secret and name it in authSecretRef.",
            holds=lambda headers: not any(name.lower() == "authorization" for name in headers),
        ),
    ] = {}
    """HTTP headers of every query, such as `X-Scope-OrgID` for a tenant."""
    auth_secret_ref: LocalRef | None = None
    """Secret with `username` and `password`, or with `token`; `ca.crt` in it, if present, holds the trusted certificate
    authorities."""


def _ceilings_name_other_metrics(metrics: tuple[Metric, ...]) -> bool:
    plain = {metric.name for metric in metrics if metric.ceiling is None and metric.preset is not Preset.THROUGHPUT}
    return all(metric.ceiling is None or metric.ceiling.of in plain for metric in metrics)


def _only_latency_ceilings_have_seconds(metrics: tuple[Metric, ...]) -> bool:
    counted = {m.name for m in metrics if m.counts_answers}
    return all(m.ceiling is None or (m.ceiling.above_seconds is None) == (m.ceiling.of in counted) for m in metrics)


DEFAULT_METRICS = (
    Metric(name="errors", preset=Preset.ERROR_RATE),
    Metric(name="ttft", preset=Preset.TIME_TO_FIRST_TOKEN, mode=Mode.ADVISORY),
)
Metrics = Annotated[
    tuple[Metric, ...],
    Field(min_length=1, max_length=16, json_schema_extra=list_map("name")),
    Rule(
        cel="self.exists(m, !has(m.mode) || m.mode == 'Required')",
        message="Make at least one metric Required; without one, no canary can be promoted or rolled back.",
        holds=lambda metrics: any(metric.required for metric in metrics),
    ),
    Rule(
        cel="self.all(m, !has(m.ceiling) || self.exists(o, o.name == m.ceiling.of && !has(o.ceiling) && "
        "(!has(o.preset) || o.preset != 'Throughput')))",
        message="Set ceiling.of to another metric of this list that is neither a ceiling nor Throughput.",
        holds=_ceilings_name_other_metrics,
    ),
    Rule(
        cel="self.all(m, !has(m.ceiling) || self.all(o, o.name != m.ceiling.of || has(m.ceiling.aboveSeconds) != "
        "(has(o.ratio) || has(o.check) || (has(o.preset) && o.preset == 'ErrorRate'))))",
        message="Set ceiling.aboveSeconds if ceiling.of is a latency; remove it for ErrorRate, a ratio or a check.",
        holds=_only_latency_ceilings_have_seconds,
    ),
]


class Analysis(ApiModel):
    """How a canary is compared with the stable."""

    prometheus: PrometheusServer | None = None
    """Prometheus server to query. Default: the operator's setting SERIN_PROMETHEUS_URL."""
    false_rollback_rate: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    """Highest probability that a trial rolls back a canary that is no worse than the stable, over its whole time and
    all metrics together: at 0.01, one of a hundred good canaries. A change takes effect with the next trial."""
    blind_timeout: PositiveDuration = timedelta(minutes=10)
    """How long metrics may be unavailable before the weight of the canary is set to 0. When they are available
    again, the ramp begins at its first step."""
    settle_time: Duration | None = None
    """How long after a change of weight the counts cannot support a promotion yet, because slow failures arrive late.
    They can support a rollback at once. Default: the time in which 999 of 1000 answers of the stable are finished, but
    at least 30s. A change takes effect with the next trial."""
    loss_tolerance: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the canary's requests that may be lost on the way to its pods: a promotion needs the proof that fewer
    are. If none are lost, the proof needs about 2700 requests of both sides at a weight of 50 percent, and about 230 if
    this is 0.3. A change takes effect with the next trial."""
    metrics: Metrics | None = None
    """Metrics to compare. Default: `errors` (ErrorRate, Required) and `ttft` (TimeToFirstToken, Advisory). A change
    takes effect with the next trial."""

    @property
    def compared(self) -> tuple[Metric, ...]:
        """The metrics to compare, with the default filled in."""
        return self.metrics or DEFAULT_METRICS
