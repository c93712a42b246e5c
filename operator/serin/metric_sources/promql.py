"""PromQL text: how a matcher is added to a plain selector. Pure.

Used by `serin.metric_sources.queries`. What a plain selector is, the API says (`serin.api.selector`). Nothing here
knows what is asked for, or of whom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from serin.api.selector import PLAIN
from serin.errors import MetricsError

_BLANK = " \t\r\n"
CHUNK = 200
"""Most names in one query."""

_plain = re.compile(PLAIN)


def is_plain(selector: str) -> bool:
    """Whether this is a plain vector selector: no range, no function, no operator, no offset."""
    # Python's `$` also matches before a last newline; here that newline is a space like any other.
    return _plain.match(selector) is not None


def with_matcher(selector: str, matcher: str) -> str:
    """The selector, narrowed by one more matcher.

    Raises:
        MetricsError: it is no plain selector.
    """
    if not is_plain(selector):
        raise MetricsError(
            f'{selector[:200]!r} is no plain selector; write a metric\'s name, or name{{label="value"}}, '
            "without range, function, operator or offset."
        )
    name, brace, inside = selector.strip(_BLANK).partition("{")
    # The last character is the brace that closes: a plain selector has nothing behind it.
    matchers = inside[:-1].strip(_BLANK).removesuffix(",").rstrip(_BLANK) if brace else ""
    return f"{name.rstrip(_BLANK)}{{{matchers}{',' if matchers else ''}{matcher}}}"


def one_of(label: str, values: Iterable[str]) -> str:
    """A matcher for exactly these values of a label."""
    return f"{label}=~{_pattern(values)}"


def none_of(label: str, values: Iterable[str]) -> str:
    """A matcher for every other value of a label, none at all included."""
    return f"{label}!~{_pattern(values)}"


def _pattern(values: Iterable[str]) -> str:
    return json.dumps("|".join(re.escape(value) for value in values), ensure_ascii=False)


def chunks(names: Iterable[str]) -> list[list[str]]:
    """The distinct names, in order, in parts that one query can hold."""
    unique = sorted(set(names))
    return [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
