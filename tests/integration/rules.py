"""Every validation rule of the API with values that it accepts and values that it refuses.

One entry per rule and place. `test_validation` sends each value to a real API server and to the parser, and fails if a
rule of the CRDs is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serin.api import duration
from serin.api.analysis import SELECTOR_MESSAGE
from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, Manifest, changed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME_OF_OBJECT = "Write the name of a Kubernetes object: lower case letters, digits, '-' and '.'."
DNS_LABEL = "Write a DNS label: lower case letters, digits and '-', at most 63 characters."
TIMEOUT = "Write a duration like 0s, 30s or 1h30m; 0s is no timeout."
QUANTITIES = "Write quantities such as 2, 500m or 16Gi, none of them negative."
OWNED = "Remove the flags that Serin sets itself, and abbreviations of them"
FLAGS = "Write flags of `vllm serve` without their leading dashes: letters, digits, '-', '_' and '.'."
GPU = "nvidia.com/gpu"
ENGINE_FIELDS = "Remove command, args, image and resources from the container engine"
SERIN_KEYS = "Remove the labels and annotations that begin with serin.dev/; Serin finds its pods by them."
LABELS = "Write labels as Kubernetes takes them: letters, digits, '-', '_' and '.', at most 63 characters."
MODEL_NAME = "Write a name of letters, digits and . _ - / : that begins and ends with a letter or digit."


@dataclass(frozen=True)
class Rule:
    """One rule at one place."""

    path: str
    message: str
    accepted: tuple[Any, ...]
    refused: tuple[Any, ...]
    base: Manifest = field(default_factory=lambda: LLMDEPLOYMENT)
    parsed: bool = True
    """False where only the API server can tell."""


def _prompt(path: str, message: str, accepted: tuple[Any, ...], refused: tuple[Any, ...]) -> Rule:
    return Rule(f"spec.{path}", message, accepted, refused, base=PROMPTVERSION)


def _steps(*weights: float) -> list[dict[str, Any]]:
    return [{"weight": weight} for weight in weights]


def _container(name: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": name, **fields}]


NAMES = (
    Rule(
        "metadata.name",
        "Choose a name of lower case letters, digits and '-' that begins with a letter",
        ("triage", "a", "a" * 40, "team-a-1"),
        ("a" * 41, "1st", "with.dot"),
    ),
    Rule("spec.model.name", MODEL_NAME, ("triage", "org/model-7b:v1.2_x"), ("-x", "with space", "x/")),
    Rule("spec.prompt.name", NAME_OF_OBJECT, ("triage-1.4.0",), ("Triage", "-x", "a_b", "x\n")),
    Rule("spec.engine.cache.pvc", NAME_OF_OBJECT, ("weights", "weights.fast"), ("Weights", "a/b")),
    Rule("spec.engine.hfTokenSecretRef", NAME_OF_OBJECT, ({"name": "hub"},), ({"name": "Hub"},)),
    Rule(
        "spec.engine.hfTokenSecretRef",
        "Write a key of a Secret: letters, digits, '-', '_' and '.'.",
        ({"name": "hub", "key": "HF_TOKEN.v1"},),
        ({"name": "hub", "key": "a/b"},),
    ),
    Rule(
        "spec.engine.image",
        "Write a container image such as registry.example.com/vllm:v0.32.0, without scheme and blanks.",
        ("vllm", "localhost:5000/vllm:v1", "example.com/vllm@sha256:" + "0" * 64),
        ("https://example.com/vllm", "vllm v1", "-x", "vllm@sha256:1"),
    ),
)

SOURCES = (
    Rule(
        "spec.model.source",
        "oci:// is not supported yet; use hf://, pvc:// or file://.",
        ("file:///models/triage",),
        ("oci://example.com/model:v1",),
    ),
    Rule(
        "spec.model.source",
        "Begin with hf://, pvc:// or file://.",
        ("pvc://weights/a",),
        ("org/model", "s3://bucket/model", "HF://org/model@v1"),
    ),
    Rule(
        "spec.model.source",
        "Write hf://org/model@commit; without a commit or tag nobody can say later what was served.",
        (f"hf://org/model@{COMMIT}", "hf://Org-1/model.v2_x@v1.0", "hf://org/model@refs/pr/7"),
        ("hf://org/model", "hf://model@v1", "hf://org/model@", "hf://org/model@--x", "hf://org/model@v1\n"),
    ),
    Rule(
        "spec.model.source",
        "Name a commit or tag after '@'; a branch moves, and no canary would notice.",
        ("hf://org/model@mainline", "pvc://weights/a@main"),
        ("hf://org/model@main", "hf://org/model@master", "hf://org/model@HEAD"),
    ),
    Rule(
        "spec.model.source",
        "Write pvc://claim/path, the path of letters, digits and . _ - + @ /.",
        ("pvc://weights.fast/a/b_c.v1",),
        ("pvc://weights", "pvc://Weights/a", "pvc:///a", "pvc://weights/a b", "pvc://weights/$(X)"),
    ),
    Rule(
        "spec.model.source",
        "Write file:///path, an absolute path inside the container, of letters, digits and . _ - + @ /.",
        ("file:///opt/models/triage-1.0", "file:///a..b"),
        ("file://models/triage", "file:///", "file:///a b", "file:///$(X)"),
    ),
    Rule(
        "spec.model.source",
        "Write the path without '..'.",
        ("pvc://weights/a/..b",),
        ("pvc://weights/../b", "file:///a/..", "file:///../a"),
    ),
)

ENGINE = (
    Rule(
        "spec.engine.args",
        FLAGS,
        ({}, {"max-model-len": "8192"}, {"max_model_len": "8192"}, {"hf-overrides.a.b": "1"}, {"json.list+": "a,b"}),
        ({"--max-model-len": "1"}, {"max model": "1"}, {"": "1"}, {"a=b": "1"}, {"8bit": "true"}, {"a\n": "1"}),
    ),
    Rule(
        "spec.engine.args",
        OWNED,
        (
            {"model-loader-extra-config": "{}", "hf-config-path": "/x", "max-lora-rank": "16"},
            {"no-enable-prefix-caching": "true", "config-format": "auto", "enable-log-requests": "true"},
            {"api-key": "x", "headless": "true", "middlewares": "x", "revisions": "x", "tokenizer-revision": "v1"},
        ),
        tuple(
            {flag: "1"}
            for flag in (
                *("model", "model-tag", "revision", "served-model-name", "middleware", "enable-lora", "max-loras"),
                *("shutdown-timeout", "port", "host", "uds", "api-server-count", "config", "disable-log-stats"),
                *("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-anything-new", "asc"),
                # Written otherwise: underscores, capitals, negations, abbreviations, parts of a JSON option.
                *("served_model_name", "Served-Model_NAME", "no-enable-lora", "no_disable_log_stats"),
                *("serv", "mid", "por", "max-l", "ssl", "ssl_x", "config.x", "middleware+", "no-mid"),
            )
        ),
    ),
    Rule(
        "spec.engine.resources.limits",
        QUANTITIES,
        ({}, {"cpu": 2, "memory": "16Gi"}, {"cpu": "500m", "x.io/y": "0", "memory": "1e3", "a": "+1.5G", "b": ".5"}),
        ({"cpu": "two"}, {"memory": "16 Gi"}, {"cpu": -1}, {"cpu": "-500m"}, {"memory": "1Kib"}, {"memory": ""}),
    ),
    Rule("spec.engine.resources.requests", QUANTITIES, ({"cpu": "2"},), ({"cpu": "much"},)),
    Rule(
        "spec.engine.resources.limits",
        f"Write a whole number of {GPU}; a pod cannot have a part of one.",
        ({GPU: 1}, {GPU: "8"}, {GPU: 0}),
        ({GPU: "500m"}, {GPU: "1.5"}, {GPU: "1k"}),
    ),
    Rule(
        "spec.engine.resources",
        "Raise the limit or lower the request; a request cannot be above its limit.",
        (
            {"limits": {"cpu": "1"}, "requests": {"cpu": "1000m", "memory": "1Gi"}},
            {"requests": {"memory": "1Gi"}},
            {"limits": {"memory": "1Gi"}, "requests": {"memory": 1073741824}},
        ),
        (
            {"limits": {"cpu": "1"}, "requests": {"cpu": "1001m"}},
            {"limits": {"memory": "1G"}, "requests": {"memory": "1Gi"}},
        ),
    ),
)

POD_TEMPLATE = (
    Rule(
        "spec.podTemplate.metadata",
        SERIN_KEYS,
        ({"labels": {"team": "a", "myserin.dev/x": "1"}, "annotations": {"example.com/x": "free text"}},),
        ({"labels": {"serin.dev/deployment": "x"}}, {"annotations": {"serin.dev/do": "x"}}),
    ),
    Rule(
        "spec.podTemplate.metadata",
        LABELS,
        ({"labels": {"example.com/Team_1": "A.b", "x": ""}}, {"annotations": {"x": "with blanks"}}),
        ({"labels": {"x": "with blanks"}}, {"labels": {"-x": "1"}}, {"labels": {"Upper.com/x": "1"}}),
    ),
    Rule(
        "spec.podTemplate.spec",
        "Remove restartPolicy; the engine is always restarted.",
        ({"nodeSelector": {"gpu": "a100"}, "restartPolicy": "Always"}, {}),
        ({"restartPolicy": "Never"},),
    ),
    Rule(
        "spec.podTemplate.spec",
        "Remove terminationGracePeriodSeconds and set rollout.drainTimeout, which it follows.",
        ({"priorityClassName": "high", "tolerations": [{"key": "gpu", "operator": "Exists"}]},),
        ({"terminationGracePeriodSeconds": 30},),
    ),
    Rule(
        "spec.podTemplate.spec",
        ENGINE_FIELDS,
        (
            {"containers": _container("engine", env=[{"name": "A", "value": "b"}], livenessProbe=None)},
            {"containers": _container("proxy", image="x", command=["x"], args=["y"], resources={"limits": {"cpu": 1}})},
        ),
        (
            {"containers": _container("engine", command=["sh"])},
            {"containers": _container("engine", args=["--port=1"])},
            {"containers": _container("engine", image="x")},
            {"containers": [{"name": "proxy"}, {"name": "engine", "resources": {}}]},
        ),
    ),
)

ROUTING = (
    Rule(
        "spec.routing.gateway.parentRefs.0",
        NAME_OF_OBJECT,
        ({"name": "llm", "namespace": "gateway", "sectionName": "http", "port": 8080},),
        ({"name": "LLM"}, {"name": "llm", "sectionName": "HTTP"}),
    ),
    Rule(
        "spec.routing.gateway.parentRefs.0",
        DNS_LABEL,
        ({"name": "llm", "namespace": "gateway-1"},),
        ({"name": "llm", "namespace": "Gateway"}, {"name": "llm", "namespace": "a.b"}),
    ),
    Rule(
        "spec.routing.gateway.hostnames",
        "Write a DNS name in lower case, without scheme and port; only its first label may be '*'.",
        ([], ["triage.example.com"], ["*.example.com", "localhost"]),
        (["https://example.com"], ["Example.com"], ["a.*.com"], ["example.com:80"], ["*"]),
    ),
    Rule(
        "spec.routing.gateway.timeouts",
        TIMEOUT,
        ({"request": "0s"}, {"request": "1h30m", "backendRequest": "500ms"}),
        ({"request": "never"}, {"backendRequest": "10"}, {"request": "1.5s"}, {"request": ""}),
    ),
)

ROLLOUT = (
    Rule(
        "spec.rollout.drainTimeout",
        duration.MESSAGE,
        ("0s", "30s", "1h30m", "720h", "43200m"),
        ("10", "10 m", "m", "1d", "-1s", "1.5h", "721h", "99999h", "1h1m1s1s", "٣s"),
    ),
    Rule("spec.rollout.progressDeadline", duration.POSITIVE_MESSAGE, ("1s", "720h"), ("0s", "0h0m", "721h", "soon")),
    Rule(
        "spec.rollout.ramp.steps",
        duration.MESSAGE,
        ([{"weight": 5, "hold": "0s"}, {"pause": {"for": "1h"}}, {"pause": {}}],),
        ([{"weight": 5, "hold": "x"}], [{"weight": 5}, {"pause": {"for": "x"}}]),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Write a percentage above 0 and below 100 with at most two decimals",
        (
            *(_steps(weight) for weight in (0.01, 0.29, 0.57, 1.13, 2.5, 5, 33.33, 64.1, 99.99)),
            _steps(0.01, 0.29, 5, 99.98, 99.99),
        ),
        tuple(_steps(weight) for weight in (0, -1, 100, 250, 0.001, 0.005, 33.333, 99.999)),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Give a step either weight or pause; write two steps for both.",
        ([{"weight": 5}, {"pause": {}}],),
        ([{"weight": 5}, {}], [{"weight": 5, "pause": {}}], [{"weight": 5}, {"hold": "1m"}]),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Move hold to a step with a weight; a pause says how long with pause.for.",
        ([{"weight": 5, "hold": "1m"}, {"pause": {"for": "1m"}}],),
        ([{"weight": 5}, {"pause": {}, "hold": "1m"}],),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Begin with a weight; before the first one there is nothing to pause.",
        ([{"weight": 5}, {"pause": {}}],),
        ([{"pause": {}}, {"weight": 5}], [{"pause": {"for": "1h"}}]),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Order the weights so that each is above the one before.",
        (_steps(5, 25, 50), [{"weight": 5}, {"pause": {}}, {"weight": 6}]),
        (_steps(5, 5), _steps(50, 25), [{"weight": 5}, {"pause": {}}, {"weight": 5}], _steps(1, 2, 3, 2.5)),
    ),
)

ERRORS = {"name": "errors", "preset": "ErrorRate"}
LATENCY = {"name": "ttft", "preset": "TimeToFirstToken"}
OWN_RATIO = {"name": "own", "ratio": {"bad": "my_bad_total", "total": "my_total"}}
OWN_HISTOGRAM = {"name": "slow", "histogram": {"buckets": "my_seconds_bucket"}}
LIMIT = {"name": "slo", "ceiling": {"of": "errors", "rate": 0.02}}
SLOW_LIMIT = {"name": "slo", "ceiling": {"of": "ttft", "rate": 0.02, "aboveSeconds": 2.5}}
ADVISORY = {"mode": "Advisory"}
SPEED = {"name": "speed", "preset": "Throughput"} | ADVISORY
ONE_KIND = "Give a metric exactly one of preset, ratio, histogram and ceiling; write two metrics for two."
ONLY_PRESETS = "Remove source; only a preset has one, your own selectors say themselves what is read."
WHO_COUNTS = "Choose another source: the Gateway counts only errors, the Engine only latencies and throughput."
ABSOLUTE = "Remove margin and tolerance; a ceiling is absolute, and Throughput is not tested."
SHOWN = "Make Throughput Advisory; a mean is shown and cannot be tested."
ONE_REQUIRED = "Make at least one metric Required; without one nothing could be promoted or rolled back."
NAMES_ANOTHER = "Let ceiling.of name another metric of this list that is neither a ceiling itself nor Throughput."
SECONDS = "Give the ceiling of a latency aboveSeconds, and that of a ratio none."


def _ratio(selector: str) -> list[Manifest]:
    return [OWN_RATIO | {"ratio": {"bad": selector, "total": "my_total"}}]


def _server(url: str) -> Manifest:
    return {"url": url}


def _headers(**headers: str) -> Manifest:
    return _server("https://p.example.com") | {"headers": {name.replace("_", "-"): v for name, v in headers.items()}}


ANALYSIS = (
    Rule(
        "spec.analysis.metrics",
        ONE_KIND,
        ([ERRORS], [ERRORS, LATENCY, OWN_RATIO, OWN_HISTOGRAM, LIMIT]),
        (
            [{"name": "errors"}],
            [ERRORS | {"ratio": OWN_RATIO["ratio"]}],
            [OWN_RATIO | {"histogram": OWN_HISTOGRAM["histogram"]}],
            [ERRORS, LIMIT | {"preset": "QueueTime"}],
            [LATENCY | OWN_RATIO | OWN_HISTOGRAM],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        SELECTOR_MESSAGE,
        tuple(
            _ratio(selector)
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
            _ratio(selector)
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
        ),
        (
            [LATENCY, LIMIT | {"ceiling": {"of": "ttft", "rate": 0.5}}],
            [ERRORS, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "errors"}}],
            [OWN_RATIO, SLOW_LIMIT | {"ceiling": SLOW_LIMIT["ceiling"] | {"of": "own"}}],
            [OWN_HISTOGRAM, LIMIT | {"ceiling": {"of": "slow", "rate": 0.5}}],
        ),
    ),
    Rule(
        "spec.analysis.metrics",
        DNS_LABEL,
        ([ERRORS | {"name": "errors-1"}],),
        ([ERRORS | {"name": "Errors"}], [ERRORS, LIMIT | {"ceiling": {"of": "ERRORS", "rate": 0.1}}]),
    ),
    Rule(
        "spec.analysis.prometheus",
        "Write the address of a Prometheus such as https://prometheus.example.com:9090/prefix.",
        tuple(
            map(
                _server,
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
                _server,
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
        (_headers(X_Scope_OrgID="team-a", X1="b"),),
        (
            _server("https://p.example.com") | {"headers": {"X Scope": "a"}},
            _server("https://p.example.com") | {"headers": {"X_Scope": "a"}},
            _server("https://p.example.com") | {"headers": {"": "a"}},
            _server("https://p.example.com") | {"headers": {"X-Scope\n": "a"}},
        ),
    ),
    Rule(
        "spec.analysis.prometheus",
        "Put credentials into a Secret and name it in authSecretRef.",
        (_server("https://p.example.com") | {"authSecretRef": {"name": "access"}},),
        (_headers(Authorization="Bearer x"), _headers(authorization="Basic x"), _headers(AUTHORIZATION="x")),
    ),
    Rule(
        "spec.analysis.prometheus",
        NAME_OF_OBJECT,
        (_server("https://p.example.com") | {"authSecretRef": {"name": "a.b-c"}},),
        (_server("https://p.example.com") | {"authSecretRef": {"name": "Access"}},),
    ),
    Rule("spec.analysis.blindTimeout", duration.POSITIVE_MESSAGE, ("1s", "10m", "24h"), ("0s", "soon", "-1m")),
    Rule("spec.analysis.settleTime", duration.MESSAGE, ("0s", "90s"), ("long", "-1s")),
)


def _adaptively(metrics: list[Manifest]) -> Manifest:
    """A spec with an adaptive ramp and these metrics."""
    ramp = {"rollout": {"ramp": {"adaptive": {}}}, "analysis": {"metrics": metrics}}
    return LLMDEPLOYMENT["spec"] | ramp


def _with_latency(**more: Any) -> Manifest:
    """A spec without an adaptive ramp, which may be judged by anything."""
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
        "Choose either steps or adaptive; remove the other.",
        ({}, {"steps": [{"weight": 5}]}, {"adaptive": {}}, {"adaptive": {"blastBudget": 0.5, "maxWeight": 10}}),
        ({"steps": [{"weight": 5}], "adaptive": {}},),
    ),
    Rule(
        "spec",
        "Make ErrorRate or a ratio Required; an adaptive ramp grows by what such a metric proves.",
        (
            *map(_adaptively, ([ERRORS], [LATENCY, OWN_RATIO], [ERRORS | ADVISORY, OWN_RATIO | {"mode": "Required"}])),
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
                    [ERRORS | ADVISORY, LIMIT],
                ),
            )
        ),
    ),
)

PROMPTS = (
    _prompt("prompt", DNS_LABEL, ("triage", "a-1"), ("Triage", "a.b", "-a")),
    _prompt(
        "version",
        "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without a leading v.",
        ("1.4.0", "0.0.1", "2.0.0-rc.1", "1.0.0-alpha-a.b-c+build.1-aef", "1.0.0-0A.is.legal", "1.0.0+001"),
        ("v1.4.0", "1.4", "1.4.0.0", "01.4.0", "1.4.0-", "1.4.0-01", "1.4.0+", "latest", "1.4.0\n"),
    ),
    _prompt("model", MODEL_NAME, ("triage",), ("a b",)),
    _prompt(
        "labels",
        "Write label keys as Kubernetes takes them: letters, digits, '-', '_' and '.'.",
        ({"team": "free text", "example.com/x": ""},),
        ({"a b": "x"}, {"": "x"}),
    ),
    _prompt(
        "variables",
        "Write a name of letters, digits and '_' that begins with no digit.",
        ([{"name": "team"}, {"name": "_x1"}],),
        ([{"name": "a-b"}], [{"name": "1a"}], [{"name": "a b"}]),
    ),
    _prompt(
        "variables",
        "Remove default or required; a required variable has no default.",
        ([{"name": "a", "required": True}], [{"name": "a", "required": False, "default": ""}], [{"name": "a"}]),
        ([{"name": "a", "required": True, "default": "x"}],),
    ),
)

RULES = (*NAMES, *SOURCES, *ENGINE, *POD_TEMPLATE, *ROUTING, *ROLLOUT, *ANALYSIS, *PATIENCE, *PROMPTS)


def _long(count: int) -> list[dict[str, str]]:
    return [{"name": f"x{number}"} for number in range(count)]


def _budgets(*budgets: float) -> tuple[Manifest, ...]:
    return tuple({"adaptive": {"blastBudget": budget}} for budget in budgets)


def _many(count: int) -> list[Manifest]:
    return [ERRORS | {"name": f"m{number}"} for number in range(count)]


BOUNDS = (
    # What the schema says without a rule; the API server's own words are clear enough here.
    Rule("spec.replicas", "should be", (0, 1000), (-1, 1001)),
    Rule("spec.revisionHistoryLimit", "should be", (1, 100), (0, 101)),
    Rule("spec.paused", "must be of type boolean", (True, False), ("maybe", {})),
    Rule(
        "spec.model",
        "Required value",
        ({"name": "a", "source": "pvc://a/b"},),
        ({"name": "a"}, {"source": "pvc://a/b"}),
    ),
    Rule("spec.model.name", "may not be more than 253", ("a" * 253,), ("a" * 254,)),
    Rule("spec.model.name", "should be at least 1 chars", ("a",), ("",)),
    Rule("spec.model.source", "may not be more than 1024", ("pvc://a/" + "b" * 1016,), ("pvc://a/" + "b" * 1017,)),
    Rule("spec.engine.args", "must be of type string", ({"max-model-len": "8192"},), ({"max-model-len": 8192},)),
    Rule(
        "spec.engine.args",
        "must have at most 64",
        ({f"x{n}": "" for n in range(64)},),
        ({f"x{n}": "" for n in range(65)},),
    ),
    Rule(
        "spec.engine.resources.limits", "must be of type integer,string", ({"cpu": 1},), ({"cpu": 0.5}, {"cpu": True})
    ),
    Rule("spec.podTemplate.spec", "must be of type object", ({},), ("x", [])),
    Rule(
        "spec.podTemplate.spec.containers",
        "Duplicate value",
        ([{"name": "a"}, {"name": "b"}],),
        ([{"name": "a"}, {"name": "a"}],),
        parsed=False,
    ),
    Rule("spec.routing", "Required value", (LLMDEPLOYMENT["spec"]["routing"],), ({}, {"gateway": {}})),
    Rule("spec.routing.gateway.parentRefs", "should have at least 1 items", ([{"name": "a"}],), ([],)),
    Rule("spec.routing.gateway.parentRefs", "must have at most 8", (_long(8),), (_long(9),)),
    Rule(
        "spec.routing.gateway.parentRefs.0",
        "should be",
        ({"name": "a", "port": 1},),
        ({"name": "a", "port": 0}, {"name": "a", "port": 65536}),
    ),
    Rule("spec.routing.gateway.matches", "must have at most 8", ([{"path": {"value": "/v1"}}] * 8,), ([{}] * 9,)),
    Rule("spec.routing.gateway.filters", "must have at most 8", ([{"type": "RequestHeaderModifier"}],), ([{}] * 9,)),
    Rule("spec.rollout.ramp.steps", "should have at least 1 items", (_steps(1),), ([],)),
    Rule("spec.rollout.ramp.steps", "must have at most 32", (_steps(*range(1, 33)),), (_steps(*range(1, 34)),)),
    Rule("spec.rollout.onInconclusive", "Unsupported value", ("Pause", "Promote", "Rollback"), ("Wait", "pause", "")),
    Rule("spec.rollout.ramp", "should be", ({"adaptive": {"blastBudget": 1000}},), _budgets(0, -1, 1001)),
    Rule("spec.rollout.ramp", "must be of type object", ({"adaptive": {}},), ({"adaptive": True},)),
    Rule("spec.analysis.falseRollbackRate", "should be", (0.0001, 0.01, 0.2), (0, 1, 0.21, -0.1)),
    Rule("spec.analysis.metrics", "should have at least 1 items", ([ERRORS],), ([],)),
    Rule("spec.analysis.metrics", "must have at most 16", (_many(16),), (_many(17),)),
    Rule(
        "spec.analysis.metrics",
        "Duplicate value",
        ([ERRORS, LATENCY],),
        ([ERRORS, LATENCY | {"name": "errors"}],),
        parsed=False,
    ),
    Rule(
        "spec.analysis.metrics.0",
        "Unsupported value",
        (ERRORS | {"preset": "QueueTime"}, ERRORS | {"mode": "Required"}),
        (ERRORS | {"preset": "Errors"}, ERRORS | {"mode": "Maybe"}, ERRORS | {"source": "Istio"}),
        base=changed(LLMDEPLOYMENT, "spec.analysis.metrics", [ERRORS]),
    ),
    Rule(
        "spec.analysis.metrics.0",
        "should be",
        (
            ERRORS | {"share": 0.001, "margin": 10, "tolerance": {"ratio": 10, "absolute": 0.5}},
            ERRORS | {"share": 1000, "margin": 1, "tolerance": {"ratio": 1, "absolute": 0}},
        ),
        (
            *(ERRORS | {"share": share} for share in (0, -1, 1001)),
            *(ERRORS | {"margin": margin} for margin in (0.9, 11)),
            *(ERRORS | {"tolerance": {"ratio": ratio}} for ratio in (0.9, 11)),
            *(ERRORS | {"tolerance": {"absolute": absolute}} for absolute in (-0.1, 0.6)),
        ),
        base=changed(LLMDEPLOYMENT, "spec.analysis.metrics", [ERRORS]),
    ),
    Rule(
        "spec.analysis.metrics.1.ceiling",
        "should be",
        ({"of": "ttft", "rate": 0.001, "aboveSeconds": 3600},),
        (
            {"of": "ttft", "rate": 0, "aboveSeconds": 1},
            {"of": "ttft", "rate": 1, "aboveSeconds": 1},
            {"of": "ttft", "rate": 0.5, "aboveSeconds": 0},
            {"of": "ttft", "rate": 0.5, "aboveSeconds": 3601},
        ),
        base=changed(LLMDEPLOYMENT, "spec.analysis.metrics", [LATENCY, SLOW_LIMIT]),
    ),
    Rule("spec.analysis.metrics", "may not be more than 1024", (_ratio("a" * 1024),), (_ratio("a" * 1025),)),
    Rule("spec.analysis.prometheus", "Required value", (_server("http://p"),), ({}, {"headers": {}})),
    Rule(
        "spec.analysis.prometheus",
        "must have at most 8",
        (_headers(**{f"X{n}": "" for n in range(8)}),),
        (_headers(**{f"X{n}": "" for n in range(9)}),),
    ),
    _prompt("messages", "should have at least 1 items", ([{"role": "user", "content": "x"}],), ([],)),
    _prompt("messages.0.role", "Unsupported value", ("system", "user", "assistant"), ("tool", "")),
    _prompt("messages.0.content", "should be at least 1 chars", ("x",), ("",)),
    _prompt("messages.0.content", "may not be more than 65536", ("x" * 65536,), ("x" * 65537,)),
    _prompt("variables", "Duplicate value", ([{"name": "a"}, {"name": "b"}],), ([{"name": "a"}, {"name": "a"}],)),
    _prompt("parameters.temperature", "should be", (0, 0.7, 2), (-0.1, 2.1)),
    _prompt("parameters.topP", "should be", (0.01, 1), (0, 1.01)),
    _prompt("parameters.maxTokens", "should be", (1, 1048576), (0, 1048577)),
    _prompt("parameters.seed", "should be", (-(2**53) + 1, 2**53 - 1), (2**53, -(2**53))),
    _prompt("parameters.stop", "must have at most 4", (["a"] * 4,), (["a"] * 5,)),
    _prompt("outputSchema", "must be of type object", ({"type": "object", "enum": [None, 1]},), ("x", [])),
)
