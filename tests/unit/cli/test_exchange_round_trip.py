"""An exported prompt comes back with its content hash, or the export is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from serin.cli.prompt.exchange.convert import FORMATS, Wanted, export_prompt, import_prompt
from serin.cli.prompt.exchange.form import File
from serin.cli.prompt.lint import lint
from serin.cli.prompt.registry import StoredPrompt, stored
from serin.errors import InputError, SpecError
from tests.unit.cli.samples import V13, V14, make_prompt

PLAIN = ["Triage the ticket.", "\n", "{{ ticket }}", "{{name}}", ' {"queue": {"a": 1}}', "Zürich 日本", "- a: b", "#"]
TRICKY = [
    "{{", "}}", "{{{name}}}", "{{first-name}}", "{% if x %}", "{# c #}", "\\{{name}}", "{{#if x}}", "{{> part}}",
    "\nsystem:\n", "\n# User:\n", "---\n", "+++", "${env:HOME}", '{{role "user"}}', "{{history}}", "{{else}}",
    "{{true}}", "<<<dotprompt:history>>>", "@@@langfusePrompt:name=a|label=b@@@", "\r\n", "\t", "\x00", "\x85",
    "\u2028", "\U0001f600", "  ", "\n\n", "&a *b !c", "'\"", "\ud800", "{", "\\",
]  # fmt: skip
WORDS = ["queue", "a, b", "x: y", "", "true", "1.0", "(a)", "line\nline", "--- x", "${file:a}", "null", "ä"]


def texts(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=5).map("".join).filter(bool)


def messages(pieces: list[str]) -> st.SearchStrategy[list[dict[str, str]]]:
    said = st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"] * 4 + ["developer"]), "content": texts(pieces)}
    )
    history = st.just({"placeholder": "history"})
    return st.lists(st.one_of(said, said, said, history), min_size=1, max_size=4)


words = st.sampled_from(WORDS)
numbers = st.floats(0, 2) | st.sampled_from([0, 1, 1e-7, 0.1])
schemas = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "boolean"])}, optional={"description": words}),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(words, inner, max_size=3)},
        optional={"required": st.lists(words, max_size=2, unique=True), "additionalProperties": st.booleans()},
    ),
    max_leaves=4,
)
variables = st.fixed_dictionaries(
    {"name": st.sampled_from(["ticket", "name", "count", "history", "json", "conversation"])},
    optional={
        "required": st.booleans(),
        "default": st.sampled_from(["", "true", "1", "0.5", "text", "a: b", "-3"]),
        "description": words,
        "type": st.sampled_from(["string", "number", "boolean"]),
        "enum": st.lists(st.sampled_from(["a", "b", "true", "1", "text"]), min_size=1, max_size=3),
        "maxLength": st.integers(1, 50),
    },
)


def consistent(variable: dict[str, Any]) -> dict[str, Any]:
    dropped = {"enum", "maxLength"} if variable.get("type", "string") != "string" else set()
    if variable.get("required") or variable.get("type") == "boolean" or "enum" in variable or "maxLength" in variable:
        dropped.add("default")
    return {name: value for name, value in variable.items() if name not in dropped}


extra = st.fixed_dictionaries(
    {},
    optional={
        "top_k": st.integers(-1, 50),
        "min_p": st.floats(0, 1),
        "presence_penalty": st.floats(-2, 2),
        "logit_bias": st.just({"17": 1.5}),
        "parallel_tool_calls": st.booleans(),
        "reasoning_effort": st.just("low"),
        "bad_words": st.just(["x"]),
    },
)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "temperature": numbers,
        "topP": st.floats(0.1, 1),
        "maxTokens": st.integers(1, 99),
        "stop": st.lists(st.sampled_from(["END", "\n", "---"]), max_size=2),
        "seed": st.integers(-(2**53) + 1, 2**53 - 1),
        "extra": extra,
    },
)
tools = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["look_up", "close"])},
        optional={"description": words, "parameters": schemas, "strict": st.booleans()},
    ).map(lambda function: {"type": "function", "function": function}),
    max_size=2,
)


def specs(pieces: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "messages": messages(pieces),
            "variables": st.lists(
                variables.map(consistent), max_size=3, unique_by=lambda variable: variable["name"]
            ).map(
                lambda found: [
                    *found,
                    *({"name": n} for n in ("ticket", "name") if n not in {v["name"] for v in found}),
                ]
            ),
        },
        optional={
            "model": st.sampled_from(["qwen3", "org/model"]),
            "author": words,
            "description": words,
            "changeNote": words | st.just("x" * 600),
            "labels": st.just({"team": "support"}),
            "parameters": parameters,
            "tools": tools,
            "toolChoice": st.sampled_from(["auto", "required", "look_up"]),
            "outputSchema": schemas,
            "structured": st.booleans(),
            "outputName": st.sampled_from(["triage", "answer"]),
            "strict": st.booleans(),
            "clientSystem": st.sampled_from(["Merge", "Reject"]),
            "enforce": st.booleans(),
        },
    ).map(repaired)


def repaired(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without most of what the API refuses, so that few examples are thrown away."""
    begin = next((n for n, message in enumerate(spec["messages"]) if "placeholder" in message), 99)
    said = [m for n, m in enumerate(spec["messages"]) if n <= begin or m.get("role") == "system"]
    dropped = {"toolChoice"} if not spec.get("tools") else set()
    if "outputSchema" not in spec:
        dropped |= {"structured", "outputName", "strict"}
    return {**{name: value for name, value in spec.items() if name not in dropped}, "messages": said}


def valid(spec: dict[str, Any]) -> StoredPrompt | None:
    manifest = make_prompt(**spec)
    try:
        return None if any(finding.level == "error" for finding in lint(manifest)) else stored(manifest, "test")
    except SpecError:
        return None


def exported(kind: str, prompt: StoredPrompt) -> str | None:
    """The file; None if the format cannot say the prompt."""
    try:
        return export_prompt(kind, prompt)[0]
    except InputError:
        return None


def back(kind: str, text: str) -> StoredPrompt:
    manifest, _ = import_prompt(kind, File("test", text), Wanted(version="1.4.0"))
    return stored(manifest, "test")


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(spec=specs(PLAIN) | specs([*PLAIN, *TRICKY]))
def test_exported_prompt_comes_back_with_its_hash(kind: str, spec: dict[str, Any]) -> None:
    prompt = valid(spec)
    assume(prompt is not None)
    assert prompt is not None
    text = exported(kind, prompt)
    if text is None:
        return
    text.encode()
    again = back(kind, text)

    assert again.content_hash == prompt.content_hash
    # What only readers see comes back as well.
    assert {**again.content, "version": ""} == {**prompt.content, "version": ""}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("manifest", [V13, V14], ids=["1.3.0", "1.4.0"])
def test_ordinary_prompts_are_exported(kind: str, manifest: dict[str, Any]) -> None:
    prompt = stored(manifest, "test")

    assert back(kind, export_prompt(kind, prompt)[0]).content_hash == prompt.content_hash
