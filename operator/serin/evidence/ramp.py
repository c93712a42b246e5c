"""The adaptive ramp: how much traffic a canary may have, so that what it harms while unproven stays within a budget.

Bad answers until detection depend on the canary's *requests*, not on percent or minutes. So the weight is what keeps
the expected excess of bad answers per slice at `budget`, given the worst that the closed strata still allow. It reads
closed strata and nothing else: that makes the weight predictable, which the proof of `conditional` needs. Pure; called
by the operator, by `serin simulate` and by the benchmark. Fixed steps are obeyed as written and not found here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serin.evidence.slices import Slice

GROWTH = 4.0
"""The most that a weight grows by in one decision."""
SMALLEST_EXCESS = 1e-6
"""The least excess that is assumed; below it the budget would allow any weight."""


def wilson_upper(x: float, n: float, z: float = 1.2816) -> float:
    """Upper end of Wilson's one-sided interval for a rate, 0..1; `z` = 1.2816 is 90 %.

    `x` bad of `n` > 0; neither needs to be whole. Source: Wilson 1927.
    """
    p = x / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(max(0.0, p * (1 - p)) / n + z * z / (4 * n * n))
    return min(1.0, (centre + spread) / (1 + z * z / n))


@dataclass(frozen=True)
class AdaptiveRamp:
    """Pinned when a trial starts. Weights are fractions of the traffic, 0..1."""

    rps: float
    """Requests per second of canary and stable together, the mean of the 5 minutes before the rollout; 0: unknown."""
    dt: float = 15.0
    """Seconds per slice."""
    budget: float = 2.0
    """Expected excess bad answers per slice."""
    w_min: float = 0.002
    w_max: float = 0.25
    """Until promotion: at half of the traffic the control is so thin that a request carries half the evidence."""
    keep_down: float = 0.10
    """Hysteresis: the weight goes down when the target is at least this share lower; 0: always.

    Each change begins a new epoch and is a write to the API server, so a weight that is about right is kept.
    """
    keep_up: float = 0.25
    """Hysteresis: the weight goes up when the target is at least this share higher, or is `w_max`; 0: always."""

    def __post_init__(self) -> None:
        """Refuse parameters under which no weight can be given.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 <= self.rps < math.inf:
            raise ValueError("rps is no rate; give requests per second, or 0 where they are not known.")
        if not (0 < self.dt < math.inf and 0 < self.budget < math.inf):
            raise ValueError("dt or budget is not above 0; give seconds per slice and bad answers per slice.")
        if not 0 < self.w_min <= self.w_max <= 1:
            raise ValueError("The weights are out of order; give 0 < w_min <= w_max <= 1.")
        if not (0 <= self.keep_down < 1 and 0 <= self.keep_up < math.inf):
            raise ValueError("The hysteresis is out of range; give 0 <= keep_down < 1 and keep_up >= 0.")

    def first(self) -> float:
        """The weight to begin with: as if every answer of the canary were bad; `w_min` without known traffic."""
        return self._within(self.budget / (self.rps * self.dt)) if self.rps else self.w_min

    def target(self, weight: float, *closed: Slice) -> float:
        """The weight that the budget allows, without hysteresis; the smallest over several metrics' totals.

        `closed` are the totals over all closed strata, one per Required ratio metric (`ConditionalTest.closed`). With
        none there is nothing to go by: `weight` stays.
        """
        if not closed:
            return self._within(weight)
        if not self.rps:
            return self.w_min
        # In this order: the product may underflow to 0 where the traffic is next to nothing.
        share = self.budget / max(max(map(excess_upper, closed)) * self.rps * self.dt, 1e-300)
        return self._within(min(share, GROWTH * weight))

    def next(self, weight: float, *closed: Slice) -> float:
        """The weight after `weight` once a stratum has closed: the target, or `weight` where that is about the same."""
        target = self.target(weight, *closed)
        lower = target <= weight * (1 - self.keep_down)
        higher = target > weight and (target >= weight * (1 + self.keep_up) or target == self.w_max)
        return target if lower or higher or not self.w_min <= weight <= self.w_max else weight

    def _within(self, weight: float) -> float:
        return min(max(weight, self.w_min), self.w_max)


def excess_upper(closed: Slice) -> float:
    """How much higher the canary's bad rate may be than the stable's, at the most that these totals allow; > 0."""
    canary = wilson_upper(closed.x1 + 0.5, closed.n1 + 1)
    return max(SMALLEST_EXCESS, canary - (closed.x0 + 0.5) / (closed.n0 + 1))
