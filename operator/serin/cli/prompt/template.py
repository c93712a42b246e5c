"""The placeholders `{{ name }}` of a message, and how values are put in: once, and never read as templates. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from serin.api.prompt_template import PLACEHOLDER

_BAR = "\N{FULLWIDTH VERTICAL LINE}"
SPECIAL_TOKEN = re.compile(
    rf"<\|[^|<>\s]{{1,60}}\|>|<{_BAR}[^{_BAR}<>]{{1,60}}{_BAR}>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>"
    r"|\[/?INST\]|<</?SYS>>"
)
"""Texts that tokenizers of common models read as control tokens; pods also ask the tokenizer of their model."""


def placeholders(text: str) -> list[str]:
    """Names of the variables in a text, each once, in order."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with a value for every placeholder."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


def spans(text: str, values: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
    """Name, beginning and end of every value that is not empty, in the filled text."""
    grown = 0
    for found in PLACEHOLDER.finditer(text):
        length = len(values[found[1]])
        begin = found.start() + grown
        grown += length - len(found[0])
        if length:
            yield found[1], begin, begin + length
