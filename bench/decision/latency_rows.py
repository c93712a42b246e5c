"""The rows of latencies on simulated pods with unequal load; called by `main` and `report`.

`bench.podsim` plays the pods. `serin` of a row is the comparison by load, `fixed` the one through plain histograms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.decision.rows import Row
from bench.podsim.compare import by_load, plain
from bench.podsim.tables import (
    NOISY_AT_MOST,
    PROVEN_AT_MOST,
    ROLLED_BACK_AT_MOST,
    SLOWER_AT_LEAST,
    Shares,
    rows,
    shares,
)

RUNS, PLAIN_RUNS = 60, 20
"""Trials per row: by load, and of these through plain histograms."""


def latency_rows(scale: float) -> Iterator[Row]:
    """All rows, with `scale` times as many trials."""
    for kind, words, scenario in rows():
        played = [max(2, round(runs * scale)) for runs in (RUNS, PLAIN_RUNS)]
        alike, mixed = shares(scenario, (by_load, played[0]), (plain, played[1]))
        limit, holds = limit_and_holds(kind, alike)
        yield Row(words, limit, _words(alike), holds, fixed=_words(mixed))


def limit_and_holds(kind: str, alike: Shares) -> tuple[str, bool | None]:
    """The limit of a kind of row, and whether the comparison by load is within it; None: there is none."""
    n = alike.runs
    if kind == "more load":
        return "", None
    if kind == "identical":
        within = alike.rolled_back <= _most(ROLLED_BACK_AT_MOST, n) and alike.noisy <= _most(NOISY_AT_MOST, n)
        return "off <= .01 + 3 SE, noisy <= .05 + 3 SE", within
    if kind == "slower":
        least = SLOWER_AT_LEAST - 3 * _error(SLOWER_AT_LEAST, n)
        return f"off >= {SLOWER_AT_LEAST:.0%} within the hour", alike.rolled_back >= least
    return f"proven <= {PROVEN_AT_MOST:.0%} + 3 SE", alike.proven <= _most(PROVEN_AT_MOST, n)


def _most(p: float, n: int) -> float:
    return p + 3 * _error(p, n)


def _error(p: float, n: int) -> float:
    return math.sqrt(p * (1 - p) / n)


def _words(each: Shares) -> str:
    after = "" if each.minutes is None else f" after {each.minutes:.0f} min"
    counterpart = "" if each.overlap > 0.995 else f", {each.overlap:.0%} comparable"
    return f"off {each.rolled_back:.0%}{after}, proven {each.proven:.0%}, noisy {each.noisy:.0%}{counterpart}"
