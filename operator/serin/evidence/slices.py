"""What all tests are fed: one slice of evidence, and the alternatives that they mix over."""

from __future__ import annotations

import math
from dataclasses import dataclass

PSI = (1.5, 2.5, 5.0, 12.0, 40.0)
"""How many times worse than allowed a canary may be; what is tested against is a mixture of these."""
PRIOR = (0.40, 0.25, 0.15, 0.10, 0.10)
"""Weight of each in the mixture."""
LOG_PRIOR = tuple(math.log(w) for w in PRIOR)

Totals = tuple[int, int, int, int]
"""What slices add up to: `n1, x1, n0, x0`, exposures and bad counts of canary and stable."""
NOTHING: Totals = (0, 0, 0, 0)


def together(one: Totals, other: Totals) -> Totals:
    """Both of them, added up."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


@dataclass(frozen=True)
class Slice:
    """One interval: exposures and bad counts of canary (1) and stable (0) that finished in it.

    All arrived in the same epoch, a period of constant weight. `t` is the end of the slice in seconds since the
    canary's first traffic; None where time does not matter.
    """

    n1: int
    x1: int
    n0: int
    x0: int
    t: float | None = None
    epoch: int = 0

    @property
    def totals(self) -> Totals:
        """Its counts alone."""
        return self.n1, self.x1, self.n0, self.x0

    def __post_init__(self) -> None:
        """Refuse what no counter can show.

        Raises:
            ValueError: a count is negative, or more are bad than there are.
        """
        if min(self.n1, self.x1, self.n0, self.x0) < 0:
            raise ValueError("A count is negative; give numbers of requests.")
        if self.x1 > self.n1 or self.x0 > self.n0:
            raise ValueError("More requests are bad than there are; give x1 <= n1 and x0 <= n0.")
        if self.t is not None and not 0 <= self.t < float("inf"):
            raise ValueError("t is not a time; give seconds since the canary's first traffic.")
