"""Durations: valid and invalid texts, and that format and parse are inverse."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.api.duration import LONGEST, format_duration, parse_duration, parse_positive_duration

SECONDS = st.integers(min_value=0, max_value=int(LONGEST.total_seconds()))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("90m", 5400), ("1h1m1s", 3661), ("720h", 2592000)],
)
def test_duration_is_parsed(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "1d", "1.5h", "-1s", "1h ", "1h\n", "721h", "1s1s1s1s", "123456s", "٣s"])
def test_invalid_duration_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s, 10m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0h0m0s", "x"])
def test_zero_is_not_a_positive_duration(text: str) -> None:
    with pytest.raises(ValueError, match="above zero"):
        parse_positive_duration(text)


@pytest.mark.parametrize("value", [timedelta(minutes=1), None, 5])
def test_value_that_is_not_a_string_is_returned_unchanged(value: object) -> None:
    assert parse_duration(value) is value


@given(SECONDS)
def test_formatted_duration_parses_to_the_same_value(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert parse_duration(format_duration(span)) == span


@given(st.from_regex(r"[0-9]{1,2}[hms]([0-9]{1,2}[hms]){0,2}", fullmatch=True).filter(str.isascii))
def test_parse_and_format_give_the_shortest_text(text: str) -> None:
    shortest = format_duration(parse_duration(text))  # type: ignore[arg-type]
    assert format_duration(parse_duration(shortest)) == shortest  # type: ignore[arg-type]
    assert len(shortest) <= max(len(text) + 2, 2)
