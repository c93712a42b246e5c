"""Lists of properties of prompty, and schemas of dotprompt, as JSON Schema. Pure.

Sources: github.com/microsoft/prompty, spec/spec.md 2.7 (properties and their kinds; scalars as a shorthand); and
github.com/google/dotprompt, python/dotpromptz/src/dotpromptz/_picoschema.py (Picoschema: `name?: type, description`,
`name(array|object|enum, description)`, `(*)`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serin.cli.prompt.exchange.form import Draft, Fields, File
from serin.kube_types import Object

_KINDS = {
    "string": "string",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "boolean": "boolean",
    "array": "array",
    "object": "object",
}
_SCALARS = frozenset({"any", "boolean", "integer", "null", "number", "string"})
_WILDCARD = "(*)"


def properties(fields: Fields, name: str) -> Iterator[tuple[str, Fields]]:
    """The properties in a field, a list or a map, each with its name; a scalar stands for its default."""
    given = fields.take(name, list, dict)
    if isinstance(given, dict):
        for key, value in given.items():
            where = f"{fields.path(name)}.{key}"
            kind = {bool: "boolean", int: "integer", float: "float", list: "array"}.get(type(value), "string")
            yield (
                key,
                Fields(fields.file, where, value if isinstance(value, dict) else {"kind": kind, "default": value}),
            )
        return
    for number, value in enumerate(given or []):
        inner = Fields(fields.file, f"{fields.path(name)}[{number}]", value)
        key = inner.take("name", str)
        if not key:
            inner.refuse("name", "the name is missing; add it.")
        yield key, inner


def kind_of(field: Fields) -> str:
    """The kind of a property; the first version of prompty called it `type`."""
    name = "kind" if field.has("kind") else "type"
    return str(field.take(name, str) or "string")


def schema_of(fields: Fields, name: str, draft: Draft) -> Object | None:
    """JSON Schema of the properties in a field; None if there are none.

    Raises:
        InputError: a property has a kind that JSON has not.
    """
    inner: Object = {}
    required = []
    for key, field in properties(fields, name):
        inner[key] = _property(field, draft)
        if field.take("required", bool):
            required.append(key)
        draft.left_out += field.rest()
    if not inner:
        return None
    return {
        "type": "object",
        "properties": inner,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _property(field: Fields, draft: Draft) -> Object:
    kind = kind_of(field)
    if kind not in _KINDS:
        field.refuse("kind", f"{kind!a} is no type of JSON; write the schema of JSON types.")
    schema: Object = {"type": _KINDS[kind]}
    if description := field.take("description", str):
        schema["description"] = description
    if values := field.take("enumValues", list):
        schema["enum"] = values
    if kind == "array" and field.has("items"):
        schema["items"] = _property(field.below("items"), draft)
    if kind == "object" and field.has("properties"):
        schema = {**schema, **(schema_of(field, "properties", draft) or {})}
    return schema


def picoschema(file: File, where: str, value: object) -> Object:
    """JSON Schema of a Picoschema, or of a JSON Schema, which stays as it is.

    Raises:
        InputError: it names a schema that is registered elsewhere, or is no Picoschema.
    """
    if (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and value["type"] in {*_SCALARS, "object", "array"}
    ):
        return value
    if isinstance(value, dict) and isinstance(value.get("properties"), dict):
        return {**value, "type": "object"}
    return _pico(file, where, value)


def _pico(file: File, where: str, value: object) -> Object:
    if isinstance(value, str):
        name, description = _split(value)
        if name not in _SCALARS:
            file.refuse(where, f"{name!a} is a schema that is registered elsewhere; write it out.")
        kind = {} if name == "any" else {"type": name}
        return {**kind, "description": description} if description else kind
    if not isinstance(value, dict):
        file.refuse(where, "this is no Picoschema; write a map of types or a JSON Schema.")
    schema: Object = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for key, inner in value.items():
        place = f"{where}.{key}"
        if key == _WILDCARD:
            schema["additionalProperties"] = _pico(file, place, inner)
            continue
        name, _, kind = key.partition("(")
        property_name = name.removesuffix("?")
        if property_name == name:
            schema["required"].append(property_name)
        schema["properties"][property_name] = _pico_property(
            file, place, inner, kind.removesuffix(")"), optional=property_name != name
        )
    if not schema["required"]:
        del schema["required"]
    return schema


def _pico_property(file: File, where: str, value: Any, kind: str, *, optional: bool) -> Object:
    name, description = _split(kind)
    if name == "enum":
        if not isinstance(value, list):
            file.refuse(where, "an enum is a list of values; correct it.")
        schema: Object = {"enum": [*value, *([None] if optional and None not in value else [])]}
    elif name == "array":
        schema = {"type": "array", "items": _pico(file, where, value)}
    elif name in {"", "object"}:
        schema = _pico(file, where, value)
    else:
        file.refuse(where, f"{name!a} is no type of Picoschema; write array, object or enum.")
    if optional and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": description} if description else schema


def _split(text: str) -> tuple[str, str]:
    """Type and description of `type, description`."""
    name, _, description = text.partition(",")
    return name, description.lstrip(" ")


def variables_of(file: File, where: str, schema: Mapping[str, Any], defaults: Fields) -> list[Object]:
    """The variables that a schema of dotprompt's input declares.

    Raises:
        InputError: one is neither a text nor a number nor a boolean.
    """
    found, required = [], schema.get("required") or ()
    for name, value in (schema.get("properties") or {}).items():
        inner = value if isinstance(value, dict) else {}
        kind = inner.get("type", "string" if "enum" in inner else "any")
        names = [each for each in (kind if isinstance(kind, list) else [kind]) if each != "null"]
        if len(names) != 1 or names[0] not in {"string", "number", "integer", "boolean", "any"}:
            file.refuse(f"{where}.{name}", "a variable is a text, a number or a boolean; let the client make the text.")
        default = scalar_text(defaults, name)
        variable: Object = {"name": name}
        if default is not None:
            variable["default"] = default
        elif name in required:
            variable["required"] = True
        if isinstance(inner.get("description"), str):
            variable["description"] = inner["description"]
        if names[0] in {"number", "integer", "boolean"}:
            variable["type"] = "boolean" if names[0] == "boolean" else "number"
        if values := [each for each in inner.get("enum") or () if each is not None]:
            variable["enum"] = values
        found.append(variable)
    return found


def scalar_text(fields: Fields, name: str) -> str | None:
    """A default as text, as a template would put it in."""
    value = fields.take(name, str, bool, int, float)
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
