"""Durations in the form of Kubernetes: `30s`, `10m`, `1h30m`.

The grammar is that of Gateway API's `Duration` (GEP-2257) without milliseconds; the maximum is 30 days. Used by the API
models only.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from serin.api.rule import VALIDATIONS

PATTERN = "^([0-9]{1,5}(h|m|s)){1,3}$"
MAX_HOURS = 720
LONGEST = timedelta(hours=MAX_HOURS)
MESSAGE = "Write a duration such as 30s, 10m or 1h30m, at most 720h."
POSITIVE_MESSAGE = "Write a duration such as 30s, 10m or 1h30m, above zero and at most 720h."
_UNITS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(value: object) -> object:
    """Parse a text such as `1h30m` into a timedelta; any other type is returned unchanged, for pydantic to validate.

    Raises:
        ValueError: the text does not follow the grammar, or the duration is longer than 30 days.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch(PATTERN.removeprefix("^").removesuffix("$"), value, flags=re.ASCII):
        raise ValueError(MESSAGE)
    span = timedelta(seconds=sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)(h|m|s)", value)))
    if span > LONGEST:
        raise ValueError(MESSAGE)
    return span


def parse_positive_duration(value: object) -> object:
    """Parse a duration above zero, as `parse_duration` does.

    Raises:
        ValueError: as `parse_duration`, or the duration is zero.
    """
    try:
        span = parse_duration(value)
    except ValueError as error:
        raise ValueError(POSITIVE_MESSAGE) from error
    if span == timedelta():
        raise ValueError(POSITIVE_MESSAGE)
    return span


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: `1h30m` for 90 minutes, `0s` for zero."""
    left = int(value.total_seconds())
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _schema(least: str, message: str) -> dict[str, Any]:
    # The pattern comes first: `duration()` fails on other texts, and users would see its error instead of the message.
    rule = f"self.matches('{PATTERN}') && duration(self) <= duration('{MAX_HOURS}h') && duration(self) {least}"
    return {"type": "string", "maxLength": 18, VALIDATIONS: [{"rule": rule, "message": message}]}


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema(">= duration('0s')", MESSAGE)),
]
PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(parse_positive_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema("> duration('0s')", POSITIVE_MESSAGE)),
]
