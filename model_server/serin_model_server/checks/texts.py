"""Takes text, tool calls and finish reason out of the bytes of a response, for every shape of vLLM's API.

A stream is read event by event, as its chunks pass; a whole answer when it is complete. msgspec, which vLLM installs,
reads only the fields that matter. What is kept is bounded: text per answer and per process, and the bytes of an event
or a whole answer. The rest is counted and dropped. A response that cannot be read has no answer (None).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Annotated

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder

from .answer import AT_LIMIT, FINISHED, UNKNOWN, Choice

MOST_CHARACTERS = 262_144
"""Kept of one answer."""
MOST_BYTES = 1 << 20
"""Of one event, or of a whole answer. A longer answer is not checked."""
MOST_CHOICES = 128
MOST_PARTS = 1024
"""Items of a response, and parts of an item or a message."""
MOST_HELD = 64 << 20
"""Characters that one process keeps at a time, in all answers that run or wait for their checks."""
_BLOCK = 4096
"""Characters for which an answer asks at a time."""
_LIMITS = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})


class Held:
    """How many characters a process keeps."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self._now = 0
        # The thread that talks to the child process gives back what the event loop has taken.
        self._lock = threading.Lock()

    def take(self, characters: int) -> bool:
        """Keep so many more; False if that is too much."""
        with self._lock:
            if self._now + characters > self._most:
                return False
            self._now += characters
            return True

    def give_back(self, characters: int) -> None:
        """Keep so many less."""
        with self._lock:
            self._now -= characters

    @property
    def now(self) -> int:
        """How many are kept."""
        return self._now


class _Building:
    """A choice whose text still grows."""

    __slots__ = ("called", "characters", "cut", "finish", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.characters = 0
        self.cut = False
        self.called = False
        self.finish = UNKNOWN


class Texts:
    """The choices of one response, as far as it has come."""

    __slots__ = ("_choices", "_held", "_left", "kept")

    def __init__(self, held: Held) -> None:
        self._held = held
        self._choices: dict[int, _Building] = {}
        self._left = 0
        self.kept = 0
        """Characters that `held` counts for this response: those of the text, and room for more."""

    def choice(self, index: int) -> _Building:
        """The choice with this index.

        Raises:
            ValueError: there are too many.
        """
        found = self._choices.get(index)
        if found is None:
            if len(self._choices) >= MOST_CHOICES:
                raise ValueError("too many choices")
            found = self._choices[index] = _Building()
        return found

    def add(self, index: int, text: str | None) -> None:
        """Add text to a choice."""
        if not text:
            return
        choice, length = self.choice(index), len(text)
        choice.characters += length
        if choice.cut:
            return
        if length > self._left:
            self._reserve(length)
            if length > self._left:
                choice.cut = True
                text, length = text[: self._left], self._left
        self._left -= length
        choice.parts.append(text)

    def _reserve(self, length: int) -> None:
        """Get room for a text of this length, as far as there is any."""
        wanted = min(max(_BLOCK, length - self._left), MOST_CHARACTERS - self.kept)
        if wanted > 0 and self._held.take(wanted):
            self.kept += wanted
            self._left += wanted

    def call(self, index: int) -> None:
        """Note that a choice has a tool call."""
        self.choice(index).called = True

    def finish(self, index: int, reason: str | None) -> None:
        """Note why a choice ended."""
        if reason is not None:
            self.choice(index).finish = AT_LIMIT if reason in _LIMITS else FINISHED

    def choices(self) -> list[Choice]:
        """The choices in their order; one that is empty if there was none."""
        built = [self._choices[index] for index in sorted(self._choices)] or [_Building()]
        return [Choice("".join(each.parts), each.characters, each.called, each.finish) for each in built]


class _Message(Struct):
    content: str | None = None
    tool_calls: list[Raw] | None = None
    function_call: Raw = Raw()


class _ChatChoice(Struct):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Completion(Struct):
    """A whole answer or an event of chat completions and of completions."""

    choices: Annotated[list[_ChatChoice], Meta(max_length=MOST_CHOICES)] = []


class _Part(Struct):
    type: str = ""
    text: str | None = None


class _Item(Struct):
    type: str = ""
    content: Annotated[list[_Part], Meta(max_length=MOST_PARTS)] | None = None


class _Details(Struct):
    reason: str | None = None


class _Response(Struct):
    output: Annotated[list[_Item], Meta(max_length=MOST_PARTS)] = []
    status: str | None = None
    incomplete_details: _Details | None = None


class _ResponseEvent(Struct):
    type: str = ""
    delta: Raw = Raw()
    item: _Item | None = None
    response: _Response | None = None


class _BlockDelta(Struct):
    type: str | None = None
    text: str | None = None
    stop_reason: str | None = None


class _MessageEvent(Struct):
    type: str = ""
    delta: _BlockDelta | None = None
    content_block: _Part | None = None


class _AnthropicMessage(Struct):
    content: Annotated[list[_Part], Meta(max_length=MOST_PARTS)] = []
    stop_reason: str | None = None


_completion: Decoder[_Completion] = Decoder(_Completion)
_response: Decoder[_Response] = Decoder(_Response)
_response_event: Decoder[_ResponseEvent] = Decoder(_ResponseEvent)
_message: Decoder[_AnthropicMessage] = Decoder(_AnthropicMessage)
_message_event: Decoder[_MessageEvent] = Decoder(_MessageEvent)
_text: Decoder[str] = Decoder(str)

Read = Callable[[bytes, Texts], None]


def _read_completion(data: bytes, texts: Texts) -> None:
    for choice in _completion.decode(data).choices:
        message = choice.delta or choice.message
        if choice.text:
            texts.add(choice.index, choice.text)
        if message is not None:
            if message.content:
                texts.add(choice.index, message.content)
            if message.tool_calls or (message.function_call and bytes(message.function_call) != b"null"):
                texts.call(choice.index)
        if choice.finish_reason is not None:
            texts.finish(choice.index, choice.finish_reason)


def _read_response(data: bytes, texts: Texts) -> None:
    response = _response.decode(data)
    _add_items(response.output, texts)
    _finish_response(response, texts)


def _read_response_event(data: bytes, texts: Texts) -> None:
    event = _response_event.decode(data)
    if event.type == "response.output_text.delta":
        texts.add(0, _text.decode(event.delta))
    elif event.item is not None and event.item.type.endswith("_call"):
        texts.call(0)
    elif event.response is not None and event.type in {"response.completed", "response.incomplete"}:
        _finish_response(event.response, texts)


def _add_items(items: Iterable[_Item], texts: Texts) -> None:
    for item in items:
        if item.type.endswith("_call"):
            texts.call(0)
        if item.type == "message":
            for part in item.content or ():
                if part.type == "output_text":
                    texts.add(0, part.text)


def _finish_response(response: _Response, texts: Texts) -> None:
    details = response.incomplete_details
    texts.finish(0, response.status if details is None or details.reason is None else details.reason)


def _read_message(data: bytes, texts: Texts) -> None:
    message = _message.decode(data)
    for block in message.content:
        _add_block(block, texts)
    texts.finish(0, message.stop_reason)


def _read_message_event(data: bytes, texts: Texts) -> None:
    event = _message_event.decode(data)
    if event.content_block is not None:
        _add_block(event.content_block, texts)
    if event.delta is not None:
        texts.add(0, event.delta.text)
        texts.finish(0, event.delta.stop_reason)


def _add_block(block: _Part, texts: Texts) -> None:
    if block.type == "tool_use":
        texts.call(0)
    elif block.type == "text":
        texts.add(0, block.text)


_SHAPES: dict[str, tuple[Read, Read]] = {
    "/v1/chat/completions": (_read_completion, _read_completion),
    "/v1/completions": (_read_completion, _read_completion),
    "/v1/responses": (_read_response, _read_response_event),
    "/v1/messages": (_read_message, _read_message_event),
}
"""By path, how a whole answer and how an event of a stream is read."""
PATHS = frozenset(_SHAPES)


class Reader:
    """Reads one response; `feed` gets its chunks in their order."""

    __slots__ = ("_buffer", "_failed", "_read", "_searched", "_streams", "texts")

    def __init__(self, path: str, headers: Iterable[tuple[bytes, bytes]], held: Held) -> None:
        """A reader for a response with these headers on one of PATHS."""
        types = {name.lower(): value for name, value in headers}
        content_type = types.get(b"content-type", b"")
        self._streams = content_type.startswith(b"text/event-stream")
        self._read = _SHAPES[path][self._streams]
        self._failed = b"content-encoding" in types or not (
            self._streams or content_type.startswith(b"application/json")
        )
        self._buffer = bytearray()
        self._searched = 0
        """How far the buffer has no end of an event."""
        self.texts = Texts(held)

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if self._failed:
            return
        if self._streams and not self._buffer and chunk.endswith(b"\n\n"):
            # What vLLM sends: whole events.
            self._events(chunk)
            return
        self._buffer += chunk
        if self._streams:
            end = self._buffer.rfind(b"\n\n", self._searched)
            self._searched = max(0, len(self._buffer) - 1)
            if end >= 0:
                events = bytes(self._buffer[: end + 2])
                del self._buffer[: end + 2]
                self._searched = 0
                self._events(events)
        if len(self._buffer) > MOST_BYTES:
            self._fail()

    def _events(self, events: bytes) -> None:
        for event in events.split(b"\n\n"):
            if event.startswith(b"data: "):
                data = event[6:]
            else:
                # The name of the event comes first.
                _, _, data = event.partition(b"\ndata:")
            if len(data) > MOST_BYTES:
                self._fail()
            elif data and data != b"[DONE]":
                self._decode(data)

    def _decode(self, data: bytes) -> None:
        try:
            self._read(data, self.texts)
        except (DecodeError, ValueError, RecursionError):
            self._fail()

    def _fail(self) -> None:
        self._failed = True
        self._buffer = bytearray()

    def choices(self) -> list[Choice] | None:
        """The choices of a response that is complete; None if it cannot be read."""
        if not self._failed and not self._streams:
            self._decode(bytes(self._buffer))
        self._buffer = bytearray()
        return None if self._failed else self.texts.choices()
