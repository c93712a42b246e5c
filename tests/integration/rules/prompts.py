"""The rules of prompts, of a spec that uses one, and of how pods split between two."""

from __future__ import annotations

from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, changed
from tests.integration.rules.rule import (
    DNS_LABEL,
    Rule,
    container,
    prompt,
    tool,
    with_tools,
    with_variable,
)
from tests.integration.rules.spec import MODEL_NAME

SYSTEM, USER = {"role": "system", "content": "x"}, {"role": "user", "content": "x"}
HISTORY = {"placeholder": "history"}
CHOOSING = changed(with_tools("a"), "spec.toolChoice", "a")
BYPASS = "VLLM_SERVER_DEV_MODE"
PROMPTED = changed(LLMDEPLOYMENT, "spec.prompt", {"name": "triage-1.4.0"})
PAST_THE_PROMPT = "with which requests could get past it"


def env(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "value": "1"} for name in names]


STICKY = (
    Rule(
        "spec.routing.sticky",
        "Set either header or conversation.",
        ({"header": "x-session-id"}, {"conversation": {}}),
        ({}, {"header": "x-session-id", "conversation": {}}),
    ),
    Rule(
        "spec.routing.sticky.header",
        "Write the name of an HTTP header: letters, digits and '-'.",
        ("X-Session-ID", "x1"),
        ("x session", "x:y", "x_y"),
    ),
    Rule(
        "spec.routing.sticky.header",
        "Choose another header; those that begin with x-serin- are reserved for Serin.",
        ("x-serine",),
        ("x-serin-epoch", "X-Serin-Pin"),
    ),
)

SERVING_PROMPTS = (
    Rule(
        "spec.engine.args",
        f"Remove spec.prompt, or the flags {PAST_THE_PROMPT}",
        ({"enable-scale-out": "false"}, {"enable-prefix-caching": "true"}, {"no-headless": "true"}),
        (
            *({flag: "true"} for flag in ("enable-scale-out", "enable_scale_out", "enable-sc", "headless", "GRPC")),
            {"trust-request-chat-template": "true"},
            {"grpc-port": "50051"},
            {"data-parallel-multi-port-external-lb": "true"},
        ),
        base=PROMPTED,
    ),
    Rule(
        "spec.prompt",
        f"Remove spec.prompt, or the variables {PAST_THE_PROMPT}",
        (),
        ({"name": "triage-1.4.0"},),
        base=changed(LLMDEPLOYMENT, "spec.podTemplate.spec.containers", container("engine", env=env(BYPASS))),
    ),
    Rule(
        "spec.podTemplate.spec.containers",
        f"Remove spec.prompt, or the variables {PAST_THE_PROMPT}",
        (container("engine", env=env("VLLM_LOGGING_LEVEL")), container("sidecar", env=env("VLLM_SERVER_DEV_MODE"))),
        (
            container("engine", env=env("VLLM_USE_RUST_FRONTEND")),
            container("engine", env=env("A", "VLLM_SERVER_DEV_MODE")),
            container("engine", env=env("VLLM_ENABLE_RESPONSES_API_STORE")),
        ),
        base=PROMPTED,
    ),
    Rule("spec.podTemplate.spec.containers", "Remove spec.prompt", (container("engine", env=env(BYPASS)),), ()),
    Rule("spec.engine.args", "Remove spec.prompt", ({"headless": "true"},), ()),
)

PROMPTS = (
    prompt("prompt", DNS_LABEL, ("triage", "a-1"), ("Triage", "a.b", "-a")),
    prompt(
        "version",
        "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without a leading v.",
        ("1.4.0", "0.0.1", "2.0.0-rc.1", "1.0.0-alpha-a.b-c+build.1-aef", "1.0.0-0A.is.legal", "1.0.0+001"),
        ("v1.4.0", "1.4", "1.4.0.0", "01.4.0", "1.4.0-", "1.4.0-01", "1.4.0+", "latest", "1.4.0\n"),
    ),
    prompt("model", MODEL_NAME, ("triage",), ("a b",)),
    prompt(
        "labels",
        "Write Kubernetes label keys such as team or example.com/team: letters, digits, '-', '_' and '.'.",
        ({"team": "free text", "example.com/x": ""},),
        ({"a b": "x"}, {"": "x"}),
    ),
    prompt(
        "messages",
        "Write role and content, or only placeholder.",
        ([{"role": "developer", "content": "x"}, {"placeholder": "history"}],),
        ([{"role": "user"}], [{"content": "x"}], [{}], [{"role": "user", "content": "x", "placeholder": "history"}]),
    ),
    prompt(
        "messages",
        "Name the placeholder history at most once, and only system messages after it",
        ([USER, SYSTEM, HISTORY, SYSTEM, SYSTEM], [HISTORY], [SYSTEM, USER]),
        (
            [HISTORY, USER],
            [HISTORY, SYSTEM, HISTORY],
            [HISTORY, HISTORY],
            [HISTORY, {"role": "developer", "content": "x"}],
        ),
    ),
    prompt(
        "messages",
        "Shorten the messages; together they may have 131072 characters.",
        ([{"role": "system", "content": "x" * 65_536}] * 1 + [{"role": "user", "content": "x" * 60_000}],),
        ([{"role": "system", "content": "x" * 65_536}] * 2 + [USER],),
    ),
    prompt(
        "variables.0",
        "Remove enum and maxLength; they apply only to variables of the type string.",
        ({"name": "a", "enum": ["x"], "maxLength": 2}, {"name": "a", "type": "string", "enum": ["x"]}),
        ({"name": "a", "type": "number", "enum": ["1"]}, {"name": "a", "type": "boolean", "maxLength": 4}),
        base=with_variable(),
    ),
    prompt(
        "variables.0",
        "Choose a default that enum and maxLength allow.",
        ({"name": "a", "enum": ["x", "y"], "default": "y"}, {"name": "a", "maxLength": 2, "default": "éé"}),
        ({"name": "a", "enum": ["x"], "default": "y"}, {"name": "a", "maxLength": 2, "default": "abc"}),
        base=with_variable(),
    ),
    prompt(
        "variables.0",
        "Choose true or false as the default of a boolean.",
        ({"name": "a", "type": "boolean", "default": "true"}, {"name": "a", "type": "number", "default": "-1.5e3"}),
        ({"name": "a", "type": "boolean", "default": "yes"}, {"name": "a", "type": "boolean", "default": ""}),
        base=with_variable(),
    ),
    prompt(
        "parameters.extra.logit_bias",
        "Write the ids of tokens as keys, such as '50256'.",
        ({"50256": -100, "0": 0.5}, {}),
        ({"the": 1}, {"": 1}, {"-1": 1}),
    ),
    prompt(
        "parameters.extra.reasoning_effort",
        "Write an effort that the model knows, such as low or high.",
        ("low", "xhigh"),
        ("Low", "a b", "1"),
    ),
    prompt(
        "tools",
        "Write a name of letters, digits, '_' and '-'.",
        ([tool("get_weather-2")],),
        ([tool("get weather")], [tool("a.b")]),
    ),
    prompt(
        "tools",
        "Choose another name; none, auto and required have a meaning in toolChoice.",
        ([tool("automatic")],),
        ([tool("auto")], [tool("none")], [tool("required")]),
    ),
    prompt(
        "tools",
        "Declare each tool once; two tools have the same name.",
        ([tool("a"), tool("b")],),
        ([tool("a"), tool("b"), tool("a")],),
    ),
    prompt(
        "toolChoice",
        "Set toolChoice to none, auto, required or the name of a tool in tools.",
        ("auto", "none", "required", "look_up"),
        ("other", "Auto"),
        base=with_tools("look_up", "b"),
    ),
    prompt("tools", "Set toolChoice to none", ([tool("a")],), ([], [tool("b")]), base=CHOOSING),
    *(
        prompt(
            field,
            "Add outputSchema; without it, structured, strict and outputName have no effect.",
            accepted,
            refused,
        )
        for field, accepted, refused in (
            ("structured", (False,), (True,)),
            ("strict", (False,), (True,)),
            ("outputName", (), ("answer",)),
        )
    ),
    prompt("structured", "Add outputSchema", (True,), (), base=changed(PROMPTVERSION, "spec.outputSchema", {})),
    prompt(
        "outputName",
        "Write a name of letters, digits, '_' and '-'.",
        ("triage_v2",),
        ("triage v2", "a.b"),
        base=changed(PROMPTVERSION, "spec.outputSchema", {}),
    ),
    prompt(
        "variables",
        "Write a name of letters, digits and '_' that does not begin with a digit.",
        ([{"name": "team"}, {"name": "_x1"}],),
        ([{"name": "a-b"}], [{"name": "1a"}], [{"name": "a b"}]),
    ),
    prompt(
        "variables",
        "Remove either default or required; a required variable has no default.",
        ([{"name": "a", "required": True}], [{"name": "a", "required": False, "default": ""}], [{"name": "a"}]),
        ([{"name": "a", "required": True, "default": "x"}],),
    ),
)
