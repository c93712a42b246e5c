"""Which paths are prompted, passed on or refused while a prompt is in force, for vLLM 0.32.

Only POST requests reach a model. A path that is on neither list is refused: `/v1/completions`,
`/v1/chat/completions/batch`, `/invocations`, `/v1/systemone`, `/generative_scoring`, `/cohere/v2/chat` and
`/inference/v1/generate` would answer without the prompt, and a later vLLM may add more.
"""

from __future__ import annotations

import re

from .refusal import Refusal

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
PROMPTED = frozenset({CHAT, RESPONSES, MESSAGES, COUNT_TOKENS})
PASSED = frozenset(
    {
        *("/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/v1/score"),
        *("/rerank", "/v1/rerank", "/v2/rerank", "/v1/audio/transcriptions", "/v1/audio/translations"),
        *("/tokenize", "/detokenize", "/ping", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    }
)
"""They generate no answer to a conversation."""
_CANCEL = re.compile(r"/v1/responses/[^/]+/cancel")


def is_passed(path: str) -> bool:
    """Whether requests at this path need no prompt."""
    return path in PASSED or _CANCEL.fullmatch(path) is not None


def refused(path: str) -> Refusal:
    """The refusal of a path that would answer without the prompt."""
    return Refusal(
        f"{path[:100]!a} is not served while a prompt is in force, because it would answer without the prompt. "
        f"Use {CHAT}, {RESPONSES} or {MESSAGES}.",
        code="path_not_prompted",
        status=404,
    )
