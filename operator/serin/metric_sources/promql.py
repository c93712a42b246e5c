"""PromQL text: adds matchers to plain selectors and splits long lists of values into several queries. Pure.

Called by `serin.metric_sources.queries`. `serin.api.selector` defines what a plain selector is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import timedelta

from serin.api.selector import PLAIN
from serin.metric_sources.port import RefusedError

_BLANK = " \t\r\n"
CHUNK = 50
"""Most label values in one query: an answer must fit into memory, and the next one is made while it is counted."""

_plain = re.compile(PLAIN)


def is_plain(selector: str) -> bool:
    """Whether this is a plain vector selector, without range, function, operator and offset."""
    # Python's `$` also matches before a last newline, which the pattern allows as space.
    return _plain.match(selector) is not None


def with_matcher(selector: str, matcher: str) -> str:
    """The selector with one more matcher.

    Raises:
        RefusedError: it is not a plain selector.
    """
    if not is_plain(selector):
        raise RefusedError(
            f'{selector[:200]!r} is not a plain selector; write a metric\'s name, or name{{label="value"}}, '
            "without range, function, operator or offset."
        )
    name, brace, inside = selector.strip(_BLANK).partition("{")
    # A plain selector ends with its closing brace.
    matchers = inside[:-1].strip(_BLANK).removesuffix(",").rstrip(_BLANK) if brace else ""
    return f"{name.rstrip(_BLANK)}{{{matchers}{',' if matchers else ''}{matcher}}}"


def name_of(selector: str) -> str:
    """The metric's name in a plain selector."""
    return selector.partition("{")[0].strip(_BLANK)


def one_of(label: str, values: Iterable[str]) -> str:
    """A matcher for exactly these values of a label."""
    return f"{label}=~{_pattern(values)}"


def none_of(label: str, values: Iterable[str]) -> str:
    """A matcher for all other values of a label, and for series without it."""
    return f"{label}!~{_pattern(values)}"


def over_range(period: timedelta) -> str:
    """A range in whole seconds, to follow a selector."""
    return f"[{math.ceil(period.total_seconds())}s]"


def _pattern(values: Iterable[str]) -> str:
    return json.dumps("|".join(re.escape(value) for value in values), ensure_ascii=False)


def chunks(values: Iterable[str]) -> list[list[str]]:
    """The distinct values, sorted, in lists of at most CHUNK."""
    unique = sorted(set(values))
    return [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
