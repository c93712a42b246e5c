"""Finds mistakes in JSON Schemas: of answers and of tools. Pure: no reference is ever fetched.

A reference to another document is an error, because a validator would fetch it while it checks an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import jsonschema
from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from serin.api.promptversion import REFERENCES
from serin.cli.prompt.findings import Finding, error, warning

_DIALECTS = frozenset(
    str(dialect.META_SCHEMA.get("$id") or dialect.META_SCHEMA.get("id")).rstrip("#")
    for dialect in (
        jsonschema.Draft202012Validator,
        jsonschema.Draft201909Validator,
        jsonschema.Draft7Validator,
        jsonschema.Draft6Validator,
        jsonschema.Draft4Validator,
        jsonschema.Draft3Validator,
    )
)
_DATA = frozenset({"enum", "const", "default", "examples"})
"""Keywords whose values are no schemas."""
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose values are schemas by name."""


def lint_schema(schema: Mapping[str, Any], where: str) -> list[Finding]:
    """Every finding in a schema."""
    found = []
    declared = schema.get("$schema")
    validator: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
    if declared is not None and str(declared).rstrip("#") not in _DIALECTS:
        found.append(
            warning(
                f"{where}.$schema", "This dialect is not known here, so the schema is checked as 2020-12; remove it."
            )
        )
    try:
        validator.check_schema(dict(schema), format_checker=FormatChecker(()))
    except SchemaError as invalid:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in invalid.absolute_path)
        found.append(
            error(f"{where}{path}", f"This is not valid JSON Schema: {_shortened(invalid.message)}; correct it.")
        )
        return found
    for node, path in _schemas(schema, where):
        found += [*_references(node, path, schema), *_patterns(node, path)]
    return found


def _references(node: Mapping[str, Any], where: str, root: Mapping[str, Any]) -> Iterator[Finding]:
    for keyword in REFERENCES:
        target = node.get(keyword)
        if not isinstance(target, str):
            continue
        if not target.startswith("#"):
            yield error(
                f"{where}.{keyword}",
                f"{_shortened(target)!r} is outside of this schema, and nothing is fetched; copy it into $defs.",
            )
        elif not _resolves(target, root):
            yield error(f"{where}.{keyword}", f"{_shortened(target)!r} points to nothing in this schema; correct it.")


def _patterns(node: Mapping[str, Any], where: str) -> Iterator[Finding]:
    texts = [node.get("pattern"), *(node.get("patternProperties") or ())]
    for text in texts:
        try:
            re.compile(text if isinstance(text, str) else "")
        except (re.error, OverflowError, RecursionError) as invalid:
            yield warning(
                f"{where}.pattern",
                f"{_shortened(str(text))!r} is no regular expression of Python ({invalid}); correct it.",
            )


def _resolves(target: str, root: Mapping[str, Any]) -> bool:
    fragment = unquote(target[1:])
    if not fragment.startswith("/"):
        anchors = (node.get(key) for node, _ in _schemas(root, "") for key in ("$anchor", "$dynamicAnchor"))
        # A plain `$id` or `id` of "#name" is how drafts 4 to 7 write an anchor.
        older = (node.get(key) for node, _ in _schemas(root, "") for key in ("$id", "id"))
        return fragment == "" or fragment in anchors or f"#{fragment}" in older
    value: Any = root
    for part in fragment[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return False
    return isinstance(value, dict | bool)


def _schemas(schema: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The schema and every schema in it, with its path; depth and size are those of the API, so this ends."""
    yield schema, where
    for key, value in schema.items():
        path = f"{where}.{key}"
        if key in _DATA:
            continue
        if key in _NAMED and isinstance(value, dict):
            inner = [(each, f"{path}.{name}") for name, each in value.items()]
        elif isinstance(value, list):
            inner = [(each, f"{path}[{number}]") for number, each in enumerate(value)]
        else:
            inner = [(value, path)]
        for each, below in inner:
            if isinstance(each, dict):
                yield from _schemas(each, below)


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
