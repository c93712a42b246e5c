"""Arithmetic in log space. In probability space the test underflows and silently never fires on a catastrophe."""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_sum(logs: Sequence[float]) -> float:
    """ln of the sum of the numbers whose logarithms these are; minus infinity for none."""
    top = max(logs, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def log_choose(n: int, k: int) -> float:
    """ln of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
