"""The rules of metrics, their Prometheus, and time limits."""

from __future__ import annotations

from typing import Any

from serin.api import duration
from serin.api.analysis import SELECTOR_MESSAGE
from tests.integration.manifests import LLMDEPLOYMENT, Manifest
from tests.integration.rules.rule import DNS_LABEL, NAME_OF_OBJECT, Rule

ERRORS = {"name": "errors", "preset": "ErrorRate"}
LATENCY = {"name": "ttft", "preset": "TimeToFirstToken"}
OWN_RATIO = {"name": "own", "ratio": {"bad": "my_bad_total", "total": "my_total"}}
OWN_HISTOGRAM = {"name": "slow", "histogram": {"buckets": "my_seconds_bucket"}}
LIMIT = {"name": "slo", "ceiling": {"of": "errors", "rate": 0.02}}
SLOW_LIMIT = {"name": "slo", "ceiling": {"of": "ttft", "rate": 0.02, "aboveSeconds": 2.5}}
ADVISORY = {"mode": "Advisory"}
FORMAT = {"name": "format", "check": {"kind": "Regex", "pattern": "^{"}}
SPEED = {"name": "speed", "preset": "Throughput"} | ADVISORY
ONE_KIND = "Set exactly one of preset, ratio, histogram, ceiling and check in each metric."
ONLY_PRESETS = "Remove source; it applies only to a preset."
WHO_COUNTS = (
    "Choose another source: Gateway has only ErrorRate, Engine has no ErrorRate, ModelServer has no Throughput."
)
ABSOLUTE = "Remove margin and tolerance; they do not apply to a ceiling or to Throughput."
SHOWN = "Set mode: Advisory for Throughput; it is a mean, which Serin reports but does not test."
ONE_REQUIRED = "Make at least one metric Required; without one, no canary can be promoted or rolled back."
NAMES_ANOTHER = "Set ceiling.of to another metric of this list that is neither a ceiling nor Throughput."
SECONDS = "Set ceiling.aboveSeconds if ceiling.of is a latency; remove it for ErrorRate, a ratio or a check."
NEEDED = "Set pattern for Regex, texts for Contains and maxChars for MaxChars, and for no other kind."


def ratio(selector: str) -> list[Manifest]:
    return [OWN_RATIO | {"ratio": {"bad": selector, "total": "my_total"}}]


def check(**fields: Any) -> Manifest:
    return {"name": "own", "check": fields}


def server(url: str) -> Manifest:
    return {"url": url}


def headers(**headers: str) -> Manifest:
    return server("https://p.example.com") | {"headers": {name.replace("_", "-"): v for name, v in headers.items()}}


ANALYSIS = (
    Rule(
        "spec.analysis.metrics",
        ONE_KIND,
        ([ERRORS], [ERRORS, LATENCY, OWN_RATIO, OWN_HISTOGRAM, LIMIT, FORMAT]),
        (
            [{"name": "errors"}],
            [ERRORS | {"ratio": OWN_RATIO["ratio"]}],
            [OWN_RATIO | {"histogram": OWN_HISTOGRAM["histogram"]}],
            [ERRORS, LIMIT | {"preset": "QueueTime"}],
            [LATENCY | OWN_RATIO | OWN_HISTOGRAM],
            [ERRORS | {"check": FORMAT["check"]}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        SELECTOR_MESSAGE,
        tuple(
            ratio(selector)
            for selector in (
                "my_total",
                "job:my_total:sum",
                'my_total{job="x"}',
                'my_total{job=~"a|b",path!="/x",code!~"5..",}',
                'my_total{ job = "x" }',
                " my_total ",
                "my_total{}",
                'my_total{a="say \\"hi\\" } or {"}',
            )
        ),
        tuple(
            ratio(selector)
            for selector in (
                "my_total[5m]",
                'my_total{job="x"}[1m]',
                "rate(my_total[5m])",
                "sum(my_total)",
                "my_total offset 5m",
                "my_total @ 0",
                "my_total + 1",
                "my_total or vector(0)",
                "a b",
                '{__name__="my_total"}',
                'my_total{job="x"',
                'my_total{job="x"}}',
                'my_total{"job"="x"}',
                "my_total{job='x'}",
                "my_total{job=x}",
                'my_total{job="x" path="y"}',
                'my_total{job="a\\x"}',
                "my-total",
                "1st_total",
                " ",
                "my_total # a comment",
            )
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        ONLY_PRESETS,
        ([ERRORS | {"source": "ModelServer"}],),
        ([OWN_RATIO | {"source": "ModelServer"}], [ERRORS, LIMIT | {"source": "Gateway"}]),
    ),
    Rule(
        "spec.analysis.metrics",
        WHO_COUNTS,
        (
            [ERRORS | {"source": "Gateway"}, LATENCY | {"source": "Engine"}],
            [LATENCY | {"source": "ModelServer"}],
            [ERRORS, SPEED | {"source": "Engine"}],
        ),
        (
            [ERRORS | {"source": "Engine"}],
            [LATENCY | {"source": "Gateway"}],
            [ERRORS, SPEED | {"source": "ModelServer"}],
            [ERRORS, SPEED | {"source": "Gateway"}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        SHOWN,
        ([ERRORS, SPEED],),
        (
            [ERRORS, {"name": "speed", "preset": "Throughput"}],
            [ERRORS, SPEED | {"mode": "Required"}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        ABSOLUTE,
        ([ERRORS | {"margin": 1, "tolerance": {"ratio": 1, "absolute": 0}}, LIMIT],),
        ([ERRORS, LIMIT | {"margin": 1.1}], [ERRORS, LIMIT | {"tolerance": {}}], [ERRORS, SPEED | {"margin": 1.1}]),
    ),
    Rule(
        "spec.analysis.metrics",
        ONE_REQUIRED,
        ([ERRORS, LATENCY | ADVISORY], [ERRORS | {"mode": "Required"}], [ERRORS | ADVISORY, LIMIT]),
        ([ERRORS | ADVISORY], [ERRORS | ADVISORY, LATENCY | ADVISORY, LIMIT | ADVISORY]),
    ),
    Rule(
        "spec.analysis.metrics",
        NAMES_ANOTHER,
        ([ERRORS, LIMIT], [LIMIT, ERRORS], [ERRORS, LIMIT, LIMIT | {"name": "slo-2"}]),
        (
            [ERRORS, LIMIT | {"ceiling": {"of": "nobody", "rate": 0.1}}],
            [ERRORS, LIMIT | {"ceiling": {"of": "slo", "rate": 0.1}}],
            [ERRORS, LIMIT, {"name": "slo-2", "ceiling": {"of": "slo", "rate": 0.1}}],
            [ERRORS, SPEED, {"name": "slow", "ceiling": {"of": "speed", "rate": 0.1, "aboveSeconds": 1}}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        SECONDS,
        (
            [LATENCY, SLOW_LIMIT],
            [OWN_HISTOGRAM, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "slow"}}],
            [OWN_RATIO, LIMIT | {"ceiling": {"of": "own", "rate": 0.5}}],
            [FORMAT, LIMIT | {"ceiling": {"of": "format", "rate": 0.5}}],
        ),
        (
            [LATENCY, LIMIT | {"ceiling": {"of": "ttft", "rate": 0.5}}],
            [ERRORS, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "errors"}}],
            [OWN_RATIO, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "own"}}],
            [OWN_HISTOGRAM, LIMIT | {"ceiling": {"of": "slow", "rate": 0.5}}],
            [FORMAT, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "format"}}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        NEEDED,
        tuple([check(kind=kind)] for kind in ("Schema", "Empty", "Truncated", "Repetition", "Refusal")),
        (
            [check(kind="Regex")],
            [check(kind="Contains")],
            [check(kind="MaxChars")],
            [check(kind="Empty", pattern="a")],
            [check(kind="Regex", pattern="a", texts=["a"])],
            [check(kind="Contains", texts=["a"], maxChars=1)],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        "Remove expect; only Regex and Contains have it.",
        (
            [check(kind="Regex", pattern="a", expect="Absent")],
            [check(kind="Contains", texts=["a", "b"], expect="Present")],
        ),
        ([check(kind="Empty", expect="Absent")],),
    ),
    Rule(
        "spec.analysis.metrics",
        "Remove patterns; only Refusal has them.",
        ([check(kind="Refusal", patterns=["a", "b"])],),
        ([check(kind="Regex", pattern="a", patterns=["b"])],),
    ),
    Rule(
        "spec.analysis.metrics",
        "Remove times and compressionRatio; only Repetition has them.",
        ([check(kind="Repetition", times=2, compressionRatio=1000)],),
        ([check(kind="Empty", times=4)], [check(kind="Truncated", compressionRatio=12)]),
    ),
    Rule(
        "spec.analysis.metrics",
        DNS_LABEL,
        ([ERRORS | {"name": "errors-1"}],),
        ([ERRORS | {"name": "Errors"}], [ERRORS, LIMIT | {"ceiling": {"of": "ERRORS", "rate": 0.1}}]),
    ),
    Rule(
        "spec.analysis.prometheus",
        "Write the URL of a Prometheus server such as https://prometheus.example.com:9090/prefix.",
        tuple(
            map(
                server,
                (
                    "http://prometheus:9090",
                    "https://prometheus.example.com:9090/prefix/a~b_c.d",
                    "https://[fd00::1]:9090/p",
                    "http://10.0.0.1/",
                ),
            )
        ),
        tuple(
            map(
                server,
                (
                    "prometheus:9090",
                    "ftp://prometheus",
                    "https://user:password@prometheus.example.com",
                    "https://token@prometheus.example.com",
                    "https://prometheus.example.com/?query=up",
                    "https://prometheus.example.com/#x",
                    "https://prometheus.example.com /",
                    "https://prometheus.example.com/a%2fb",
                    "http://",
                    "https://prometheus.example.com\n",
                ),
            )
        ),
    ),
    Rule(
        "spec.analysis.prometheus",
        "Write names of HTTP headers: letters, digits and '-'.",
        (headers(X_Scope_OrgID="team-a", X1="b"),),
        (
            server("https://p.example.com") | {"headers": {"X Scope": "a"}},
            server("https://p.example.com") | {"headers": {"X_Scope": "a"}},
            server("https://p.example.com") | {"headers": {"": "a"}},
            server("https://p.example.com") | {"headers": {"X-Scope\n": "a"}},
        ),
    ),
    Rule(
        "spec.analysis.prometheus",
        "Remove the Authorization header; put credentials into a Secret and name it in authSecretRef.",
        (server("https://p.example.com") | {"authSecretRef": {"name": "access"}},),
        (headers(Authorization="Bearer x"), headers(authorization="Basic x"), headers(AUTHORIZATION="x")),
    ),
    Rule(
        "spec.analysis.prometheus",
        NAME_OF_OBJECT,
        (server("https://p.example.com") | {"authSecretRef": {"name": "a.b-c"}},),
        (server("https://p.example.com") | {"authSecretRef": {"name": "Access"}},),
    ),
    Rule("spec.analysis.blindTimeout", duration.POSITIVE_MESSAGE, ("1s", "10m", "24h"), ("0s", "soon", "-1m")),
    Rule("spec.analysis.settleTime", duration.MESSAGE, ("0s", "90s"), ("long", "-1s")),
)


def _adaptively(metrics: list[Manifest]) -> Manifest:
    """Return a spec with an adaptive ramp and these metrics."""
    ramp = {"rollout": {"ramp": {"adaptive": {}}}, "analysis": {"metrics": metrics}}
    return LLMDEPLOYMENT["spec"] | ramp


def _with_latency(**more: Any) -> Manifest:
    """Return a spec without an adaptive ramp, which may have any metric."""
    return LLMDEPLOYMENT["spec"] | {"analysis": {"metrics": [LATENCY]}} | more


PATIENCE = (
    Rule("spec.rollout.minimumBake", duration.MESSAGE, ("0s", "24h"), ("overnight", "-1s")),
    Rule("spec.rollout.deadline", duration.POSITIVE_MESSAGE, ("1m", "720h"), ("0s", "tomorrow")),
    Rule("spec.rollout.holdback", duration.POSITIVE_MESSAGE, ({}, {"for": "10m"}), ({"for": "0s"}, {"for": "x"})),
    Rule(
        "spec.rollout.holdback",
        "Write a percentage above 0 and below 100 with at most two decimals",
        ({"weight": 0.01}, {"weight": 50}, {"weight": 99.99}),
        ({"weight": 0}, {"weight": 100}, {"weight": 0.001}, {"weight": -2}),
    ),
    Rule(
        "spec.rollout.ramp",
        "Write a percentage above 0 and below 100 with at most two decimals",
        ({"adaptive": {"maxWeight": 0.2}}, {"adaptive": {"maxWeight": 99.99}}),
        ({"adaptive": {"maxWeight": 0}}, {"adaptive": {"maxWeight": 100}}, {"adaptive": {"maxWeight": 12.345}}),
    ),
    Rule(
        "spec.rollout.ramp",
        "Set either steps or adaptive; remove the other.",
        ({}, {"steps": [{"weight": 5}]}, {"adaptive": {}}, {"adaptive": {"blastBudget": 0.5, "maxWeight": 10}}),
        ({"steps": [{"weight": 5}], "adaptive": {}},),
    ),
    Rule(
        "spec",
        "Make ErrorRate, a ratio or a check Required; an adaptive ramp grows only by the counts of such a metric.",
        (
            *map(
                _adaptively,
                ([ERRORS], [LATENCY, OWN_RATIO], [ERRORS | ADVISORY, OWN_RATIO | {"mode": "Required"}], [FORMAT]),
            ),
            *(_with_latency(**more) for more in ({}, {"rollout": {}}, {"rollout": {"ramp": {}}})),
            LLMDEPLOYMENT["spec"] | {"rollout": {"ramp": {"adaptive": {}}}},
            LLMDEPLOYMENT["spec"] | {"rollout": {"ramp": {"adaptive": {}}}, "analysis": {}},
        ),
        tuple(
            map(
                _adaptively,
                (
                    [LATENCY],
                    [ERRORS | ADVISORY, LATENCY],
                    [OWN_RATIO | ADVISORY, OWN_HISTOGRAM],
                    [FORMAT | ADVISORY, LATENCY],
                    [ERRORS | ADVISORY, LIMIT],
                ),
            )
        ),
    ),
)
