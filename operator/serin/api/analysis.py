"""What a canary is judged by: metrics, how strictly, and where they are read.

Pinned when a canary gets its first request; not part of the revision, so a change here starts no canary. The entries of
`metrics` have no defaults in the CRD: the API server would write them into the list, and GitOps tools, which compare
lists as a whole, would never find it in sync. How a metric becomes counts is said in `serin.analysis.presets`.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from serin.api.base import ApiModel, list_map
from serin.api.duration import Duration, PositiveDuration
from serin.api.fields import Label, Subdomain, matches, pattern, quoted
from serin.api.rule import Rule
from serin.api.selector import PLAIN

SELECTOR_MESSAGE = (
    'Write a plain selector such as my_total or my_total{job="x"}, without functions, ranges and offsets; Serin adds '
    "the revision label."
)
_URL = "^https?://[A-Za-z0-9.:_-]+(/[A-Za-z0-9._~/-]*)?$|^https?://\\[[0-9a-fA-F:]+\\](:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$"

Selector = Annotated[str, Field(min_length=1, max_length=1024), pattern(PLAIN, SELECTOR_MESSAGE)]
_is_header = matches("^[A-Za-z0-9-]+$")


class Preset(StrEnum):
    """What Serin measures by itself."""

    ERROR_RATE = "ErrorRate"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - a preset, not a password
    END_TO_END_LATENCY = "EndToEndLatency"
    TIME_PER_OUTPUT_TOKEN = "TimePerOutputToken"  # noqa: S105 - a preset, not a password
    QUEUE_TIME = "QueueTime"
    THROUGHPUT = "Throughput"
    """Generated tokens by second of answering, from vLLM's own series. A mean: shown, never tested."""


class MetricSourceName(StrEnum):
    """Who counts."""

    MODEL_SERVER = "ModelServer"
    """Serin's middleware in the engine: by revision and epoch, hence exact across changes of weight."""
    ENGINE = "Engine"
    """vLLM's own series, by engine revision; silent for a while after each change of weight. Latencies, throughput."""
    GATEWAY = "Gateway"
    """The gateway's counters, by backend; silent for a while after each change of weight. Errors only."""


class Mode(StrEnum):
    """What a metric may do."""

    REQUIRED = "Required"
    """It may roll back, and a promotion needs its proof."""
    ADVISORY = "Advisory"
    """It is shown, and decides nothing."""


class Tolerance(ApiModel):
    """How much worse a canary may be and still be promoted."""

    ratio: Annotated[float | None, Field(ge=1, le=10)] = None
    """At most this many times the stable's bad rate, 1.25 when absent …"""
    absolute: Annotated[float | None, Field(ge=0, le=0.5)] = None
    """… plus this share of all requests, 0.005 when absent."""


class Ratio(ApiModel):
    """Bad requests among all, from two counters of your own that carry the label `revision`."""

    bad: Selector
    """Counts the bad ones."""
    total: Selector
    """Counts all of them."""


class Histogram(ApiModel):
    """A histogram of your own that carries the label `revision`."""

    buckets: Selector
    """Its `_bucket` series; `le` is told apart by Serin."""


class Ceiling(ApiModel):
    """An absolute limit: nobody is promoted above it, and rolled back is who is also worse than the stable."""

    of: Label
    """The metric whose bad rate is limited: another one of this list."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """The highest share of bad requests."""
    above_seconds: Annotated[float | None, Field(gt=0, le=3600)] = None
    """For a latency: from how many seconds on a request is bad; the nearest boundary of its histogram is taken."""


_KINDS = ("preset", "ratio", "histogram", "ceiling")


class Metric(ApiModel):
    """One thing that is compared."""

    RULES = (
        Rule(
            cel="[has(self.preset), has(self.ratio), has(self.histogram), has(self.ceiling)].filter(p, p).size() == 1",
            message="Give a metric exactly one of preset, ratio, histogram and ceiling; write two metrics for two.",
            holds=lambda metric: sum(getattr(metric, kind) is not None for kind in _KINDS) == 1,
        ),
        Rule(
            cel="!has(self.source) || has(self.preset)",
            message="Remove source; only a preset has one, your own selectors say themselves what is read.",
            holds=lambda metric: metric.source is None or metric.preset is not None,
        ),
        Rule(
            cel="!has(self.source) || !has(self.preset) || "
            "(self.source == 'ModelServer' ? self.preset != 'Throughput' : "
            "(self.source == 'Gateway') == (self.preset == 'ErrorRate'))",
            message="Choose another source: the Gateway counts only errors, the Engine only latencies and throughput.",
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
            message="Remove margin and tolerance; a ceiling is absolute, and Throughput is not tested.",
            holds=lambda metric: (
                (metric.ceiling is None and metric.preset is not Preset.THROUGHPUT)
                or (metric.margin is None and metric.tolerance is None)
            ),
        ),
        Rule(
            cel="!has(self.preset) || self.preset != 'Throughput' || (has(self.mode) && self.mode == 'Advisory')",
            message="Make Throughput Advisory; a mean is shown and cannot be tested.",
            holds=lambda metric: metric.preset is not Preset.THROUGHPUT or not metric.required,
        ),
    )

    name: Label
    """How it is called in status, messages and metrics."""
    preset: Preset | None = None
    """One of Serin's own measurements."""
    ratio: Ratio | None = None
    """Bad among all, from your own counters."""
    histogram: Histogram | None = None
    """A histogram of your own: the canary's distribution against the stable's."""
    ceiling: Ceiling | None = None
    """An absolute limit on another metric's bad rate."""
    source: MetricSourceName | None = None
    """Who counts a preset; the model server where both sides' pods measure, else Gateway and Engine."""
    share: Annotated[float | None, Field(gt=0, le=1000)] = None
    """Weight of this metric when the false-rollback rate is shared out among the Required ones; 1 when absent."""
    mode: Mode | None = None
    """Whether it decides, or is only shown; Required when absent."""
    margin: Annotated[float | None, Field(ge=1, le=10)] = None
    """How many times worse the canary may be before that counts against it; 1.1 for errors, 1.25 for all others."""
    tolerance: Tolerance | None = None
    """How much worse the canary may be and still be promoted."""

    @property
    def required(self) -> bool:
        """Whether it decides."""
        return self.mode is not Mode.ADVISORY


class LocalRef(ApiModel):
    """A Secret in the same namespace."""

    name: Subdomain
    """The Secret."""


class PrometheusServer(ApiModel):
    """A Prometheus of your own."""

    url: Annotated[
        str,
        Field(min_length=1, max_length=1024),
        pattern(_URL, "Write the address of a Prometheus such as https://prometheus.example.com:9090/prefix."),
    ]
    """Where its API is; `/api/v1` is added."""
    headers: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]],
        Field(max_length=8),
        Rule(
            cel=f"self.all(name, name.matches({quoted('^[A-Za-z0-9-]+$')}))",
            message="Write names of HTTP headers: letters, digits and '-'.",
            holds=lambda headers: all(map(_is_header, headers)),
        ),
        Rule(
            cel="!self.exists(name, name.lowerAscii() == 'authorization')",
            message="Put credentials into a Secret and name it in authSecretRef.",
            holds=lambda headers: not any(name.lower() == "authorization" for name in headers),
        ),
    ] = {}
    """Sent with every query, such as the tenant's `X-Scope-OrgID`."""
    auth_secret_ref: LocalRef | None = None
    """A Secret with `username` and `password`, or `token`, and, if needed, the authorities in `ca.crt`."""


def _ceilings_resolve(metrics: tuple[Metric, ...]) -> bool:
    plain = {metric.name for metric in metrics if metric.ceiling is None and metric.preset is not Preset.THROUGHPUT}
    return all(metric.ceiling is None or metric.ceiling.of in plain for metric in metrics)


def _seconds_where_needed(metrics: tuple[Metric, ...]) -> bool:
    counted = {m.name for m in metrics if m.ratio is not None or m.preset is Preset.ERROR_RATE}
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
        message="Make at least one metric Required; without one nothing could be promoted or rolled back.",
        holds=lambda metrics: any(metric.required for metric in metrics),
    ),
    Rule(
        cel="self.all(m, !has(m.ceiling) || self.exists(o, o.name == m.ceiling.of && !has(o.ceiling) && "
        "(!has(o.preset) || o.preset != 'Throughput')))",
        message="Let ceiling.of name another metric of this list that is neither a ceiling itself nor Throughput.",
        holds=_ceilings_resolve,
    ),
    Rule(
        cel="self.all(m, !has(m.ceiling) || self.all(o, o.name != m.ceiling.of || has(m.ceiling.aboveSeconds) != "
        "(has(o.ratio) || (has(o.preset) && o.preset == 'ErrorRate'))))",
        message="Give the ceiling of a latency aboveSeconds, and that of a ratio none.",
        holds=_seconds_where_needed,
    ),
]


class Analysis(ApiModel):
    """What a canary is judged by."""

    prometheus: PrometheusServer | None = None
    """Where the metrics are; the operator's own setting when absent."""
    false_rollback_rate: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    """Probability of rolling back a canary that is no worse, over the whole rollout and all metrics, at the most."""
    blind_timeout: PositiveDuration = timedelta(minutes=10)
    """When evidence could not be read for this long the canary's weight is taken away until it can."""
    settle_time: Duration | None = None
    """How long a weight is held before what it shows counts for a promotion, since slow failures come late. As long as
    999 of 1000 answers of the stable take, at least 30s, when absent."""
    metrics: Metrics | None = None
    """What is compared. When absent: `errors` (ErrorRate, Required) and `ttft` (TimeToFirstToken, Advisory)."""

    @property
    def compared(self) -> tuple[Metric, ...]:
        """What is compared, the default filled in."""
        return self.metrics or DEFAULT_METRICS
