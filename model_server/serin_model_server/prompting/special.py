"""The tokenizer's special tokens in values of variables.

A value such as `<|im_end|>` would become one control token inside of the prompt's system message and end it. Which
texts are special, the tokenizer of the served model says; some common ones are always refused, because a tokenizer
that cannot be asked must not open the door.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MAX_TOKENS = 20_000
MAX_LENGTH = 64
_COMMON = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<\uff5c[^\uff5c<>]{1,60}\uff5c>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)


class SpecialTokens:
    """The texts that a tokenizer reads as control tokens."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        texts = {token for token in tokens if 1 < len(token) <= MAX_LENGTH}
        self._tokens = tuple(sorted(texts))[:MAX_TOKENS]
        self._first = frozenset(token[0] for token in self._tokens)
        self.reach = MAX_LENGTH
        """Characters beside a value that can belong to a token that the value completes."""

    def overlapping(self, text: str, begins: int, length: int) -> bool:
        """Whether a special token in the text has a character of the value that begins there."""
        if not length:
            # An empty value joins the texts around it, as the prompt's author could have written them.
            return False
        ends = begins + length
        for found in _COMMON.finditer(text):
            if found.start() < ends and found.end() > begins:
                return True
        if self._first.isdisjoint(text):
            return False
        return any(_overlaps(text, token, begins, ends) for token in self._tokens if token in text)


def _overlaps(text: str, token: str, begins: int, ends: int) -> bool:
    at = text.find(token, max(0, begins - len(token) + 1))
    return 0 <= at < ends


def of_application(app: Any) -> SpecialTokens:
    """The special tokens of the model that an application of vLLM 0.32 serves; only common ones if it cannot tell."""
    try:
        tokenizer = app.state.engine_client.get_tokenizer()
    except Exception:  # noqa: BLE001 - a server without a tokenizer; the common tokens are refused all the same
        return SpecialTokens()
    # Added tokens that are not special are words of the vocabulary, for example two line ends.
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    special = [str(token) for token in added.values() if getattr(token, "special", False)]
    return SpecialTokens([*map(str, getattr(tokenizer, "all_special_tokens", ())), *special])
