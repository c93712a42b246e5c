"""The checks of prompts that only the parser does: declared placeholders, references and size."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from serin.api.nesting import elements
from serin.api.parse import MAX_PROMPT_BYTES, MAX_PROMPT_ELEMENTS, parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.errors import SpecError


def _prompt(content: str, *variables: str) -> dict[str, Any]:
    return {
        "spec": {
            "prompt": "triage",
            "version": "1.0.0",
            "messages": [{"role": "user", "content": content}],
            "variables": [{"name": name} for name in variables],
        }
    }


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        ("no placeholder", ()),
        ("{{ team }} and {{team}}", ("team",)),
        ("{{ team }}", ("team", "unused")),
        ('Answer as {"a": {"b": 1}}.', ()),
        ('A literal {{"queue": 1}} or {{ a b }} or {{}} or { team }.', ()),
    ],
)
def test_declared_variables_and_plain_braces_are_accepted(content: str, variables: tuple[str, ...]) -> None:
    assert isinstance(parse_promptversion(_prompt(content, *variables)), PromptVersionSpec)


@pytest.mark.parametrize(
    ("content", "variables", "named"),
    [("{{ team }}", (), "team"), ("{{tema}} {{ team }}", ("team",), "tema"), ("{{ b }}{{ a }}", (), "a, b")],
)
def test_undeclared_placeholder_is_named_in_the_error(content: str, variables: tuple[str, ...], named: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_promptversion(_prompt(content, *variables))
    assert str(refusal.value) == f"spec: Declare {named} in variables, or correct the placeholder."


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    prompt = _prompt("Triage.")
    return {"spec": prompt["spec"] | {"outputSchema": schema}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
        {"$id": "https://example.com/ticket", "$ref": "#"},
        {"properties": {"$ref": {"type": "string"}}},
        {"description": "see https://example.com"},
    ],
    ids=str,
)
def test_schema_that_refers_to_itself_is_accepted(schema: dict[str, Any]) -> None:
    assert parse_promptversion(with_schema(schema)).output_schema == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/ticket.json"},
        {"properties": {"queue": {"$ref": "http://169.254.169.254/latest"}}},
        {"anyOf": [{"type": "null"}, {"$ref": "file:///etc/passwd"}]},
        {"$dynamicRef": "ticket.json#node"},
        {"$recursiveRef": "other"},
        {"properties": {"default": {"$ref": "other.json"}}},
    ],
    ids=str,
)
def test_schema_that_refers_elsewhere_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"^spec\.outputSchema: Replace \$.* by a reference within the schema"):
        parse_promptversion(with_schema(schema))


def test_prompt_has_at_most_128_kib_as_json() -> None:
    def of(size: int) -> dict[str, Any]:
        smallest = len(json.dumps(with_schema({"a": ""})["spec"], separators=(",", ":")))
        # Two bytes each in UTF-8, and one for the rest.
        return with_schema({"a": "ä" * ((size - smallest) // 2) + "x" * ((size - smallest) % 2)})

    assert parse_promptversion(of(MAX_PROMPT_BYTES))
    with pytest.raises(SpecError, match=r"^spec has 131073 bytes as JSON, and at most 131072 are allowed"):
        parse_promptversion(of(MAX_PROMPT_BYTES + 1))


def test_prompt_has_at_most_8000_brackets_and_commas() -> None:
    def of(count: int) -> dict[str, Any]:
        return with_schema({"enum": [0] * (count - elements(with_schema({"enum": []})["spec"]) + 1)})

    assert elements(of(MAX_PROMPT_ELEMENTS)["spec"]) == MAX_PROMPT_ELEMENTS
    assert parse_promptversion(of(MAX_PROMPT_ELEMENTS))
    with pytest.raises(SpecError, match=r"^spec has 8001 brackets and commas as JSON"):
        parse_promptversion(of(MAX_PROMPT_ELEMENTS + 1))


@pytest.mark.parametrize(
    "value",
    [1, "[", {}, [], [[]], {"a": 1, "b": [1, 2, {"c": "x,y"}]}, [{}, {}, [[], []]]],
    ids=str,
)
def test_elements_are_the_brackets_and_commas_of_the_json(value: object) -> None:
    outside = re.sub(r'"[^"]*"', "", json.dumps(value, separators=(",", ":")))
    assert elements(value) == sum(map(outside.count, "[]{},"))


@pytest.mark.parametrize("name", ["messages", "kv_transfer_params", "truncate_prompt_tokens", "topK", "chat_template"])
def test_parameter_that_could_change_the_prompt_is_refused(name: str) -> None:
    spec = _prompt("Triage.")["spec"] | {"parameters": {"extra": {name: 1}}}
    with pytest.raises(SpecError, match=f"^spec.parameters.extra.{name}: Remove this field; it does not exist"):
        parse_promptversion({"spec": spec})


@pytest.mark.parametrize("default", ["0", "-1.5", "1e9", "0.25E-3"])
def test_default_of_a_number_is_a_number(default: str) -> None:
    variables = [{"name": "team", "type": "number", "default": default}]
    parse_promptversion({"spec": _prompt("{{ team }}")["spec"] | {"variables": variables}})


@pytest.mark.parametrize("default", ["", "1,5", "NaN", "Infinity", "0x1", "1\n", "01", "+1"])
def test_default_that_is_no_number_is_refused(default: str) -> None:
    variables = [{"name": "team", "type": "number", "default": default}]
    with pytest.raises(SpecError, match=r"^spec\.variables\[0\]: Choose a number such as 0\.5"):
        parse_promptversion({"spec": _prompt("{{ team }}")["spec"] | {"variables": variables}})
