"""PromQL text: what counts as a plain selector, and how a matcher is added to one. Pure.

Used by `serin.metric_sources.questions`. PLAIN is within RE2, so that the API can refuse the same selectors by the same
expression (it holds no apostrophe, so that CEL can quote it). Nothing here knows what is asked for, or of whom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from serin.errors import MetricsError

_BLANK = " \t\r\n"
_SPACE = r"[ \t\r\n]*"
_STRING = r'"([^"\\\n]|\\[abfnrtv\\"])*"'
_MATCHER = rf"[a-zA-Z_][a-zA-Z0-9_]*{_SPACE}(=~|!~|!=|=){_SPACE}{_STRING}"
_MATCHERS = rf"{_MATCHER}({_SPACE},{_SPACE}{_MATCHER})*({_SPACE},)?"

PLAIN = rf"^{_SPACE}[a-zA-Z_:][a-zA-Z0-9_:]*{_SPACE}([{{]{_SPACE}({_MATCHERS})?{_SPACE}[}}]{_SPACE})?$"
"""A metric's name, or `name{label="value", …}`, as Prometheus reads them; nothing else."""

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
    pattern = "|".join(re.escape(value) for value in values)
    return f"{label}=~{json.dumps(pattern, ensure_ascii=False)}"


def chunks(names: Iterable[str]) -> list[list[str]]:
    """The distinct names, in order, in parts that one query can hold."""
    unique = sorted(set(names))
    return [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
