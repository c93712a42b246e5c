"""The prompt's messages and the client's in one list.

The prompt's messages come first, then the client's, then what follows the prompt's placeholder of the history. The
client's *leading* run of system messages is joined to the prompt's system message with a blank line, the prompt's text
first; later ones stay where they are. Only an element that is joined is encoded anew; the others keep their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .body import Json, decode, elements
from .prompt import SYSTEM_ROLES, Message, Prompt
from .refusal import Refusal, rejected
from .special import SpecialTokens

BLANK_LINE = b"\\n\\n"
"""Inside of a JSON string."""


class Rendered(NamedTuple):
    """A message of the prompt with its values."""

    role: str
    text: bytes
    """Inside of a JSON string."""


class _Head(msgspec.Struct, gc=False):
    role: msgspec.Raw = msgspec.Raw(b"null")
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


_head = msgspec.json.Decoder(_Head)
_parts = msgspec.json.Decoder(list[_Part])
_TEXT_PARTS = frozenset({"text", "input_text"})
_BEGINS_WITHOUT_SYSTEM = re.compile(rb'\[\s*\{\s*"role"\s*:\s*"(?:user|assistant|tool)"')
_SYSTEM = frozenset(f'"{role}"'.encode() for role in SYSTEM_ROLES)


def render(messages: Sequence[Message], values: Mapping[str, str], specials: SpecialTokens) -> list[Rendered]:
    """The prompt's messages with these values.

    Raises:
        Refusal: see `Template.render`.
    """
    return [Rendered(message.role, message.template.render(values, specials)) for message in messages]


def is_system(item: Json) -> bool:
    """Whether an element of a conversation is a system message.

    Raises:
        Refusal: it is not an object.
    """
    role = bytes(_read(item).role)
    # A role may be written with escapes, and then is not one of these bytes.
    return role in _SYSTEM or (b"\\" in role and _unescaped(role) in SYSTEM_ROLES)


def divide(sent: Json | None, prompt: Prompt, what: str) -> tuple[list[Json], list[Json]]:
    """The client's leading system messages, and what follows them, as elements.

    Args:
        sent: the array of the client's messages, as JSON; None if there is none.
        prompt: it says whether system messages are accepted.
        what: the field's name, for a refusal.

    Raises:
        Refusal: it is not an array of objects, or a system message is not accepted.
    """
    if sent is None:
        return [], []
    # The usual conversation begins with a user, and needs no second look at its bytes.
    if not prompt.reject_client_system and _BEGINS_WITHOUT_SYSTEM.match(sent):
        return [], [sent[1:-1]]
    items = elements(sent, what)
    if prompt.reject_client_system and any(map(is_system, items)):
        raise client_system()
    for number, item in enumerate(items):
        if not is_system(item):
            return items[:number], items[number:]
    return items, []


def content_of(item: Json) -> bytes:
    """The content of a message, as JSON."""
    return bytes(_read(item).content)


def plain_text(content: bytes) -> bytes:
    """The text of a message's content, inside of a JSON string.

    Raises:
        Refusal: it has something else than text.
    """
    if content[:1] == b'"':
        return content[1:-1]
    if content == b"null":
        return b""
    parts = decode(_parts, content, "The content of a system message")
    if any(part.type not in _TEXT_PARTS for part in parts):
        raise Refusal(
            "A system message has something else than text, which cannot be joined to the prompt. "
            "Send it in a user message.",
            code="system_content_not_text",
        )
    # As vLLM joins them.
    return msgspec.json.encode("\n".join(part.text or "" for part in parts))[1:-1]


def join(texts: Iterable[bytes]) -> bytes:
    """Texts with a blank line between them, without the empty ones."""
    return BLANK_LINE.join([text for text in texts if text])


def client_system() -> Refusal:
    """The refusal of a client's system text."""
    return rejected(
        "The request has a system message, and the prompt in force accepts none from clients. "
        "Remove it, or send its text in a user message.",
        code="client_system_not_accepted",
    )


def message(rendered: Rendered) -> bytes:
    """A message of the prompt as an element of a conversation."""
    return b'{"role":"%s","content":"%s"}' % (rendered.role.encode(), rendered.text)


def compose(
    before: Sequence[Rendered], systems: Sequence[bytes], items: Sequence[Json], after: Sequence[Rendered]
) -> list[Json]:
    """All elements in order; `systems` are the texts that the client wants in front."""
    lead = 0
    while lead < len(before) and before[lead].role in SYSTEM_ROLES:
        lead += 1
    front = list(before[:lead])
    if text := join(systems):
        last = front.pop() if front else Rendered("system", b"")
        front.append(Rendered(last.role, join((last.text, text))))
    return [*map(message, front), *map(message, before[lead:]), *items, *map(message, after)]


def _read(item: Json) -> _Head:
    return decode(_head, item, "An element of the conversation")


def _unescaped(role: bytes) -> str | None:
    found = msgspec.json.decode(role)
    return found if isinstance(found, str) else None
