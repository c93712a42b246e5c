"""The result of each kind of check for one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.checks.answer import (
    AT_LIMIT,
    FINISHED,
    NOT_ASKED,
    PASS,
    RESULTS,
    UNKNOWN,
    Choice,
    overall,
)
from model_server.serin_model_server.checks.kinds import IN_CHILD, INLINE, prepare
from model_server.serin_model_server.checks.repetition import repeats

SCHEMA = {
    "type": "object",
    "required": ["queue"],
    "properties": {"queue": {"enum": ["network", "mail"]}, "next": {"$ref": "#"}},
    "additionalProperties": False,
}


def choice(text: str = "", *, cut: bool = False, called: bool = False, finish: str = FINISHED) -> Choice:
    return Choice(text, len(text) + cut, called, finish)


CASES: list[tuple[str, dict[str, Any], Choice, str]] = [
    ("Empty", {}, choice("a"), "pass"),
    ("Empty", {}, choice(" \n\t"), "fail"),
    ("Empty", {}, choice(called=True), "pass"),
    ("Empty", {}, choice(" ", cut=True), "skipped"),
    ("Truncated", {}, choice("a"), "pass"),
    ("Truncated", {}, choice("a", finish=AT_LIMIT), "fail"),
    ("Truncated", {}, choice("a", finish=UNKNOWN), "skipped"),
    ("MaxChars", {"maxChars": 3}, choice("abc"), "pass"),
    ("MaxChars", {"maxChars": 3}, choice("abcd"), "fail"),
    ("MaxChars", {"maxChars": 3}, choice("abc", cut=True), "fail"),
    ("Contains", {"texts": ["x", "b"]}, choice("abc"), "pass"),
    ("Contains", {"texts": ["x"]}, choice("abc"), "fail"),
    ("Contains", {"texts": ["x"]}, choice("abc", cut=True), "skipped"),
    ("Contains", {"texts": ["x"]}, choice(called=True), ""),
    ("Contains", {"texts": ["b"], "expect": "Absent"}, choice("abc"), "fail"),
    ("Contains", {"texts": ["x"], "expect": "Absent"}, choice("abc"), "pass"),
    ("Contains", {"texts": ["x"], "expect": "Absent"}, choice("abc", cut=True), "skipped"),
    ("Regex", {"pattern": "b+c"}, choice("abbc"), "pass"),
    ("Regex", {"pattern": "^b"}, choice("abbc"), "fail"),
    ("Regex", {"pattern": "^b", "expect": "Absent"}, choice("abbc"), "pass"),
    ("Regex", {"pattern": "b", "expect": "Absent"}, choice("abbc", cut=True), "fail"),
    ("Regex", {"pattern": "x"}, choice("abbc", cut=True), "skipped"),
    ("Regex", {"pattern": "(a|aa)+$"}, choice("a" * 200 + "b"), "skipped"),
    ("Refusal", {}, choice("I'm sorry, but I can't help with that."), "fail"),
    ("Refusal", {}, choice("I\u2019m sorry but no."), "fail"),
    ("Refusal", {}, choice("Unfortunately, i cannot assist here."), "fail"),
    ("Refusal", {}, choice("As an AI language model, I have no opinion."), "fail"),
    ("Refusal", {}, choice("The printer says it is sorry. I can help."), "pass"),
    ("Refusal", {}, choice("x" * 200 + "As an AI"), "pass"),
    ("Refusal", {"patterns": ["leider"]}, choice("Das geht LEIDER nicht."), "fail"),
    ("Refusal", {"patterns": ["leider"]}, choice("As an AI"), "pass"),
    ("Repetition", {}, choice("The cat sat. " * 5), "fail"),
    ("Repetition", {}, choice("Well: " + "no. " * 30), "fail"),
    ("Repetition", {}, choice("x" * 80), "fail"),
    ("Repetition", {}, choice("x" * 40), "pass"),
    ("Repetition", {}, choice("10000000"), "pass"),
    ("Repetition", {}, choice("The cat sat. " * 3), "pass"),
    ("Repetition", {"times": 2}, choice("The cat sat on the mat in the hall. " * 2), "fail"),
    ("Repetition", {}, choice("".join(f"{n} is so. " + "ab" * 200 for n in range(10))), "fail"),
    ("Repetition", {}, choice(" ".join(map(str, range(400)))), "pass"),
    ("Repetition", {}, choice("x" * 80, cut=True), "skipped"),
    ("Schema", {"outputSchema": SCHEMA}, choice('{"queue": "mail", "next": {"queue": "network"}}'), "pass"),
    ("Schema", {"outputSchema": SCHEMA}, choice('{"queue": "mail", "next": {}}'), "fail"),
    ("Schema", {"outputSchema": SCHEMA}, choice('{"category": "mail"}'), "fail"),
    ("Schema", {"outputSchema": SCHEMA}, choice('Sure: {"queue": "mail"}'), "fail"),
    ("Schema", {"outputSchema": SCHEMA}, choice(""), "fail"),
    ("Schema", {"outputSchema": {}}, choice("NaN"), "fail"),
    ("Schema", {"outputSchema": SCHEMA}, choice(called=True), ""),
    ("Schema", {"outputSchema": SCHEMA}, choice('{"queue"', cut=True), "skipped"),
]


@pytest.mark.parametrize(("kind", "parameters", "answer", "result"), CASES)
def test_kind_judges_an_answer(kind: str, parameters: dict[str, Any], answer: Choice, result: str) -> None:
    assert prepare(kind, parameters)(answer) == result


def test_cases_cover_every_kind_and_result() -> None:
    assert {kind for kind, *_ in CASES} == INLINE.keys() | IN_CHILD.keys()
    assert {result for *_, result in CASES} == {*RESULTS, NOT_ASKED}


@pytest.mark.parametrize(
    ("kind", "parameters", "why"),
    [
        ("Empty", {"x": 1}, "unknown parameter 'x'"),
        ("Truncated", {"x": 1}, "unknown parameter"),
        ("MaxChars", {}, "maxChars is not a whole number from 1"),
        ("MaxChars", {"maxChars": True}, "maxChars"),
        ("MaxChars", {"maxChars": 1.5}, "maxChars"),
        ("MaxChars", {"maxChars": 0}, "maxChars"),
        ("Contains", {}, "texts are not 1 to 16 texts"),
        ("Contains", {"texts": [""]}, "texts"),
        ("Contains", {"texts": ["a", 1]}, "texts"),
        ("Contains", {"texts": ["a"] * 17}, "texts"),
        ("Contains", {"texts": ["a"], "expect": "present"}, "expect"),
        ("Regex", {"pattern": "("}, "pattern is not valid"),
        ("Regex", {"pattern": "x" * 513}, "pattern"),
        ("Refusal", {"patterns": []}, "patterns"),
        ("Refusal", {"patterns": ["("]}, "not valid"),
        ("Repetition", {"times": 1}, "times"),
        ("Repetition", {"compressionRatio": "2"}, "compressionRatio"),
        ("Schema", {}, "no outputSchema"),
        ("Schema", {"outputSchema": {"type": "objekt"}}, "not a JSON Schema"),
        ("Schema", {"outputSchema": {"$ref": "http://example.com/s.json"}}, "not a part of it"),
        ("Schema", {"outputSchema": {"properties": {"a": {"$ref": "other.json#/a"}}}}, "not a part of it"),
        ("Schema", {"outputSchema": {"anyOf": [{"$dynamicRef": "file:///etc/passwd"}]}}, "not a part of it"),
    ],
)
def test_malformed_parameters_are_refused(kind: str, parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        prepare(kind, parameters)


def test_reference_in_data_of_a_schema_is_no_reference() -> None:
    schema = {"const": {"$ref": "http://example.com"}, "properties": {"$ref": {"type": "string"}}}
    judge = prepare("Schema", {"outputSchema": schema})
    assert judge(choice(json.dumps({"$ref": "http://example.com"}))) == PASS


@given(st.text(min_size=1, max_size=200), st.integers(4, 8), st.text(max_size=50))
def test_repeated_piece_is_found_whatever_it_is(piece: str, times: int, before: str) -> None:
    repeated = piece * times
    assert repeats(before + repeated, 4) or len(repeated) < 60


@given(st.text(alphabet="ab", max_size=300))
def test_repetition_is_as_defined(text: str) -> None:
    expected = any(
        len(text) >= max(4 * period, 60)
        and all(text[-place] == text[-place - period] for place in range(1, max(4 * period, 60) - period + 1))
        for period in range(1, 201)
    )
    assert repeats(text, 4) == expected


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], ""),
        (["", ""], ""),
        (["", "pass"], "pass"),
        (["skipped", "pass"], "skipped"),
        (["pass", "skipped", "fail"], "fail"),
    ],
)
def test_answer_fails_if_any_choice_fails(results: list[str], expected: str) -> None:
    assert overall(results) == expected
