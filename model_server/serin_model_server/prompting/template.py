"""The text of one message of a prompt, with placeholders `{{ name }}` for variables.

A template has no logic. Values are put in once and never read as templates again. Text between double braces that is
not a name stays as it is, so a template may contain JSON or code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .refusal import rejected
from .special import SpecialTokens

PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
MAX_RENDERED = 1 << 20
"""Characters of one message after values were put in."""


@dataclass(frozen=True, slots=True)
class Template:
    """Literal texts with the names of variables between them."""

    literals: tuple[str, ...]
    """One more than names."""
    names: tuple[str, ...]
    static: bytes
    """If there are no names: the text as the inside of a JSON string, without quotation marks."""

    def render(self, values: Mapping[str, str], specials: SpecialTokens) -> bytes:
        """The text as the inside of a JSON string, in UTF-8.

        Raises:
            Refusal: it becomes too long, or a value brings a special token in.
        """
        if not self.names:
            return self.static
        if sum(map(len, self.literals)) + sum(len(values[name]) for name in self.names) > MAX_RENDERED:
            raise rejected(
                f"The prompt with these variables has more than {MAX_RENDERED:,} characters. Send shorter values.",
                code="prompt_too_long",
                param="prompt_variables",
            )
        text = self.literals[0]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            begins = len(text)
            text += values[name]
            ends = len(text)
            # With the literal text around it, because a token may begin or end there.
            ahead = literal[: specials.reach]
            if specials.overlapping(
                text[max(0, begins - specials.reach) :] + ahead, min(begins, specials.reach), ends - begins
            ):
                raise rejected(
                    f"The variable {name} contains a special token of the model, which could end the prompt's message. "
                    "Remove the token from the value.",
                    code="special_token_in_variable",
                    param=f"prompt_variables.{name}",
                )
            text += literal
        return inside(text)


def compiled(text: str) -> Template:
    """The template in a message's text."""
    parts = PLACEHOLDER.split(text)
    literals, names = tuple(parts[::2]), tuple(parts[1::2])
    return Template(literals, names, b"" if names else inside(text))


def inside(text: str) -> bytes:
    """A text as the inside of a JSON string, in UTF-8.

    Raises:
        UnicodeEncodeError: it has half of a surrogate pair.
    """
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()
