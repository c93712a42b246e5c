"""A validation rule in two forms: a CEL expression for the CRD and a predicate for the parser, with one message.

The API models carry rules as `Annotated` metadata of a field or in `RULES` of a model; `serin.api.schema` copies them
into the CRD. The API server rejects a bad manifest by the CEL expression; the parser applies the predicate to objects
that no API server has validated (stored under an older CRD, tests). Integration tests check on a real API server that
both forms agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A condition that a value must meet, with the message for a value that does not."""

    cel: str
    """CEL expression over `self`, evaluated by the API server."""
    message: str
    """One sentence that says what to change in the manifest."""
    holds: Callable[[Any], bool]
    """The same condition as a predicate over the parsed value."""

    def check(self, value: Any) -> Any:
        """Return the value unchanged.

        Raises:
            ValueError: the value breaks the rule; the text is the rule's message.
        """
        if not self.holds(value):
            raise ValueError(self.message)
        return value

    def as_validation(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        return {"rule": self.cel, "message": self.message}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Make pydantic run the check after it has validated the type."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the CEL expression to the JSON schema."""
        json_schema = handler(schema)
        return json_schema | {VALIDATIONS: [*json_schema.get(VALIDATIONS, ()), self.as_validation()]}
