"""`PromptVersion`: one immutable version of a prompt, identified by the hash of its content.

`serin.api.content_hash` computes the hash. Only the parser checks that the template uses declared variables: as a CEL
rule, this check costs a hundred times the API server's budget. A violation becomes a condition of the LLMDeployments
that use the prompt.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from serin.api.base import ApiModel, list_map
from serin.api.fields import LABEL_KEY, Label, ModelName, matches, must_match, quoted
from serin.api.rule import Rule

_SEMVER = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
"""The grammar of Semantic Versioning 2.0.0."""
_SAFE_INTEGER = 2**53 - 1
"""Largest integer that JSON numbers hold exactly; canonical JSON (RFC 8785) has no form for larger ones."""
_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
"""A placeholder; any other text between double braces stays as it is, so that a template may contain JSON or code."""
_is_key = matches(LABEL_KEY)


class Message(ApiModel):
    """One message of the template."""

    role: Literal["system", "user", "assistant"]
    """Role of the message."""
    content: Annotated[str, Field(min_length=1, max_length=65536)]
    """Text of the message, with `{{ variable }}` placeholders."""


class Variable(ApiModel):
    """A variable that the messages may use."""

    RULES = (
        Rule(
            cel="!has(self.required) || !self.required || !has(self.default)",
            message="Remove either default or required; a required variable has no default.",
            holds=lambda variable: not variable.required or variable.default is None,
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
    """Whether a request without the variable is rejected."""
    default: Annotated[str | None, Field(max_length=4096)] = None
    """Value for requests that do not set the variable. Default: the empty string."""
    description: Annotated[str | None, Field(max_length=1024)] = None
    """Meaning of the variable, for readers."""


class Parameters(ApiModel):
    """Sampling parameters of the prompt."""

    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    """Randomness of the sampling; 0 always takes the most likely token."""
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    """Nucleus sampling: only the most likely tokens that together have this probability."""
    max_tokens: Annotated[int | None, Field(ge=1, le=1_048_576)] = None
    """Maximum length of an answer, in tokens."""
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4)] = []
    """Strings that end an answer."""
    seed: Annotated[int | None, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)] = None
    """Seed of the random sampling."""


class PromptVersionSpec(ApiModel):
    """Content of the prompt; it cannot be changed after creation."""

    prompt: Label
    """Name of the prompt, the same for all its versions."""
    version: Annotated[
        str,
        Field(min_length=1, max_length=64),
        must_match(_SEMVER, "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without a leading v."),
    ]
    """Version of the prompt, as in Semantic Versioning 2.0.0."""
    model: ModelName | None = None
    """Name of the model that the prompt was written for."""
    author: Annotated[str | None, Field(max_length=253)] = None
    """Author, for readers."""
    description: Annotated[str | None, Field(max_length=4096)] = None
    """Purpose of the prompt, for readers."""
    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=253)]],
        Field(max_length=32),
        Rule(
            cel=f"self.all(key, key.matches({quoted(LABEL_KEY)}))",
            message="Write Kubernetes label keys such as team or example.com/team: letters, digits, '-', '_' and '.'.",
            holds=lambda labels: all(map(_is_key, labels)),
        ),
    ] = {}
    """Labels, for readers."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=32)]
    """Messages of the template, in order."""
    variables: Annotated[list[Variable], Field(max_length=64, json_schema_extra=list_map("name"))] = []
    """Variables that the messages may use."""
    parameters: Parameters | None = None
    """Sampling parameters of the prompt."""
    output_schema: Annotated[
        dict[str, Any] | None,
        WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
    ] = None
    """JSON Schema that answers must match."""

    @model_validator(mode="after")
    def _variables_are_declared(self) -> Self:
        declared = [variable.name for variable in self.variables]
        if len(set(declared)) < len(declared):
            raise ValueError("Declare each variable once; two variables have the same name.")
        used = {name for message in self.messages for name in _PLACEHOLDER.findall(message.content)}
        if unknown := sorted(used - set(declared)):
            raise ValueError(f"Declare {', '.join(unknown)} in variables, or correct the placeholder.")
        return self
