"""A rule with two faces: a CEL expression for the CRD and a predicate for the parser, with one message for both.

The API models carry rules as `Annotated` metadata on a field or in `RULES` on a model; `serin.api.schema` finds them
in the JSON schema. The API server refuses a bad manifest by the CEL face; the parser's face holds where no API server
has looked (an object stored under an older CRD, a test). That both say the same is checked against a real API server.
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
    """One thing that must hold, and what to do when it does not."""

    cel: str
    """Expression over `self`, evaluated by the API server."""
    message: str
    """One sentence that says what to change."""
    holds: Callable[[Any], bool]
    """The same as a predicate over the parsed value."""

    def check(self, value: Any) -> Any:
        """The value itself.

        Raises:
            ValueError: the rule does not hold; carries the message.
        """
        if not self.holds(value):
            raise ValueError(self.message)
        return value

    def as_validation(self) -> dict[str, str]:
        """An entry of `x-kubernetes-validations`."""
        return {"rule": self.cel, "message": self.message}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic run the check after the type itself was validated."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Let the schema carry the CEL face."""
        json_schema = handler(schema)
        return json_schema | {VALIDATIONS: [*json_schema.get(VALIDATIONS, ()), self.as_validation()]}
