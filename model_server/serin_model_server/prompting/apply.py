"""The body of one request with the prompt of its revision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from . import chat, messages, paths, responses
from .body import Fields, Json, dump, keep_allowed, parse
from .fields import CHAT_COMPLETIONS, MESSAGES_API, RESPONSES_API, TOKEN_COUNT, Endpoint
from .prompt import Prompt
from .special import SpecialTokens
from .variables import take


class _Api(NamedTuple):
    endpoint: Endpoint
    conversation: str
    """The field with the client's messages."""
    apply: Callable[[Fields, Prompt, Mapping[str, str], SpecialTokens], list[Json]]
    """Changes the other fields, and returns the elements of the conversation."""


_APIS = {
    paths.CHAT: _Api(CHAT_COMPLETIONS, "messages", chat.apply),
    paths.RESPONSES: _Api(RESPONSES_API, "input", responses.apply),
    paths.MESSAGES: _Api(MESSAGES_API, "messages", messages.apply),
    paths.COUNT_TOKENS: _Api(TOKEN_COUNT, "messages", messages.apply_to_count),
}


def apply(path: str, body: bytes, prompt: Prompt, specials: SpecialTokens) -> bytes:
    """The body that vLLM gets.

    Args:
        path: one of `paths.PROMPTED`.
        body: what the client sent.
        prompt: the prompt of the request's revision.
        specials: special tokens of the served model.

    Raises:
        Refusal: the request cannot be prompted.
    """
    api = _APIS[path]
    fields = parse(body)
    keep_allowed(fields, api.endpoint)
    values = take(fields, prompt, lenient=api.endpoint.counts_only)
    items = api.apply(fields, prompt, values, specials)
    fields.pop(api.conversation, None)
    return dump(fields, api.conversation, items)
