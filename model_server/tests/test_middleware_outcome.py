"""Errors inside a response are found for any split into chunks, and little of the response is stored."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.outcome import SEAM, Scanner, of_engine, scanner

SSE = [(b"Content-Type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
BEFORE = b'data: {"choices":[{"delta":{"content":"an error is a failed abort"}}]}\n\n'
ERRORS = [
    (b'data: {"error": {"message": "x"}}', "stream_error"),
    (b"event: error\ndata: {}", "stream_error"),
    (b"event: response.failed\ndata: {}", "stream_error"),
    (b'data: {"choices":[{"finish_reason":"abort"}]}', "aborted"),
    (b'data: {"choices":[{"finish_reason": "error"}]}', "stream_error"),
]


def found(answer: bytes, cuts: list[int]) -> str | None:
    searching = scanner("/v1/chat/completions", SSE)
    assert searching is not None
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    for begin, end in itertools.pairwise(edges):
        searching.feed(answer[begin:end])
    return searching.found


@pytest.mark.parametrize(("error", "outcome"), ERRORS)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_error_is_found_at_any_chunk_boundaries(error: bytes, outcome: str, cuts: list[int]) -> None:
    assert found(BEFORE + error + b"\n\ndata: [DONE]\n\n", cuts) == outcome


@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_nothing_is_found_in_response_without_error(cuts: list[int]) -> None:
    assert found(BEFORE * 2 + b"data: [DONE]\n\n", cuts) is None


def test_error_is_found_byte_by_byte() -> None:
    answer = BEFORE + ERRORS[3][0]
    assert found(answer, list(range(len(answer)))) == "aborted"


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_stored_part_of_response_is_bounded(chunks: list[bytes]) -> None:
    searching = scanner("/v1/completions", JSON)
    assert searching is not None
    for chunk in chunks:
        searching.feed(chunk)
        assert len(searching._carry) <= SEAM == 23


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
def test_responses_that_cannot_contain_error_are_not_searched(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert scanner(path, headers) is None


def test_responses_api_is_searched_for_events_only() -> None:
    searching = scanner("/v1/responses", SSE)
    assert isinstance(searching, Scanner)
    searching.feed(b'event: response.created\ndata: {"metadata":{"finish_reason":"error"}}\n\n')
    assert searching.found is None
    searching.feed(b"event: response.failed\ndata: {}\n\n")
    assert searching.found == "stream_error"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("stop", "ok"), ("length", "ok"), ("abort", "aborted"), ("error", "stream_error"), ("new", "ok")],
)
def test_finish_reason_determines_outcome(reason: str, outcome: str) -> None:
    assert of_engine(reason) == outcome
