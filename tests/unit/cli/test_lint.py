"""Each rule of lint finds its mistake, names the field, and finds nothing in a good prompt."""

from __future__ import annotations

from typing import Any

import pytest

from serin.api.parse import MAX_PROMPT_BYTES
from serin.cli.prompt.findings import Level
from serin.cli.prompt.length import Count, known_limits, lint_length, shortest_request
from serin.cli.prompt.lint import clashes, lint
from serin.cli.prompt.registry import registry
from serin.cli.prompt.schemas import lint_schema
from tests.unit.cli.samples import SCHEMA, V13, V14, make_prompt, make_user


def found(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding.level, finding.where) for finding in lint(manifest)]


def user(content: str, *names: str, **variable: Any) -> dict[str, Any]:
    return make_prompt(
        messages=[{"role": "user", "content": content}], variables=[{"name": name, **variable} for name in names]
    )


@pytest.mark.parametrize("manifest", [V13, V14, make_prompt()])
def test_good_prompt_has_no_finding(manifest: dict[str, Any]) -> None:
    assert lint(manifest) == []


@pytest.mark.parametrize(
    ("manifest", "level", "where"),
    [
        ({**V14, "kind": "Prompt"}, "error", "kind"),
        ({**V14, "metadata": {}}, "error", "metadata.name"),
        ({**V14, "metadata": {"name": "Triage"}}, "error", "metadata.name"),
        ({**V14, "metadata": "x"}, "error", "metadata.name"),
        (make_prompt("v1"), "error", "spec.version"),
        (make_prompt(messages=[]), "error", "spec.messages"),
        (make_prompt(typo=1), "error", "spec.typo"),
        ({**V14, "spec": None}, "error", "spec"),
        (user("{{ x }}"), "error", "spec"),
        (user("Hi", "x"), "warning", "spec.variables[0]"),
        (user("{{x }} {{ y}", "x"), "warning", "spec.messages[0].content"),
        (user("{{ x }} {{ x.name }}", "x"), "warning", "spec.messages[0].content"),
        (user("{{ x }} {{# if x }}", "x"), "warning", "spec.messages[0].content"),
        (user("{{ x }} {{ n\u0430me }}", "x"), "warning", "spec.messages[0].content"),
        (user("Pay \u202etxet"), "warning", "spec.messages[0].content"),
        (user("Zero\u200bwidth"), "warning", "spec.messages[0].content"),
        (user("Hi<|im_end|>"), "warning", "spec.messages[0].content"),
        (user("{{ x }}", "x", default="{{ y }}"), "warning", "spec.variables[0].default"),
        (user("{{ name }} {{ Name }}", "name", "Name"), "warning", "spec.variables[1]"),
    ],
)
def test_mistake_is_found_at_its_field(manifest: dict[str, Any], level: str, where: str) -> None:
    assert found(manifest) == [(level, where)]


def test_variable_in_system_message_ends_the_prefix_cache() -> None:
    manifest = make_prompt(messages=[{"role": "system", "content": "You serve {{ x }}."}], variables=[{"name": "x"}])
    (finding,) = lint(manifest)

    assert finding.level is Level.WARNING
    assert finding.message.startswith("A variable in a system message (x) ends the prefix cache there")


def test_all_errors_are_reported_at_once() -> None:
    manifest = make_prompt("v1", model="!", messages=[{"role": "tool", "content": ""}])

    assert {where for _, where in found(manifest)} >= {"spec.version", "spec.model"}
    assert len(found(manifest)) >= 4


def test_size_limit_is_that_of_the_json() -> None:
    def of_size(size: int) -> dict[str, Any]:
        texts = [{"role": "user", "content": "é" * 30_000} for _ in range(2)]
        return make_prompt(messages=[*texts, {"role": "user", "content": "x" * (size - 120_000)}])

    assert found(of_size(120_100)) == []
    assert found(of_size(MAX_PROMPT_BYTES + 1)) == [("error", "spec")]


def test_emoji_and_joined_scripts_are_no_hidden_characters() -> None:
    assert lint(user("\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")) == []


@pytest.mark.parametrize(
    ("schema", "where", "words"),
    [
        ({"type": "objekt"}, "s.type", "is not valid JSON Schema"),
        ({"properties": {"a": {"minimum": "1"}}}, "s.properties.a.minimum", "is not valid JSON Schema"),
        ({"$ref": "https://example.com/a.json"}, "s.$ref", "nothing is fetched"),
        ({"items": {"$ref": "other.json#/a"}}, "s.items.$ref", "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "s.$ref", "nothing is fetched"),
        ({"$dynamicRef": "x.json#y"}, "s.$dynamicRef", "nothing is fetched"),
        ({"$ref": "#/$defs/a"}, "s.$ref", "points to nothing"),
        ({"$ref": "#a"}, "s.$ref", "points to nothing"),
        ({"pattern": "("}, "s.pattern", "is no regular expression"),
        ({"$schema": "https://example.com/mine"}, "s.$schema", "is not known here"),
    ],
)
def test_mistake_in_schema_is_found(schema: dict[str, Any], where: str, words: str) -> None:
    (finding,) = lint_schema(schema, "s")

    assert finding.where == where
    assert words in finding.message


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"$defs": {"a/b~": {"$anchor": "x"}}, "anyOf": [{"$ref": "#/$defs/a~1b~0"}, {"$ref": "#x"}, {"$ref": "#"}]},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"const": {"$ref": "https://example.com"}}}},
    ],
)
def test_good_schema_has_no_finding(schema: dict[str, Any]) -> None:
    assert lint_schema(schema, "s") == []


def test_schemas_of_output_and_tools_are_checked() -> None:
    remote = {"$ref": "https://example.com/a.json"}

    assert found(make_prompt(outputSchema=remote)) == [("error", "spec.outputSchema")]
    assert found(make_prompt(outputSchema={"pattern": "("})) == [("warning", "spec.outputSchema.pattern")]


def test_same_version_with_other_content_is_an_error() -> None:
    other = make_prompt("1.3.0", name="copy")
    prompts = registry([(V13, "a.yaml"), (other, "b.yaml"), (V14, "c.yaml")], "").prompts
    ((prompt, finding),) = clashes(prompts)

    assert {prompt.name} < {"copy", "triage-1.3.0"}
    assert finding.level is Level.ERROR
    assert finding.where == "spec.version"


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [
        (None, None, []),
        (None, 8000, []),
        (None, 60, ["warning"]),
        (Count(100, 8000), None, []),
        (Count(100, None), None, []),
        (Count(7980, 8000), None, ["warning"]),
        (Count(8000, 8000), None, ["error"]),
        (Count(100, 8000), 90, ["error"]),
    ],
)
def test_length_against_the_models_context(count: Count | None, limit: int | None, expected: list[str]) -> None:
    assert [finding.level for finding in lint_length(V14["spec"], count, limit)] == expected


def test_smallest_context_of_the_users_counts() -> None:
    users = [
        make_user("a", "triage-1.4.0", **{"max-model-len": 4096}),
        make_user("b", "triage-1.4.0", max_model_len="2048"),
        make_user("c", "other", **{"max-model-len": "auto"}),
        {"apiVersion": "serin.dev/v1alpha1", "kind": "LLMDeployment", "spec": {"engine": 1, "prompt": []}},
    ]

    assert known_limits(users) == {"triage-1.4.0": 2048}


def test_shortest_request_satisfies_every_required_variable() -> None:
    spec = {
        "prompt": "p",
        "messages": [{"role": "user", "content": "{{ a }}|{{ b }}|{{ c }}|{{ d }}|{{ e }}"}],
        "variables": [
            {"name": "a", "required": True},
            {"name": "b", "required": True, "enum": ["long", "b"]},
            {"name": "c", "required": True, "type": "number"},
            {"name": "d", "required": True, "type": "boolean"},
            {"name": "e", "default": "z"},
        ],
    }

    assert shortest_request(spec)["messages"] == [{"role": "user", "content": "x|b|0|true|z"}]
