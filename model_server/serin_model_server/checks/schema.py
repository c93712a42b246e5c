"""Fails if an answer is not JSON that satisfies the schema: `outputSchema` of the revision's own prompt.

Validated by the package `jsonschema`, which vLLM installs. A reference that is not local is refused before anything
could resolve it, and the validator's registry is empty: nothing is ever fetched. `format` is not checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry

from .answer import FAIL, NOT_ASKED, PASS, SKIPPED, Choice, Judge, Parameters, refuse_unknown

_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""


def prepare(given: Parameters) -> Judge:
    """The check with these parameters; `outputSchema` is added to them from the revision's prompt.

    Raises:
        ValueError: they are not as documented, or the schema is not valid or refers to another document.
    """
    refuse_unknown(given, ["outputSchema"])
    schema = given.get("outputSchema")
    if not isinstance(schema, dict):
        raise ValueError("the revision's prompt has no outputSchema")  # noqa: TRY004 - all defects are ValueErrors
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(f"its outputSchema refers to {reference[:80]!a}, which is not a part of it")
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"its outputSchema is not a JSON Schema: {error.message[:200]}") from error
    validator = kind(schema, registry=Registry())

    def judge(choice: Choice) -> str:
        if choice.only_calls:
            return NOT_ASKED
        if choice.is_cut:
            return SKIPPED
        try:
            value = json.loads(choice.text, parse_constant=_refuse_constant)
        except ValueError:
            return FAIL
        return PASS if validator.is_valid(value) else FAIL

    return judge


def _references(schema: Any) -> Iterator[str]:
    """The values of all references in a schema."""
    rest = [schema]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            for name, inner in value.items():
                if name in _REFERENCES and isinstance(inner, str):
                    yield inner
                elif name not in _DATA:
                    rest.append(inner)
        elif isinstance(value, list):
            rest.extend(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
