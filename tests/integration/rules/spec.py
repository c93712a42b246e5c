"""The rules of names, model, engine, pod template, routing and ramp."""

from __future__ import annotations

from serin.api import duration
from tests.integration.rules.rule import DNS_LABEL, NAME_OF_OBJECT, Rule, container, steps

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMEOUT = "Write a duration such as 0s, 30s or 1h30m; 0s means no timeout."
QUANTITIES = "Write non-negative quantities such as 2, 500m or 16Gi."
OWNED = "Remove the flags that Serin sets itself, and their abbreviations"
FLAGS = "Write names of `vllm serve` flags without leading dashes: letters, digits, '-', '_' and '.'."
GPU = "nvidia.com/gpu"
ENGINE_FIELDS = "Remove command, args, image and resources from the container engine"
SERIN_KEYS = "Remove the labels and annotations that begin with serin.dev/; they are reserved for Serin."
LABELS = "Write labels in the form of Kubernetes: letters, digits, '-', '_' and '.', at most 63 characters."
MODEL_NAME = "Write a name of letters, digits and . _ - / : that begins and ends with a letter or digit."


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
        "Write a container image such as registry.example.com/vllm:v0.32.0, without a scheme or spaces.",
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
        "Write hf://org/model@commit; a commit or tag is required, so that a revision always has the same weights.",
        (f"hf://org/model@{COMMIT}", "hf://Org-1/model.v2_x@v1.0", "hf://org/model@refs/pr/7"),
        ("hf://org/model", "hf://model@v1", "hf://org/model@", "hf://org/model@--x", "hf://org/model@v1\n"),
    ),
    Rule(
        "spec.model.source",
        "Name a commit or tag after '@'; the weights of a branch can change without a canary.",
        ("hf://org/model@mainline", "pvc://weights/a@main"),
        ("hf://org/model@main", "hf://org/model@master", "hf://org/model@HEAD"),
    ),
    Rule(
        "spec.model.source",
        "Write pvc://claim/path; the path may have letters, digits and . _ - + @ /.",
        ("pvc://weights.fast/a/b_c.v1",),
        ("pvc://weights", "pvc://Weights/a", "pvc:///a", "pvc://weights/a b", "pvc://weights/$(X)"),
    ),
    Rule(
        "spec.model.source",
        "Write file:///path, an absolute path in the container; it may have letters, digits and . _ - + @ /.",
        ("file:///opt/models/triage-1.0", "file:///a..b"),
        ("file://models/triage", "file:///", "file:///a b", "file:///$(X)"),
    ),
    Rule(
        "spec.model.source",
        "Remove '..' from the path.",
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
                # Other spellings: underscores, capitals, negations, abbreviations, parts of a JSON option.
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
        f"Write a whole number for {GPU}; a container cannot have a fraction of a GPU.",
        ({GPU: 1}, {GPU: "8"}, {GPU: 0}),
        ({GPU: "500m"}, {GPU: "1.5"}, {GPU: "1k"}),
    ),
    Rule(
        "spec.engine.resources",
        "Raise the limit or lower the request; a request must not exceed its limit.",
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
        "Remove restartPolicy; only Always is supported.",
        ({"nodeSelector": {"gpu": "a100"}, "restartPolicy": "Always"}, {}),
        ({"restartPolicy": "Never"},),
    ),
    Rule(
        "spec.podTemplate.spec",
        "Remove terminationGracePeriodSeconds and set rollout.drainTimeout; Serin derives it from there.",
        ({"priorityClassName": "high", "tolerations": [{"key": "gpu", "operator": "Exists"}]},),
        ({"terminationGracePeriodSeconds": 30},),
    ),
    Rule(
        "spec.podTemplate.spec",
        ENGINE_FIELDS,
        (
            {"containers": container("engine", env=[{"name": "A", "value": "b"}], livenessProbe=None)},
            {"containers": container("proxy", image="x", command=["x"], args=["y"], resources={"limits": {"cpu": 1}})},
        ),
        (
            {"containers": container("engine", command=["sh"])},
            {"containers": container("engine", args=["--port=1"])},
            {"containers": container("engine", image="x")},
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
            *(steps(weight) for weight in (0.01, 0.29, 0.57, 1.13, 2.5, 5, 33.33, 64.1, 99.99)),
            steps(0.01, 0.29, 5, 99.98, 99.99),
        ),
        tuple(steps(weight) for weight in (0, -1, 100, 250, 0.001, 0.005, 33.333, 99.999)),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Set either weight or pause in a step; for both, write two steps.",
        ([{"weight": 5}, {"pause": {}}],),
        ([{"weight": 5}, {}], [{"weight": 5, "pause": {}}], [{"weight": 5}, {"hold": "1m"}]),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Move hold to a step with weight; the duration of a pause is pause.for.",
        ([{"weight": 5, "hold": "1m"}, {"pause": {"for": "1m"}}],),
        ([{"weight": 5}, {"pause": {}, "hold": "1m"}],),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Begin with a step that sets weight; a ramp cannot begin with a pause.",
        ([{"weight": 5}, {"pause": {}}],),
        ([{"pause": {}}, {"weight": 5}], [{"pause": {"for": "1h"}}]),
    ),
    Rule(
        "spec.rollout.ramp.steps",
        "Order the steps so that each weight is higher than the one before.",
        (steps(5, 25, 50), [{"weight": 5}, {"pause": {}}, {"weight": 6}]),
        (steps(5, 5), steps(50, 25), [{"weight": 5}, {"pause": {}}, {"weight": 5}], steps(1, 2, 3, 2.5)),
    ),
)
