"""`PromptVersion`: one immutable version of a prompt, identified by the hash of its content."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serin.api.base import ApiModel


class Message(ApiModel):
    """One message of the template."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=65536)]
    """Text with `{{ variable }}` placeholders."""


class Variable(ApiModel):
    """A placeholder that the template may use."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    required: bool = False
    default: Annotated[str | None, Field(max_length=4096)] = None
    description: Annotated[str | None, Field(max_length=1024)] = None


class Parameters(ApiModel):
    """Sampling parameters that belong to the prompt."""

    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4)] = []
    seed: int | None = None


class PromptVersionSpec(ApiModel):
    """A prompt; immutable once created."""

    prompt: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """The family."""
    version: Annotated[str, Field(min_length=5, max_length=64)]
    """Semantic version 2.0.0."""
    model: Annotated[str | None, Field(min_length=1, max_length=253)] = None
    """The model it was written for."""
    author: Annotated[str | None, Field(max_length=253)] = None
    description: Annotated[str | None, Field(max_length=4096)] = None
    labels: Annotated[dict[str, Annotated[str, Field(max_length=253)]], Field(max_length=32)] = {}
    messages: Annotated[list[Message], Field(min_length=1, max_length=32)]
    variables: Annotated[list[Variable], Field(max_length=64)] = []
    parameters: Parameters | None = None
    output_schema: dict[str, Any] | None = None
    """JSON Schema that answers must satisfy."""
