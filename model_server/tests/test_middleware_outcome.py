"""Errors inside an answer are found wherever the answer is cut into chunks, and little is kept for that."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.outcome import SEAM, Scanner, of_engine, scanner

SSE = [(b"Content-Type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
BEFORE = b'data: {"choices":[{"delta":{"content":"an error is a failed abort"}}]}\n\n'
SIGNS = [
    (b'data: {"error": {"message": "x"}}', "stream_error"),
    (b"event: error\ndata: {}", "stream_error"),
    (b"event: response.failed\ndata: {}", "stream_error"),
    (b'data: {"choices":[{"finish_reason":"abort"}]}', "aborted"),
    (b'data: {"choices":[{"finish_reason": "error"}]}', "stream_error"),
]


def found(answer: bytes, cuts: list[int]) -> str | None:
    looking = scanner("/v1/chat/completions", SSE)
    assert looking is not None
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    for begin, end in itertools.pairwise(edges):
        looking.feed(answer[begin:end])
    return looking.found


@pytest.mark.parametrize(("sign", "outcome"), SIGNS)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_a_sign_is_found_wherever_the_answer_is_cut(sign: bytes, outcome: str, cuts: list[int]) -> None:
    assert found(BEFORE + sign + b"\n\ndata: [DONE]\n\n", cuts) == outcome


@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_nothing_is_found_where_nothing_is(cuts: list[int]) -> None:
    assert found(BEFORE * 2 + b"data: [DONE]\n\n", cuts) is None


def test_byte_by_byte_is_no_exception() -> None:
    answer = BEFORE + SIGNS[3][0]
    assert found(answer, list(range(len(answer)))) == "aborted"


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_what_is_kept_of_an_answer_is_bounded(chunks: list[bytes]) -> None:
    looking = scanner("/v1/completions", JSON)
    assert looking is not None
    for chunk in chunks:
        looking.feed(chunk)
        assert len(looking._carry) <= SEAM == 23


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/embeddings", JSON),
        ("/v1/responses", JSON),
        ("/v1/audio/transcriptions", [(b"content-type", b"text/plain")]),
        ("/v1/chat/completions", [*JSON, (b"content-encoding", b"gzip")]),
        ("/v1/chat/completions", []),
    ],
    ids=["embeddings", "repeats-the-users-json", "text", "compressed", "unknown"],
)
def test_answers_that_can_hold_no_sign_are_not_looked_through(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert scanner(path, headers) is None


def test_events_of_responses_count_though_its_keys_do_not() -> None:
    looking = scanner("/v1/responses", SSE)
    assert isinstance(looking, Scanner)
    looking.feed(b'event: response.created\ndata: {"metadata":{"finish_reason":"error"}}\n\n')
    assert looking.found is None
    looking.feed(b"event: response.failed\ndata: {}\n\n")
    assert looking.found == "stream_error"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("stop", "ok"), ("length", "ok"), ("abort", "aborted"), ("error", "stream_error"), ("new", "ok")],
)
def test_the_engines_word_counts_too(reason: str, outcome: str) -> None:
    assert of_engine(reason) == outcome
