"""The input of all tests: a slice of counts, and the alternatives that the tests mix over.

Specification: docs/reference/decision-engine.md, sections 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PSI = (1.5, 2.5, 5.0, 12.0, 40.0)
"""The alternatives: how many times worse than allowed the canary is. The tests use a mixture of these."""
PRIOR = (0.40, 0.25, 0.15, 0.10, 0.10)
"""Weight of each alternative in the mixture; the sum is 1."""
LOG_PRIOR = tuple(math.log(w) for w in PRIOR)

Totals = tuple[int, int, int, int]
"""Sums of counts: `n1, x1, n0, x0`, requests and bad requests of canary (1) and stable (0)."""
NOTHING: Totals = (0, 0, 0, 0)
"""No requests on either side."""


def together(one: Totals, other: Totals) -> Totals:
    """The sum of two totals."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


@dataclass(frozen=True)
class Slice:
    """Requests (n) and bad requests (x) of canary (1) and stable (0) that finished in one interval.

    All arrived in the same epoch, a period of constant weight. `t` is the end of the interval in seconds since the
    canary's first traffic; None if time does not matter.
    """

    n1: int
    x1: int
    n0: int
    x0: int
    t: float | None = None
    epoch: int = 0

    @property
    def totals(self) -> Totals:
        """The four counts."""
        return self.n1, self.x1, self.n0, self.x0

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            ValueError: a count is negative, there are more bad requests than requests, or `t` is no valid time.
        """
        if min(self.n1, self.x1, self.n0, self.x0) < 0:
            raise ValueError("A count is negative; n1, x1, n0 and x0 must be 0 or more.")
        if self.x1 > self.n1 or self.x0 > self.n0:
            raise ValueError("There are more bad requests than requests; x1 must be at most n1, and x0 at most n0.")
        if self.t is not None and not 0 <= self.t < float("inf"):
            raise ValueError("t must be a finite number of seconds since the canary's first traffic, 0 or more.")
