"""The page of results: one section for each kind of canary, and what all of them have in common."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.sections import joined

RUNS = 10
RATE = 80.0
"""Requests per second; a quarter of them is a hundred for each slice of five seconds."""
SCRAPE = 5.0
"""Seconds between two scrapes in the sandbox."""
LIMIT = 3 * SCRAPE + 2
TITLE = "# How long a bad canary goes on getting requests"
_INTRO = f"""\
Written by `make bench-rollback`: the sandbox's real Envoy and Prometheus, {RATE:g} requests/s, a scrape every
{SCRAPE:g} s.
"""


def table(columns: Sequence[str], rows: Sequence[str]) -> list[str]:
    """The lines of a table; each column but the first has three cells."""
    first, *others = columns
    head = " | ".join(f"{name}: least | median | most" for name in others)
    return [f"| {first} | {head} |", "|---" * (1 + 3 * len(others)) + "|", *rows]


def row(name: str, *columns: Sequence[float]) -> str:
    """A row with least, median and most of each column; whole numbers stay whole."""
    cells = [
        f"{f(values):{'g' if isinstance(values[0], int) else '.1f'}}"
        for values in columns
        for f in (min, statistics.median, max)
    ]
    return f"| {name} | {' | '.join(cells)} |"


def page(before: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """The page with these sections; those that were not measured are kept as they are in `before`.

    Args:
        before: the page so far; may be empty.
        sections: text by title.
        order: titles of all sections.
    """
    return "\n".join([TITLE, "", _INTRO, joined(before, sections, order), ""])
