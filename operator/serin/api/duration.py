"""Durations as Kubernetes users write them: `30s`, `10m`, `1h30m`.

The grammar is that of Gateway API's `Duration` (GEP-2257) without milliseconds. Used by the API models only.
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

PATTERN = r"^([0-9]{1,5}(h|m|s)){1,3}$"
_UNITS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(value: object) -> object:
    """Turn `1h30m` into a timedelta; anything that is not text is left to pydantic.

    Raises:
        ValueError: text that does not follow the grammar.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch(PATTERN, value):
        raise ValueError(f"{value!r} is not a duration; write it like 30s, 10m or 1h30m.")
    return timedelta(seconds=sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)(h|m|s)", value)))


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: 90 minutes are `1h30m`, nothing is `0s`."""
    left = int(value.total_seconds())
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "maxLength": 18}),
]
