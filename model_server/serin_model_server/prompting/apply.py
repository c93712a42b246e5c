"""The body of one request with the prompt of its revision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from . import chat, paths
from .body import Fields, dump, keep_allowed, parse
from .fields import CHAT_COMPLETIONS, Endpoint
from .prompt import Prompt
from .special import SpecialTokens
from .variables import take


class _Api(NamedTuple):
    endpoint: Endpoint
    apply: Callable[[Fields, Prompt, Mapping[str, str], SpecialTokens], None]


_APIS = {
    paths.CHAT: _Api(CHAT_COMPLETIONS, chat.apply),
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
    api = _APIS.get(path)
    if api is None:
        raise paths.refused(path)
    fields = parse(body)
    keep_allowed(fields, api.endpoint)
    values = take(fields, prompt, lenient=api.endpoint.counts_only)
    api.apply(fields, prompt, values, specials)
    return dump(fields)
