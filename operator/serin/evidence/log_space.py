"""Arithmetic with natural logarithms.

With plain probabilities, the test would underflow on large failures and never roll back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_sum(logs: Sequence[float]) -> float:
    """ln of the sum of exp(log) over `logs`; minus infinity if there are none."""
    top = max(logs, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def log_choose(n: int, k: int) -> float:
    """ln of the binomial coefficient "n choose k", for 0 <= k <= n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
