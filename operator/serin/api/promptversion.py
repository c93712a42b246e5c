"""`PromptVersion`: one immutable version of a prompt, identified by the hash of its content.

The hash is `serin.api.content_hash`. One rule is the parser's alone: that the template uses only declared variables.
As a CEL rule it costs a hundred times the API server's budget, so it becomes a condition of those who use the prompt.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from serin.api.base import ApiModel, list_map
from serin.api.fields import LABEL_KEY, Label, ModelName, matches, pattern, quoted
from serin.api.rule import Rule

_SEMVER = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
"""The grammar of Semantic Versioning 2.0.0."""
_SAFE_INTEGER = 2**53 - 1
"""Beyond it JSON numbers are not exact, and canonical JSON (RFC 8785) has no form for them."""
_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
"""Anything else between double braces is text, so that a template may show JSON or code."""
_is_key = matches(LABEL_KEY)


class Message(ApiModel):
    """One message of the template."""

    role: Literal["system", "user", "assistant"]
    """Who says it."""
    content: Annotated[str, Field(min_length=1, max_length=65536)]
    """Text with `{{ variable }}` placeholders."""


class Variable(ApiModel):
    """A placeholder that the template may use."""

    RULES = (
        Rule(
            cel="!has(self.required) || !self.required || !has(self.default)",
            message="Remove default or required; a required variable has no default.",
            holds=lambda variable: not variable.required or variable.default is None,
        ),
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        pattern("^[A-Za-z_][A-Za-z0-9_]*$", "Write a name of letters, digits and '_' that begins with no digit."),
    ]
    """What stands between the braces."""
    required: bool = False
    """Whether a request without it is refused."""
    default: Annotated[str | None, Field(max_length=4096)] = None
    """What stands in when a request does not give it; nothing when absent."""
    description: Annotated[str | None, Field(max_length=1024)] = None
    """What it means, for readers."""


class Parameters(ApiModel):
    """Sampling parameters that belong to the prompt."""

    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    """Randomness; 0 takes the likeliest token."""
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    """Only the likeliest tokens that make up this share."""
    max_tokens: Annotated[int | None, Field(ge=1, le=1_048_576)] = None
    """Longest answer, in tokens."""
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4)] = []
    """Texts that end an answer."""
    seed: Annotated[int | None, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)] = None
    """Seed of the sampling."""


class PromptVersionSpec(ApiModel):
    """A prompt; immutable once created."""

    prompt: Label
    """The family."""
    version: Annotated[
        str,
        Field(min_length=1, max_length=64),
        pattern(_SEMVER, "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without a leading v."),
    ]
    """Semantic version 2.0.0."""
    model: ModelName | None = None
    """The model it was written for."""
    author: Annotated[str | None, Field(max_length=253)] = None
    """Who wrote it, for readers."""
    description: Annotated[str | None, Field(max_length=4096)] = None
    """What it is for, for readers."""
    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=253)]],
        Field(max_length=32),
        Rule(
            cel=f"self.all(key, key.matches({quoted(LABEL_KEY)}))",
            message="Write label keys as Kubernetes takes them: letters, digits, '-', '_' and '.'.",
            holds=lambda labels: all(map(_is_key, labels)),
        ),
    ] = {}
    """Free metadata, for readers."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=32)]
    """The template."""
    variables: Annotated[list[Variable], Field(max_length=64, json_schema_extra=list_map("name"))] = []
    """The placeholders that the template may use."""
    parameters: Parameters | None = None
    """Sampling parameters that belong to the prompt."""
    output_schema: Annotated[
        dict[str, Any] | None,
        WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
    ] = None
    """JSON Schema that answers must satisfy."""

    @model_validator(mode="after")
    def _variables_are_declared(self) -> Self:
        declared = [variable.name for variable in self.variables]
        if len(set(declared)) < len(declared):
            raise ValueError("Declare each variable once; two have the same name.")
        used = {name for message in self.messages for name in _PLACEHOLDER.findall(message.content)}
        if unknown := sorted(used - set(declared)):
            raise ValueError(f"Declare {', '.join(unknown)} in variables, or correct the placeholder.")
        return self
