"""Which top-level fields of a body are known to be safe, and where an endpoint has a parameter, for vLLM 0.32.

An allow-list, because vLLM accepts unknown fields in silence and adds some in every release. Left out on purpose, since
they replace, cut off or reveal the prompt: `kv_transfer_params`, `ec_transfer_params`, `truncate_prompt_tokens`,
`truncation_side`, `truncation: auto` (also `truncation: null`), `return_token_ids`, `return_prompt_text`,
`prompt_logprobs`, `echo`, `enable_response_messages`, `previous_input_messages`, `previous_response_id`,
`conversation`, `background`, `chat_template`, `vllm_xargs`, `routed_experts_prompt_start`, `mm_payload`.
A field that is left out may have a value that means "not used", and then it is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .prompt import EXTRA, PARAMETERS

Place = tuple[str, ...]
"""A field, or a field and a key in its object."""

_TRUE, _FALSE = b"true", b"false"
_EMPTY = frozenset({b"{}", b"[]"})
_UNUSED: Mapping[str, frozenset[bytes]] = {
    "echo": frozenset({_FALSE}),
    "background": frozenset({_FALSE}),
    "truncation": frozenset({b'"disabled"'}),
    "return_token_ids": frozenset({_FALSE}),
    "return_prompt_text": frozenset({_FALSE}),
    "return_token_offsets": frozenset({_FALSE}),
    "enable_response_messages": frozenset({_FALSE}),
    "routed_experts_prompt_start": frozenset({b"0"}),
    "vllm_xargs": _EMPTY,
    "kv_transfer_params": _EMPTY,
    "ec_transfer_params": _EMPTY,
}
# Fields of OpenAI's that vLLM ignores.
_OPENAI = frozenset({"metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention"})
_OPENAI |= {"safety_identifier", "user"}
_SHARED = frozenset(
    {
        *("model", "stream", "temperature", "top_p", "top_k", "tools", "tool_choice", "cache_salt", "watermarking"),
        *("chat_template_kwargs", "metadata"),
    }
)
_VLLM = frozenset(
    {
        *("min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "stop", "stop_token_ids"),
        *("ignore_eos", "logit_bias", "skip_special_tokens", "include_stop_str_in_output", "structured_outputs"),
        *("priority", "request_id", "session_id", "media_io_kwargs", "mm_processor_kwargs", "include_reasoning"),
        *("top_logprobs", "parallel_tool_calls"),
    }
)
TEMPLATE_ARGUMENTS = frozenset(
    {
        *("enable_thinking", "thinking", "thinking_mode", "thinking_budget", "preserve_thinking", "clear_thinking"),
        *("reasoning_effort", "add_vision_id", "date_string"),
    }
)
"""Keys of `chat_template_kwargs` that change no message. Others could: `messages`, `truncation`, `max_length`, ..."""


@dataclass(frozen=True)
class Endpoint:
    """What a body of one endpoint may have."""

    allowed: frozenset[str]
    places: Mapping[str, Place] = field(default_factory=dict)
    """By the name of a parameter in `Prompt.parameters`: where the endpoint has it."""
    aliases: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Other places where a client may have set it."""
    values: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    """The JSON values of a parameter that the endpoint has, if it has only some."""
    counts_only: bool = False
    """Whether it only counts tokens, so that parameters of the answer do not matter."""

    def place(self, name: str, value: bytes) -> Place | None:
        """Where the endpoint has a parameter with this value; None if it has not."""
        return self.places.get(name) if value in self.values.get(name, (value,)) else None

    def unused(self, name: str, value: bytes | memoryview) -> bool:
        """Whether a field that is not allowed has a value that means that it is not used."""
        return value == b"null" or value in _UNUSED.get(name, ())


_WIRE = frozenset(PARAMETERS.values()) | EXTRA

CHAT_COMPLETIONS = Endpoint(
    allowed=_SHARED
    | _VLLM
    | _OPENAI
    | {
        *("messages", "logprobs", "max_tokens", "max_completion_tokens", "n", "response_format", "stream_options"),
        *("reasoning_effort", "thinking_token_budget", "use_beam_search", "length_penalty", "min_tokens"),
        *("spaces_between_special_tokens", "logprob_token_ids", "allowed_token_ids", "bad_words"),
        *("add_generation_prompt", "continue_final_message", "add_special_tokens", "documents"),
        *("return_tokens_as_token_ids", "repetition_detection", "stream_interval"),
        # Ignored by vLLM.
        *("verbosity", "modalities", "prediction", "audio", "web_search_options", "functions", "function_call"),
    },
    places={name: (name,) for name in _WIRE} | {"max_tokens": ("max_completion_tokens",)},
    aliases={"max_tokens": (("max_tokens",),)},
)
RESPONSES_API = Endpoint(
    allowed=_SHARED
    | _VLLM
    | _OPENAI
    | {
        *("input", "instructions", "include", "max_output_tokens", "max_tool_calls", "reasoning", "text"),
        # Ignored by vLLM.
        *("stream_options", "verbosity"),
    },
    places={name: (name,) for name in _WIRE - {"min_tokens", "bad_words", "thinking_token_budget"}}
    | {"max_tokens": ("max_output_tokens",), "reasoning_effort": ("reasoning", "effort")},
)
_ANTHROPIC_EFFORTS = ("low", "medium", "high", "xhigh", "max")
MESSAGES_API = Endpoint(
    allowed=_SHARED
    | {
        *("messages", "max_tokens", "output_config", "thinking", "stop_sequences", "system"),
        # Ignored by vLLM.
        *("service_tier", "cache_control", "context_management", "inference_geo"),
    },
    places={name: (name,) for name in ("temperature", "top_p", "top_k", "max_tokens")}
    | {"stop": ("stop_sequences",), "reasoning_effort": ("output_config", "effort")},
    aliases={"reasoning_effort": (("thinking",),)},
    values={"reasoning_effort": frozenset(f'"{effort}"'.encode() for effort in _ANTHROPIC_EFFORTS)},
)
TOKEN_COUNT = Endpoint(
    allowed=frozenset(
        {"model", "messages", "output_config", "system", "thinking", "tools", "tool_choice", "chat_template_kwargs"}
    ),
    counts_only=True,
)
