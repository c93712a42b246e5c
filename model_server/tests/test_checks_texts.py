"""Text, tool calls and finish reasons out of responses, in every shape and in any chunks."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.checks import texts
from model_server.serin_model_server.checks.answer import AT_LIMIT, FINISHED, UNKNOWN, Choice
from model_server.serin_model_server.checks.texts import PATHS, Held, Reader
from model_server.serin_model_server.middleware import INFERENCE_PATHS

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
JSON = [(b"content-type", b"application/json")]
SSE = [(b"Content-Type", b"text/event-stream; charset=utf-8")]


def whole(content: Any) -> bytes:
    return json.dumps(content).encode()


def stream(*events: Any, named: bool = False, done: bool = True) -> bytes:
    written = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*written, "data: [DONE]\n\n" if done else ""]).encode()


def read(path: str, headers: Any, *chunks: bytes, held: Held | None = None) -> list[Choice] | None:
    reader = Reader(path, headers, Held() if held is None else held)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.choices()


def chat(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}]}


def answer(text: str, *, called: bool = False, finish: str = FINISHED) -> Choice:
    return Choice(text, len(text), called, finish)


SHAPES: dict[str, tuple[str, Any, bytes, list[Choice]]] = {
    "chat": (
        CHAT,
        JSON,
        whole(
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "hé", "tool_calls": []},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"completion_tokens": 3},
            }
        ),
        [answer("hé")],
    ),
    "chat, two choices": (
        CHAT,
        JSON,
        whole(
            {
                "choices": [
                    {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
                    {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
                ]
            }
        ),
        [answer("a"), answer("b", finish=AT_LIMIT)],
    ),
    "chat, tool call": (
        CHAT,
        JSON,
        whole(
            {
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "tool_calls",
                        "message": {"content": None, "tool_calls": [{"function": {"name": "f"}}]},
                    }
                ]
            }
        ),
        [answer("", called=True)],
    ),
    "chat, call of a function": (
        CHAT,
        JSON,
        whole({"choices": [{"message": {"content": None, "function_call": {"name": "f"}}, "finish_reason": "stop"}]}),
        [answer("", called=True)],
    ),
    "chat, no call": (
        CHAT,
        JSON,
        whole({"choices": [{"message": {"content": "", "function_call": None}, "finish_reason": "stop"}]}),
        [answer("")],
    ),
    "chat stream": (
        CHAT,
        SSE,
        stream(
            chat(role="assistant", content=""),
            chat(content="Hel"),
            chat(content="lo \n\n"),
            chat(finish="stop"),
            {"choices": [], "usage": {"completion_tokens": 3}},
        ),
        [answer("Hello \n\n")],
    ),
    "chat stream, reasoning is no text": (
        CHAT,
        SSE,
        stream(chat(reasoning="hm", reasoning_content="hm"), chat(content="a"), chat(finish="length")),
        [answer("a", finish=AT_LIMIT)],
    ),
    "chat stream, two choices": (
        CHAT,
        SSE,
        stream(chat(1, content="b"), chat(0, content="a"), chat(1, content="B"), chat(0, "stop"), chat(1, "stop")),
        [answer("a"), answer("bB")],
    ),
    "chat stream, tool call": (
        CHAT,
        SSE,
        stream(chat(tool_calls=[{"index": 0, "function": {"name": "f"}}]), chat(finish="tool_calls")),
        [answer("", called=True)],
    ),
    "completions": (
        COMPLETIONS,
        JSON,
        whole({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}),
        [answer("a")],
    ),
    "completions stream": (
        COMPLETIONS,
        SSE,
        stream(
            *(
                {"choices": [{"index": 0, "text": text, "finish_reason": end}]}
                for text, end in (("a", None), ("b", "stop"))
            )
        ),
        [answer("ab")],
    ),
    "responses": (
        RESPONSES,
        JSON,
        whole(
            {
                "status": "completed",
                "incomplete_details": None,
                "instructions": "x",
                "metadata": {"output": "y"},
                "output": [
                    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
                ],
            }
        ),
        [answer("a")],
    ),
    "responses, incomplete": (
        RESPONSES,
        JSON,
        whole(
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "function_call", "name": "f", "arguments": "{}"}],
            }
        ),
        [answer("", called=True, finish=AT_LIMIT)],
    ),
    "responses stream": (
        RESPONSES,
        SSE,
        stream(
            {"type": "response.created", "response": {"status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
            {"type": "response.reasoning_text.delta", "delta": "hm"},
            {"type": "response.output_text.delta", "delta": "a", "output_index": 0},
            {"type": "response.output_text.delta", "delta": "b\\"},
            {"type": "response.output_text.done", "text": "ab\\"},
            {"type": "response.output_item.added", "item": {"type": "function_call"}},
            {
                "type": "response.completed",
                "response": {
                    "status": "completed",
                    "output": [{"type": "message", "content": [{"type": "output_text", "text": "ab\\"}]}],
                },
            },
            named=True,
            done=False,
        ),
        [answer("ab\\", called=True)],
    ),
    "messages": (
        MESSAGES,
        JSON,
        whole(
            {
                "type": "message",
                "stop_reason": "max_tokens",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "name": "f", "input": {}},
                ],
            }
        ),
        [answer("a", called=True, finish=AT_LIMIT)],
    ),
    "messages stream": (
        MESSAGES,
        SSE,
        stream(
            {"type": "message_start", "message": {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "f"}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
            named=True,
            done=False,
        ),
        [answer("a", called=True)],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_is_read(shape: str) -> None:
    path, headers, data, expected = SHAPES[shape]
    assert read(path, headers, data) == expected


@given(st.sampled_from(sorted(SHAPES)), st.lists(st.integers(0, 2000), max_size=8))
def test_chunks_do_not_matter(shape: str, cuts: list[int]) -> None:
    path, headers, data, expected = SHAPES[shape]
    places = [0, *sorted(cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(places)]
    assert read(path, headers, *chunks) == expected


def test_every_path_that_generates_text_is_read() -> None:
    assert {path for path in INFERENCE_PATHS if "audio" not in path and "embeddings" not in path} == PATHS


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"\xff"),
        (JSON, b'{"choices": [{"message": {"content": 5}}]}'),
        (JSON, b'{"choices": ' + b"[" * 200_000),
        (JSON, b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        (JSON, whole({"choices": [{"index": n, "text": "a"} for n in range(129)]})),
        (JSON, b'{"choices":[' + b"{}," * 300_000 + b"{}]}"),
        (SSE, stream(*(chat(n, content="a") for n in range(129)))),
        (JSON, whole({"choices": [{"message": {"content": "x" * (10 << 20)}}]})),
        (SSE, b"data: {\n\n"),
        (SSE, b"data: " + b"x" * (2 << 20)),
        (SSE, stream(chat(content="x" * (2 << 20)))),
        ([*JSON, (b"Content-Encoding", b"gzip")], b"{}"),
        ([(b"content-type", b"text/plain")], b"{}"),
        ([], b"{}"),
    ],
)
def test_unreadable_response_has_no_answer(headers: Any, data: bytes) -> None:
    assert read(CHAT, headers, *(data[start : start + 65_536] for start in range(0, len(data), 65_536))) is None


def test_long_stream_is_counted_and_cut() -> None:
    held = Held()
    chunk = stream(chat(content="é" * 1000), done=False)
    reader = Reader(CHAT, SSE, held)
    for _ in range(10_000):
        reader.feed(chunk)
    found = reader.choices()

    assert found is not None
    assert len(found[0].text) == texts.MOST_CHARACTERS == held.now == reader.texts.kept
    assert found[0].characters == 10_000_000
    assert found[0].is_cut
    assert found[0].finish == UNKNOWN


def test_process_keeps_a_bounded_amount_of_text() -> None:
    held = Held(most=5000)
    chunk = stream(chat(content="x" * 1000), chat(finish="stop"))
    first, second = (Reader(CHAT, SSE, held) for _ in range(2))
    first.feed(chunk)
    second.feed(chunk)

    assert held.now == first.texts.kept == 4096
    assert second.choices() == [Choice("", 1000, called=False, finish=FINISHED)]
    held.give_back(first.texts.kept)
    assert held.now == 0


def test_response_without_choices_is_empty() -> None:
    assert read(CHAT, JSON, b'{"choices": []}') == [Choice("", 0, called=False, finish=UNKNOWN)]
    assert read(CHAT, SSE, b"") == [Choice("", 0, called=False, finish=UNKNOWN)]


@given(st.binary(max_size=300), st.sampled_from(sorted(PATHS)), st.booleans())
def test_no_bytes_raise(data: bytes, path: str, streams: bool) -> None:  # noqa: FBT001 - drawn
    read(path, SSE if streams else JSON, b"data: " * streams + data, b"\n\n")
