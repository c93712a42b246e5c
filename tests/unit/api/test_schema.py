"""Conversion of pydantic models to structural schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from serin.api.base import ApiModel, list_map
from serin.api.crd import CUSTOM_RESOURCES, CustomResource, render_crd
from serin.api.duration import Duration
from serin.api.fields import IntOrString, must_match
from serin.api.rule import VALIDATIONS, Rule
from serin.api.schema import structural_schema


class Inner(ApiModel):
    """An inner model."""

    count: int = 3


class Outer(ApiModel):
    """An outer model."""

    RULES = (Rule(cel="self.share != 1.0", message="Not one.", holds=lambda outer: outer.share != 1.0),)

    text: Annotated[str, Field(max_length=5), must_match("^a$", "Write a.")]
    """A text."""
    maybe: Inner | None = None
    inner: Inner = Inner()
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    side: Literal["left", "right"] = "left"
    only: Literal["one"] = "one"
    quantity: IntOrString = 1
    names: tuple[str, ...] = ()
    pairs: Annotated[tuple[Inner, ...], Field(json_schema_extra=list_map("count"))] = ()
    free: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    hold: Duration = timedelta(minutes=90)


SCHEMA = structural_schema(Outer)
FIELDS = SCHEMA["properties"]


def test_model_schema_has_docstring_and_rules() -> None:
    assert SCHEMA["type"] == "object"
    assert SCHEMA["description"] == "An outer model."
    assert SCHEMA["required"] == ["text"]
    assert SCHEMA[VALIDATIONS] == [{"rule": "self.share != 1.0", "message": "Not one."}]


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        (
            "text",
            {
                "description": "A text.",
                "type": "string",
                "maxLength": 5,
                VALIDATIONS: [{"rule": "self.matches(r'^a$')", "message": "Write a."}],
            },
        ),
        (
            "maybe",
            {
                "description": "An inner model.",
                "type": "object",
                "properties": {"count": {"type": "integer", "default": 3}},
            },
        ),
        (
            "inner",
            {
                "description": "An inner model.",
                "type": "object",
                "default": {},
                "properties": {"count": {"type": "integer", "default": 3}},
            },
        ),
        (
            "share",
            {
                "type": "number",
                "default": 0.5,
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
                "exclusiveMaximum": True,
            },
        ),
        ("side", {"type": "string", "default": "left", "enum": ["left", "right"]}),
        ("only", {"type": "string", "default": "one", "enum": ["one"]}),
        ("quantity", {"default": 1, "maxLength": 32, "x-kubernetes-int-or-string": True}),
        ("names", {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}}),
        ("free", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        ("labels", {"type": "object", "additionalProperties": {"type": "string"}}),
    ],
)
def test_field_schema_is_structural(field: str, schema: Mapping[str, Any]) -> None:
    assert FIELDS[field] == schema


def test_keyed_list_schema_has_its_keys() -> None:
    assert FIELDS["pairs"]["x-kubernetes-list-type"] == "map"
    assert FIELDS["pairs"]["x-kubernetes-list-map-keys"] == ["count"]


def test_default_duration_has_the_form_of_the_api() -> None:
    assert FIELDS["hold"]["default"] == "1h30m"


def _nodes(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from _nodes(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from _nodes(schema[name], f"{path}[]")


def _every_node() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for resource in CUSTOM_RESOURCES:
        root = render_crd(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name in ("spec", "status"):
            yield from _nodes(root["properties"][name], f"{resource.kind}.{name}")


@pytest.mark.parametrize(("path", "node"), list(_every_node()), ids=[path for path, _ in _every_node()])
def test_every_field_has_a_limit_and_a_description(path: str, node: Mapping[str, Any]) -> None:
    kind = node.get("type")
    limit = {"array": "maxItems", "string": "maxLength"}.get(str(kind))
    if "additionalProperties" in node:
        limit = "maxProperties"
    if limit and "enum" not in node and node.get("format") != "date-time":
        assert limit in node, f"{path} has no {limit}"
    if not path.endswith("[]"):
        assert node.get("description"), f"{path} has no docstring"
    for rule in node.get(VALIDATIONS, ()):
        assert rule["message"].endswith("."), rule


def test_no_field_inside_a_list_has_a_default() -> None:
    # A GitOps tool that compares the manifest with the stored object would see a difference for ever.
    assert [path for path, node in _every_node() if "[]" in path and "default" in node] == []
    assert any("default" in node for _, node in _every_node())


def test_defaults_inside_lists_stay_in_the_model_only() -> None:
    assert "default" not in FIELDS["pairs"]["items"]["properties"]["count"]
    assert Outer.model_validate({"text": "a", "pairs": [{}]}).pairs[0].count == Inner().count


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda resource: resource.kind)
def test_status_says_not_observed_until_it_is_written(resource: CustomResource) -> None:
    status = render_crd(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert resource.status.model_validate(status["default"]).model_dump(exclude_none=True, exclude_defaults=True) == {
        "observed_generation": -1
    }
    assert status["properties"]["observedGeneration"]["minimum"] == -1
