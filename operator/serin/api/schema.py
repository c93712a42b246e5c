"""Converts a pydantic model to a structural schema, the dialect of OpenAPI that CRDs use.

It removes what Kubernetes rejects (`$ref`, `title`, unions with null) and adds what pydantic does not generate (list
types, defaults of nested objects). Called by `serin.api.crd` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from serin.api.base import ApiModel
from serin.api.duration import format_duration
from serin.api.rule import VALIDATIONS

KEEP = "x-kubernetes-preserve-unknown-fields"
_DROPPED = {"title", "$defs", "$ref", "anyOf", "default", "const", "exclusiveMinimum", "exclusiveMaximum"}
_ORDER = ("description", "type", "format", "default", "enum")


class _Generator(GenerateJsonSchema):
    """Writes default durations in the form of the API, such as `10m`."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return super().encode_default(dft)


def structural_schema(model: type[ApiModel]) -> dict[str, Any]:
    """The structural schema of a model, with keys in a fixed order."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _convert(schema, schema.get("$defs", {}))


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one node and all nodes below it."""
    node = _flatten(schema, definitions)
    result: dict[str, Any] = {key: value for key, value in node.items() if key not in _DROPPED}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "const" in node:
        result["enum"] = [node["const"]]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            # OpenAPI v3.0 has a boolean beside the bound; JSON Schema has the bound itself.
            result |= {bound: node[exclusive], exclusive: True}
    if node.get("type") == "array":
        # The API server fills a default in where GitOps tools cannot tell it from a difference: in an entry of a list.
        result["items"] = _without_defaults(_convert(node["items"], definitions))
        result.setdefault("x-kubernetes-list-type", "atomic")
    if node.get("type") == "object":
        _convert_object(node, result, definitions)
    default = _default(node.get("default"), result)
    if default is not None:
        result["default"] = default
    return _ordered(result)


def _flatten(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The node without references and unions with null; keywords nearer to the field take precedence."""
    node = dict(schema)
    for _ in range(8):
        if "$ref" in node:
            node = {**definitions[node.pop("$ref").removeprefix("#/$defs/")], **node}
        elif "anyOf" in node:
            (member,) = (each for each in node.pop("anyOf") if each != {"type": "null"})
            node = {**member, **node}
        else:
            return node
    raise ValueError(f"references are nested too deeply in {schema!r}")


def _convert_object(node: Mapping[str, Any], result: dict[str, Any], definitions: Mapping[str, Any]) -> None:
    if "properties" in node:
        result["properties"] = {name: _convert(each, definitions) for name, each in node["properties"].items()}
    extra = result.pop("additionalProperties", None)
    if isinstance(extra, Mapping):
        result["additionalProperties"] = _convert(extra, definitions)
    elif extra is True:
        result[KEEP] = True


def _default(default: Any, node: Mapping[str, Any]) -> Any:
    """The default for the API server to fill in: plain values, and `{}` for objects that contain a default."""
    if isinstance(default, Mapping):
        below = node.get("properties", {}).values()
        return {} if any("default" in each for each in below) else None
    if isinstance(default, list):
        return [_without_nulls(each) for each in default] or None
    return default


def _without_defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    """A converted node without defaults at any level; the models still have them."""
    result = {key: value for key, value in node.items() if key != "default"}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), Mapping):
            result[key] = _without_defaults(result[key])
    if "properties" in result:
        result["properties"] = {name: _without_defaults(each) for name, each in result["properties"].items()}
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _ordered(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with description and type first, and rules before the properties."""
    head = [key for key in _ORDER if key in node]
    tail = [key for key in ("required", VALIDATIONS, "items", "additionalProperties", "properties") if key in node]
    middle = sorted(key for key in node if key not in {*head, *tail})
    return {key: node[key] for key in (*head, *middle, *tail)}
