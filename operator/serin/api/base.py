"""Base class of the API models: camelCase in JSON, snake_case in Python, frozen, unknown fields rejected.

Field docstrings become the descriptions that `kubectl explain` shows. A rule (`serin.api.rule`) applies to one field,
or, in `RULES`, to a whole model; parser and CRD enforce the same rules.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from serin.api.rule import VALIDATIONS, Rule


class ApiModel(BaseModel):
    """Base of every type in a spec or a status."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Rules that involve several fields of this model."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The model's JSON schema with its rules."""
        schema = handler(core_schema)
        if cls.RULES:
            target = handler.resolve_ref_schema(schema)
            target[VALIDATIONS] = [rule.as_validation() for rule in cls.RULES]
        return schema


def list_map(*keys: str) -> dict[str, Any]:
    """Schema keywords for a list with key fields: server-side apply merges its entries and rejects duplicates."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
