"""What all API models share: camelCase outside, snake_case inside, frozen, nothing unknown accepted.

Field docstrings become the descriptions that `kubectl explain` shows. Rules (`serin.api.rule`) may stand on a field or,
in `RULES`, on a whole model; they hold in the parser and in the CRD alike.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from serin.api.rule import VALIDATIONS, Rule


class ApiModel(BaseModel):
    """Base of every type that users write."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields of this model."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema with the model's rules in it."""
        schema = handler(core_schema)
        if cls.RULES:
            target = handler.resolve_ref_schema(schema)
            target[VALIDATIONS] = [rule.as_validation() for rule in cls.RULES]
        return schema


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extras for a list whose entries have an identity: server-side apply merges it, duplicates are refused."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
