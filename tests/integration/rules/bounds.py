"""Bounds of the schema that have no rule, because the API server's own message is clear."""

from __future__ import annotations

from tests.integration.manifests import LLMDEPLOYMENT, Manifest, changed
from tests.integration.rules.analysis import ERRORS, LATENCY, SLOW_LIMIT, check, headers, ratio, server
from tests.integration.rules.rule import Rule, prompt, steps, tool, with_tools, with_variable


def _long(count: int) -> list[dict[str, str]]:
    return [{"name": f"x{number}"} for number in range(count)]


def _budgets(*budgets: float) -> tuple[Manifest, ...]:
    return tuple({"adaptive": {"blastBudget": budget}} for budget in budgets)


def _many(count: int) -> list[Manifest]:
    return [ERRORS | {"name": f"m{number}"} for number in range(count)]


BOUNDS = (
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
    Rule("spec.rollout.ramp.steps", "should have at least 1 items", (steps(1),), ([],)),
    Rule("spec.rollout.ramp.steps", "must have at most 32", (steps(*range(1, 33)),), (steps(*range(1, 34)),)),
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
    Rule(
        "spec.analysis.metrics.0.check",
        "should be",
        (
            {"kind": "MaxChars", "maxChars": 10_000_000, "sample": 0.001},
            {"kind": "Repetition", "times": 20, "compressionRatio": 2},
        ),
        (
            *({"kind": "Empty", "sample": sample} for sample in (0, 1.1)),
            *({"kind": "MaxChars", "maxChars": most} for most in (0, 10_000_001)),
            *({"kind": "Repetition", "times": times} for times in (1, 21)),
            *({"kind": "Repetition", "compressionRatio": ratio} for ratio in (1.9, 1001)),
            {"kind": "Regex", "pattern": ""},
        ),
        base=changed(LLMDEPLOYMENT, "spec.analysis.metrics", [check(kind="Empty")]),
    ),
    Rule(
        "spec.analysis.metrics.0.check",
        "may not be more than",
        ({"kind": "Regex", "pattern": "x" * 512}, {"kind": "Contains", "texts": ["x" * 256] * 16}),
        ({"kind": "Regex", "pattern": "x" * 513}, {"kind": "Refusal", "patterns": ["x" * 257]}),
        base=changed(LLMDEPLOYMENT, "spec.analysis.metrics", [check(kind="Empty")]),
    ),
    Rule("spec.analysis.metrics", "may not be more than 1024", (ratio("a" * 1024),), (ratio("a" * 1025),)),
    Rule("spec.analysis.prometheus", "Required value", (server("http://p"),), ({}, {"headers": {}})),
    Rule(
        "spec.analysis.prometheus",
        "must have at most 8",
        (headers(**{f"X{n}": "" for n in range(8)}),),
        (headers(**{f"X{n}": "" for n in range(9)}),),
    ),
    prompt("messages", "should have at least 1 items", ([{"role": "user", "content": "x"}],), ([],)),
    prompt("messages.0.role", "Unsupported value", ("system", "user", "assistant", "developer"), ("tool", "")),
    prompt("messages.0", "Unsupported value", ({"placeholder": "history"},), ({"placeholder": "context"},)),
    prompt("messages.0.content", "should be at least 1 chars", ("x",), ("",)),
    prompt("messages.0.content", "may not be more than 65536", ("x" * 65536,), ("x" * 65537,)),
    prompt("variables", "Duplicate value", ([{"name": "a"}, {"name": "b"}],), ([{"name": "a"}, {"name": "a"}],)),
    prompt("parameters.temperature", "should be", (0, 0.7, 2), (-0.1, 2.1)),
    prompt("parameters.topP", "should be", (0.01, 1), (0, 1.01)),
    prompt("parameters.maxTokens", "should be", (1, 1048576), (0, 1048577)),
    prompt("parameters.seed", "should be", (-(2**53) + 1, 2**53 - 1), (2**53, -(2**53))),
    prompt("parameters.stop", "must have at most 4", (["a"] * 4,), (["a"] * 5,)),
    prompt("parameters.extra.top_k", "should be", (-1, 0, 1_000_000), (-2, 1_000_001)),
    prompt("parameters.extra.min_p", "should be", (0, 0.5, 1), (-0.1, 1.1)),
    prompt("parameters.extra.presence_penalty", "should be", (-2, 2), (-2.1, 2.1)),
    prompt("parameters.extra.frequency_penalty", "should be", (-2, 2), (-2.1, 2.1)),
    prompt("parameters.extra.repetition_penalty", "should be", (0.1, 10), (0, 11)),
    prompt("parameters.extra.min_tokens", "should be", (0, 8), (-1,)),
    prompt("parameters.extra.thinking_token_budget", "should be", (0, 1_048_576), (-1, 1_048_577)),
    prompt("parameters.extra.logit_bias", "should be", ({"50256": -100},), ({"50256": -101},)),
    prompt("parameters.extra.bad_words", "must have at most 64", (["a"] * 64,), (["a"] * 65,)),
    prompt("parameters.extra.stop_token_ids", "must have at most 64", ([0] * 64,), ([0] * 65,)),
    prompt(
        "tools", "must have at most 64", ([tool(f"t{n}") for n in range(64)],), ([tool(f"t{n}") for n in range(65)],)
    ),
    prompt("tools.0.type", "Unsupported value", ("function",), ("retrieval",), base=with_tools("a")),
    prompt("clientSystem", "Unsupported value", ("Merge", "Reject"), ("merge",)),
    prompt("changeNote", "may not be more than 4096", ("x" * 4096,), ("x" * 4097,)),
    prompt(
        "variables.0.type", "Unsupported value", ("string", "number", "boolean"), ("integer",), base=with_variable()
    ),
    prompt("variables.0.maxLength", "should be", (1, 65536), (0, 65537), base=with_variable()),
    prompt("variables.0.enum", "should have at least 1 items", (["a"],), ([],), base=with_variable()),
    prompt("outputSchema", "must be of type object", ({"type": "object", "enum": [None, 1]},), ("x", [])),
)
