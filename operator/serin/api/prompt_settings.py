"""What a prompt sets besides its messages: sampling parameters and tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from serin.api.base import ApiModel
from serin.api.fields import matches, must_match, quoted
from serin.api.rule import Rule

_SAFE_INTEGER = 2**53 - 1
"""Largest integer that JSON numbers hold exactly; canonical JSON (RFC 8785) has no form for larger ones."""
_TOKEN_ID = "^[0-9]{1,9}$"  # noqa: S105 - an entry of the tokenizer's vocabulary
CHOICES = ("none", "auto", "required")
_is_token_id = matches(_TOKEN_ID)

TokenId = Annotated[int, Field(ge=0, le=999_999_999)]
WireName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    must_match("^[A-Za-z0-9_-]+$", "Write a name of letters, digits, '_' and '-'."),
]
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]


class Extra(ApiModel):
    """Parameters of vLLM, by their names in a request."""

    model_config = ConfigDict(alias_generator=None)

    top_k: Annotated[int | None, Field(ge=-1, le=1_000_000)] = None
    """Number of the most likely tokens to choose from; 0 or -1: all."""
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    """Smallest probability of a token, relative to the most likely one."""
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    """Penalty on tokens that the answer has already."""
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    """Penalty on tokens, by how often the answer has them already."""
    repetition_penalty: Annotated[float | None, Field(gt=0, le=10)] = None
    """Factor against tokens that prompt or answer have already; above 1 discourages them."""
    min_tokens: Annotated[int | None, Field(ge=0, le=1_048_576)] = None
    """Smallest length of an answer, in tokens."""
    stop_token_ids: Annotated[list[TokenId] | None, Field(max_length=64)] = None
    """Tokens that end an answer."""
    ignore_eos: bool | None = None
    """Whether an answer goes on after the model's end token."""
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=256),
            Rule(
                cel=f"self.all(token, token.matches({quoted(_TOKEN_ID)}))",
                message="Write the ids of tokens as keys, such as '50256'.",
                holds=lambda biases: all(map(_is_token_id, biases)),
            ),
        ]
        | None
    ) = None
    """Bias of tokens, by their ids."""
    bad_words: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]] | None, Field(max_length=64)] = None
    """Words that an answer does not contain."""
    reasoning_effort: (
        Annotated[
            str,
            Field(max_length=16),
            must_match("^[a-z]+$", "Write an effort that the model knows, such as low or high."),
        ]
        | None
    ) = None
    """How long a reasoning model thinks, such as `low`."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may call several tools."""
    skip_special_tokens: bool | None = None
    """Whether the answer's text leaves special tokens out."""
    include_stop_str_in_output: bool | None = None
    """Whether the answer's text includes the string that ended it."""
    thinking_token_budget: Annotated[int | None, Field(ge=0, le=1_048_576)] = None
    """Largest number of tokens of a reasoning model's thinking."""


class Parameters(ApiModel):
    """Sampling parameters of the prompt: defaults for requests, or enforced."""

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
    extra: Extra | None = None
    """Parameters of vLLM that not every endpoint has."""


class Function(ApiModel):
    """A function that the model may call."""

    name: Annotated[
        WireName,
        Rule(
            cel=f"!(self in {list(CHOICES)})",
            message="Choose another name; none, auto and required have a meaning in toolChoice.",
            holds=lambda name: name not in CHOICES,
        ),
    ]
    """Name of the function."""
    description: Annotated[str | None, Field(max_length=16384)] = None
    """What the function does, for the model."""
    parameters: JsonObject | None = None
    """JSON Schema of the arguments."""
    strict: bool | None = None
    """Whether the arguments must satisfy the schema exactly."""


class Tool(ApiModel):
    """A tool, as in a request of chat completions."""

    type: Literal["function"]
    """Kind of the tool."""
    function: Function
    """The function that the model may call."""


Tools = Annotated[
    list[Tool],
    Field(max_length=64),
    Rule(
        cel="self.all(t, self.exists_one(o, o.__function__.name == t.__function__.name))",
        message="Declare each tool once; two tools have the same name.",
        holds=lambda tools: len({tool.function.name for tool in tools}) == len(tools),
    ),
]
