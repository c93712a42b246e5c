"""The messages of a prompt and the variables that they use.

A template has no logic: `{{ name }}` stands for a variable, and any other text between double braces stays as it is, so
that a template may contain JSON or code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serin.api.base import ApiModel
from serin.api.fields import matches, must_match
from serin.api.rule import Rule

PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
"""A placeholder; any other text between double braces stays as it is."""
_NUMBER = "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?$"
_KINDS = "self.map(m, has(m.placeholder) ? 2 : (has(m.role) && m.role == 'system' ? 1 : 0))"
MAX_TEXT = 131_072
"""Characters of all messages together."""
_is_number = matches(_NUMBER)


class Message(ApiModel):
    """One message of the template, or the place of the client's messages."""

    RULES = (
        Rule(
            cel="has(self.role) == has(self.content) && has(self.placeholder) != has(self.content)",
            message="Write role and content, or only placeholder.",
            holds=lambda message: (
                (message.role is None) == (message.content is None)
                and (message.placeholder is None) != (message.content is None)
            ),
        ),
    )

    role: Literal["system", "user", "assistant", "developer"] | None = None
    """Role of the message. `developer` needs a model whose chat template has that role."""
    content: Annotated[str | None, Field(min_length=1, max_length=65536)] = None
    """Text of the message, with `{{ variable }}` placeholders."""
    placeholder: Literal["history"] | None = None
    """`history`, in place of role and content: the client's messages stand here. Only `system` messages may follow it.
    Default: they follow the messages of the prompt."""

    @property
    def variables(self) -> frozenset[str]:
        """Names of the variables in the text."""
        return frozenset(PLACEHOLDER.findall(self.content or ""))


def _is_in_order(messages: Sequence[Message]) -> bool:
    history = [number for number, message in enumerate(messages) if message.placeholder]
    after = messages[history[0] + 1 :] if history else ()
    return all(message.role == "system" for message in after)


Messages = Annotated[
    list[Message],
    Field(min_length=1, max_length=32),
    Rule(
        # As numbers, because texts would cost a hundred times the API server's budget.
        cel=f"!self.exists(m, has(m.placeholder)) || ({_KINDS}.lastIndexOf(0) < {_KINDS}.indexOf(2) && "
        f"{_KINDS}.indexOf(2) == {_KINDS}.lastIndexOf(2))",
        message="Name the placeholder history at most once, and only system messages after it; the model would answer "
        "the last message instead of the client's.",
        holds=_is_in_order,
    ),
    Rule(
        cel=f"self.map(m, has(m.content) ? size(m.content) : 0).sum() <= {MAX_TEXT}",
        message=f"Shorten the messages; together they may have {MAX_TEXT} characters.",
        holds=lambda messages: sum(len(message.content or "") for message in messages) <= MAX_TEXT,
    ),
]


class Variable(ApiModel):
    """A variable that the messages may use."""

    RULES = (
        Rule(
            cel="!has(self.required) || !self.required || !has(self.default)",
            message="Remove either default or required; a required variable has no default.",
            holds=lambda variable: not variable.required or variable.default is None,
        ),
        Rule(
            cel="!has(self.type) || self.type == 'string' || (!has(self.enum) && !has(self.maxLength))",
            message="Remove enum and maxLength; they apply only to variables of the type string.",
            holds=lambda variable: variable.is_text or (variable.enum is None and variable.max_length is None),
        ),
        Rule(
            cel="!has(self.default) || ((!has(self.enum) || self.default in self.enum) && "
            "(!has(self.maxLength) || size(self.default) <= self.maxLength))",
            message="Choose a default that enum and maxLength allow.",
            holds=lambda variable: variable.default is None or variable.allows(variable.default),
        ),
        Rule(
            cel="!has(self.default) || !has(self.type) || self.type != 'boolean' || self.default in ['true', 'false']",
            message="Choose true or false as the default of a boolean.",
            holds=lambda variable: variable.type != "boolean" or variable.default in {None, "true", "false"},
        ),
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        must_match(
            "^[A-Za-z_][A-Za-z0-9_]*$", "Write a name of letters, digits and '_' that does not begin with a digit."
        ),
    ]
    """Name of the variable, as used between double braces."""
    required: bool = False
    """Whether a request without the variable is rejected. Default: false."""
    default: Annotated[str | None, Field(max_length=4096)] = None
    """Value for requests that do not set the variable, as text. Default: the empty string."""
    description: Annotated[str | None, Field(max_length=1024)] = None
    """Meaning of the variable, for readers."""
    type: Literal["string", "number", "boolean"] | None = None
    """Type of the values that requests send; another type is rejected. Default: `string`."""
    enum: Annotated[list[Annotated[str, Field(max_length=1024)]] | None, Field(min_length=1, max_length=64)] = None
    """The only values that requests may send. Default: any."""
    max_length: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Largest number of characters of a value. Default: 65536."""

    @model_validator(mode="after")
    def _default_is_a_number(self) -> Self:
        # Not in CEL: a regular expression for the longest default costs more than the API server's budget.
        if self.type == "number" and self.default is not None and not _is_number(self.default):
            raise ValueError("Choose a number such as 0.5 as the default of a variable of the type number.")
        return self

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.type in {None, "string"}

    def allows(self, value: str) -> bool:
        """Whether enum and maxLength allow a text."""
        return (self.enum is None or value in self.enum) and (self.max_length is None or len(value) <= self.max_length)
