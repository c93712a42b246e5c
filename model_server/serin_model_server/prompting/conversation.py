"""The first user message of a conversation, by which requests of one conversation get the same revision.

Only its text counts: clients mark the newest message for their cache, so the other keys of the first one change from
turn to turn.
"""

from __future__ import annotations

import msgspec

from . import paths

PATHS = frozenset({paths.CHAT, paths.RESPONSES, paths.MESSAGES})
_BOM = b"\xef\xbb\xbf"


class _Part(msgspec.Struct, gc=False):
    text: msgspec.Raw = msgspec.Raw(b"null")


class _Turn(msgspec.Struct, gc=False):
    role: msgspec.Raw = msgspec.Raw(b"null")
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Chat(msgspec.Struct, gc=False):
    messages: list[_Turn] | None = None


class _Responses(msgspec.Struct, gc=False):
    input: str | list[_Turn] | None = None


_chat = msgspec.json.Decoder(_Chat)
_responses = msgspec.json.Decoder(_Responses)
_content = msgspec.json.Decoder(str | list[_Part])
_text = msgspec.json.Decoder(str)


def first_user_text(path: str, body: bytes) -> bytes | None:
    """The text of the first user message in a body; None if there is none, or the body is not as vLLM accepts it."""
    try:
        turns = _turns(path, body.removeprefix(_BOM))
        if isinstance(turns, str):
            return turns.encode() or None
        for turn in turns or ():
            if bytes(turn.role) == b'"user"':
                return _flat(bytes(turn.content)) or None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    return None


def _turns(path: str, body: bytes) -> str | list[_Turn] | None:
    return _responses.decode(body).input if path == paths.RESPONSES else _chat.decode(body).messages


def _flat(content: bytes) -> bytes:
    found = _content.decode(content)
    if isinstance(found, str):
        return found.encode()
    texts = [bytes(part.text) for part in found]
    # Pictures and the like have no text; a conversation that begins with only them has its content as the key.
    return "\n".join(_text.decode(text) for text in texts if text[:1] == b'"').encode() or content
