"""Sticky requests: which requests of a conversation, or with a header, get the same revision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.document import parse
from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.conversation import first_user_text
from model_server.serin_model_server.selection import is_canary, select
from model_server.tests.split_documents import CANARY, shared

SESSION = b"x-session-id"


def chosen(headers: list[tuple[bytes, bytes]], document: Any, body: Any = None, path: str = paths.CHAT) -> set[str]:
    """The revisions of twenty equal requests."""
    raw = None if body is None else json.dumps(body).encode()
    return {select(headers, document, path, raw).identity.revision for _ in range(20)}


def test_equal_header_gets_equal_revision() -> None:
    document = parse(shared(5_000, key={"header": "X-Session-Id"}))
    found = [chosen([(SESSION, f"s{number}".encode())], document) for number in range(200)]

    assert {len(each) for each in found} == {1}
    assert 60 < sum(each == {CANARY} for each in found) < 140
    assert is_canary(document, b"s1") == (chosen([(SESSION, b"s1")], document) == {CANARY})


@pytest.mark.parametrize("headers", [[], [(SESSION, b"")], [(SESSION, b"a")] * 2, [(b"x-other", b"a")]], ids=str)
def test_missing_or_repeated_header_is_random(headers: list[tuple[bytes, bytes]]) -> None:
    document = parse(shared(5_000, key={"header": "x-session-id"}))
    # All equal once in 500,000 runs.
    assert len(chosen(headers, document)) == 2


@given(st.binary(min_size=1, max_size=30), st.integers(0, 10_000), st.integers(0, 10_000))
def test_growing_weight_moves_no_session_back(value: bytes, one: int, other: int) -> None:
    low, high = sorted((one, other))
    before, after = (
        select([(SESSION, value)], parse(shared(weight, key={"header": "x-session-id"}))).identity.revision
        for weight in (low, high)
    )
    assert after == CANARY or before != CANARY


def test_conversation_keeps_its_revision_from_turn_to_turn() -> None:
    document = parse(shared(5_000, key={"conversation": {}}))
    turns = [{"role": "system", "content": "x"}]
    for number in range(50):
        first = {"role": "user", "content": f"question {number}"}
        found = set()
        for length in range(4):
            more = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}] * length
            found |= chosen([], document, {"messages": [*turns, first, *more]})
        assert len(found) == 1


TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (paths.CHAT, {"messages": [{"role": "user", "content": "a"}]}, b"a"),
        (paths.CHAT, {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [TEXT]}]}, b"a"),
        (paths.MESSAGES, {"messages": [{"role": "user", "content": [TEXT | {"cache_control": {}}]}]}, b"a"),
        (paths.RESPONSES, {"input": "a"}, b"a"),
        (paths.RESPONSES, {"input": [{"type": "reasoning"}, {"role": "user", "content": "a"}]}, b"a"),
        (paths.CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, b'[{"type": "image_url"}]'),
        (paths.CHAT, {"messages": [{"role": "user", "content": ""}]}, None),
        (paths.CHAT, {"messages": []}, None),
        (paths.CHAT, {"messages": "a"}, None),
        (paths.CHAT, {"messages": [1]}, None),
        (paths.CHAT, {}, None),
        (paths.RESPONSES, {"input": 1}, None),
        (paths.CHAT, [], None),
    ],
)
def test_text_of_the_first_user_message(path: str, body: Any, expected: bytes | None) -> None:
    assert first_user_text(path, json.dumps(body).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"messages":' + b"[" * 100_000, '{"input":"a"}'.encode("utf-16")])
def test_body_that_is_not_json_has_no_conversation(body: bytes) -> None:
    assert first_user_text(paths.CHAT, body) is None
    assert first_user_text(paths.RESPONSES, body) is None


@given(st.binary(max_size=100))
def test_any_body_has_a_text_or_none(body: bytes) -> None:
    assert first_user_text(paths.CHAT, body) is None or body.startswith(b"{")
