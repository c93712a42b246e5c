"""Every rule of the API against a real API server: what it accepts, what it refuses, and the message of the refusal.

The parser has to come to the same judgement on each manifest, because it stands in where no API server has looked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from serin.api.crd import CUSTOM_RESOURCES, render_crd
from serin.api.parse import parse_llmdeployment, parse_promptversion
from serin.api.rule import VALIDATIONS
from serin.errors import SpecError
from tests.integration.conftest import Answer, Api
from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, Manifest, changed, collection
from tests.integration.rules import BOUNDS, RULES, Rule

IMMUTABLE = "A PromptVersion cannot be changed; create a new one with another name and version."
PARSERS = {"LLMDeployment": parse_llmdeployment, "PromptVersion": parse_promptversion}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(rule, value, id=f"{rule.path}={_short(value)}")
        for rule in (*RULES, *BOUNDS)
        for value in getattr(rule, kind)
    ]


def _create(api: Api, manifest: Manifest) -> Answer:
    return api("POST", collection(manifest), manifest, dryRun="All", fieldValidation="Strict")


def _at(rule: Rule) -> str:
    """Return the field as the API server writes it: `messages[0].role`."""
    parts = rule.path.split(".")
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".")


@pytest.mark.parametrize(("rule", "value"), _cases("accepted"))
def test_valid_manifest_is_accepted(api: Api, rule: Rule, value: object) -> None:
    manifest = changed(rule.base, rule.path, value)
    answer = _create(api, manifest)
    assert answer.status == 201, answer.body["message"]
    # With the server's defaults it means the same and has the same hash.
    stored, written = (PARSERS[manifest["kind"]](each) for each in (answer.body, manifest))
    assert stored.model_dump(exclude_defaults=True) == written.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(("rule", "value"), _cases("refused"))
def test_invalid_manifest_is_refused_with_advice(api: Api, rule: Rule, value: object) -> None:
    manifest = changed(rule.base, rule.path, value)
    answer = _create(api, manifest)
    assert answer.status == 422, answer.body
    told = [where for where, message in answer.causes if rule.message in message]
    # A rule over the whole object names no field, one over the whole spec only the spec.
    assert any(where in {"", "<nil>", "spec"} or where.startswith(_at(rule)) for where in told), answer.causes
    if rule.parsed:
        with pytest.raises(SpecError, match=r"\.$"):
            PARSERS[manifest["kind"]](manifest)


@pytest.mark.parametrize(
    ("rule", "value"), [pytest.param(r, v, id=f"{r.path}={_short(v)}") for r in RULES for v in r.refused]
)
def test_parser_gives_the_same_message(rule: Rule, value: object) -> None:
    manifest = changed(rule.base, rule.path, value)
    with pytest.raises(SpecError) as refusal:
        PARSERS[manifest["kind"]](manifest)
    assert rule.message in str(refusal.value)


def _messages(schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get(VALIDATIONS, ()):
        yield rule["message"]
    children = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for child in children:
        if isinstance(child, Mapping):
            yield from _messages(child)


def test_every_rule_of_the_crds_has_a_case() -> None:
    covered = tuple(rule.message for rule in RULES if rule.accepted and rule.refused)
    for resource in CUSTOM_RESOURCES:
        (version,) = render_crd(resource)["spec"]["versions"]
        for message in _messages(version["schema"]["openAPIV3Schema"]):
            assert message == IMMUTABLE or message.startswith(covered), message


NOT_IMPLEMENTED = (
    *("adapter", "gates", "notAField", "engine.loras", "model.adapter", "routing.istio"),
    *("rollout.capacity", "rollout.ramp.linear", "analysis.interval", "analysis.prometheus.token"),
    *("podTemplate.kind", "podTemplate.metadata.name", "routing.gateway.timeouts.idle"),
)


@pytest.mark.parametrize("field", NOT_IMPLEMENTED)
def test_field_that_nothing_implements_is_refused(api: Api, field: str) -> None:
    manifest = changed(LLMDEPLOYMENT, f"spec.{field}", {})
    answer = _create(api, manifest)
    assert answer.status == 400
    assert f'unknown field "spec.{field}"' in answer.body["message"]


def test_server_side_apply_always_refuses_an_unknown_field(api: Api) -> None:
    manifest = changed(LLMDEPLOYMENT, "spec.gates", [])
    answer = api(
        "PATCH",
        f"{collection(manifest)}/triage",
        manifest,
        content_type="application/apply-patch+yaml",
        fieldManager="gitops",
        fieldValidation="Ignore",
        dryRun="All",
    )
    assert answer.status >= 400
    assert ".spec.gates: field not declared in schema" in answer.body["message"]


def test_lenient_client_is_warned_of_an_unknown_field(api: Api) -> None:
    manifest = changed(LLMDEPLOYMENT, "spec.gates", [])
    answer = api("POST", collection(manifest), manifest, dryRun="All")
    assert answer.status == 201
    assert any('unknown field \\"spec.gates\\"' in warning for warning in answer.warnings), answer.warnings
    assert "gates" not in answer.body["spec"]


PROMPT_CHANGES = (
    ("spec.version", "1.4.1"),
    ("spec.author", "somebody"),
    ("spec.changeNote", "Shorter."),
    ("spec.enforce", True),
    ("spec.tools", [{"type": "function", "function": {"name": "look_up"}}]),
    ("spec.messages.0.content", "Another one."),
    ("spec.outputSchema.required", ["queue"]),
    ("spec.outputSchema.properties.queue.enum", ["network", None]),
    ("spec.outputSchema", {"type": "object", "properties": {"queue": {"enum": ["network", "mail"]}}, "x": {}}),
)


@pytest.fixture(scope="module")
def prompt(api: Api) -> Manifest:
    schema = {"type": "object", "properties": {"queue": {"enum": ["network", "mail"]}}}
    manifest = changed(PROMPTVERSION, "spec.outputSchema", schema)
    manifest["metadata"]["name"] = "immutable"
    created = api("POST", collection(manifest), manifest)
    assert created.status == 201, created.body
    return created.body


@pytest.mark.parametrize(("path", "value"), PROMPT_CHANGES, ids=[path for path, _ in PROMPT_CHANGES])
def test_prompt_cannot_be_changed_after_creation(api: Api, prompt: Manifest, path: str, value: object) -> None:
    answer = api("PUT", f"{collection(prompt)}/immutable", changed(prompt, path, value))
    assert answer.status == 422
    assert [(where, IMMUTABLE in message) for where, message in answer.causes] == [("spec", True)]


def test_metadata_of_a_prompt_can_be_changed(api: Api, prompt: Manifest) -> None:
    answer = api("PUT", f"{collection(prompt)}/immutable", changed(prompt, "metadata.labels", {"a": "b"}), dryRun="All")
    assert answer.status == 200, answer.body
