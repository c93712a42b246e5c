"""The adaptive ramp: the canary's weight such that the expected excess of bad answers stays within a budget.

How many bad answers a canary gives before its rollback depends on its number of *requests*, not on percent or minutes.
The weight is therefore chosen so that the expected excess of bad answers per slice is `budget` for the worst rate that
the closed strata still allow. It reads closed strata only: this makes the weight predictable, a condition of the test
in `conditional`. Called by the operator, `serin simulate` and the benchmark. Not here: ramps with fixed steps.
Specification: docs/reference/decision-engine.md, section 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from serin.evidence.slices import Totals

GROWTH = 4.0
"""Largest factor by which a weight grows in one decision."""
SMALLEST_EXCESS = 1e-6
"""Smallest excess rate that is assumed, so that the weight stays finite."""
LITTLE_TRAFFIC = 2.0
"""Requests per second below which `default_budget` is smaller: a slice there has few requests, so the first weight of a
ramp is large."""
ROUNDING = 1e-9
"""log E is exactly 0 before the first bad answer, but its sum is not."""
AGAINST = 0.5
"""log E of a comparison at which a weight above the first limit is taken back (`limit`)."""


def wilson_upper(x: float, n: float, z: float = 1.2816) -> float:
    """Upper end of Wilson's one-sided confidence interval for a rate, 0 to 1. Source: Wilson 1927.

    Args:
        x: number of bad requests; need not be whole.
        n: number of requests, above 0; need not be whole.
        z: quantile of the normal distribution; 1.2816 gives 90 % confidence.
    """
    p = x / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(max(0.0, p * (1 - p)) / n + z * z / (4 * n * n))
    return min(1.0, (centre + spread) / (1 + z * z / n))


def default_budget(rps: float) -> float:
    """The expected excess of bad answers per slice that a ramp may cost where nothing else is written.

    Args:
        rps: requests per second of both sides.
    """
    return 1.0 if rps < LITTLE_TRAFFIC else 2.0


def limit(weight: float, limits: tuple[float, float], comparisons: Iterable[tuple[float, float]]) -> float:
    """The highest weight that is allowed now: the second of the two limits as soon as all evidence favours the canary.

    That is so when every proof has begun to succeed and no comparison speaks against the canary. A canary that has more
    than the first limit keeps it until a comparison speaks against it.

    Args:
        weight: the current weight.
        limits: the highest weight before and after that.
        comparisons: log E against the canary and log e of its proof, of closed strata and full pools only. Without any,
            the first limit holds.
    """
    first, second = limits
    found = tuple(comparisons)
    if not found:
        return first
    if all(against <= ROUNDING and proof > 0 for against, proof in found):
        return second
    return second if weight > first and all(against <= AGAINST for against, _ in found) else first


@dataclass(frozen=True)
class AdaptiveRamp:
    """Parameters and decisions of the adaptive ramp; pinned when a trial starts. Weights are fractions, 0 to 1."""

    rps: float
    """Requests per second of both sides, the mean of the 5 minutes before the trial; 0 if unknown."""
    dt: float = 15.0
    """Seconds per slice."""
    budget: float = 2.0
    """Expected number of excess bad answers per slice."""
    w_min: float = 0.002
    """Smallest weight."""
    w_max: float = 0.25
    """Largest weight now; see `limit`. At 0.5 the stable gets so little traffic that each canary request says less, so
    this is for canaries that the evidence favours."""
    keep_down: float = 0.10
    """Hysteresis: the weight goes down only if the target is lower by at least this share; 0: always.

    Each change begins a new epoch and is a write to the API server, so small changes are not worth it.
    """
    keep_up: float = 0.25
    """Hysteresis: the weight goes up only if the target is higher by at least this share, or is `w_max`; 0: always."""

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 <= self.rps < math.inf:
            raise ValueError("rps must be a finite number of requests per second, 0 or more (0 if unknown); give one.")
        if not (0 < self.dt < math.inf and 0 < self.budget < math.inf):
            raise ValueError(
                "dt and budget must be finite and above 0; give seconds per slice and bad answers per slice."
            )
        if not 0 < self.w_min <= self.w_max <= 1:
            raise ValueError("The weights w_min and w_max are out of range; give 0 < w_min <= w_max <= 1.")
        if not (0 <= self.keep_down < 1 and 0 <= self.keep_up < math.inf):
            raise ValueError("The hysteresis is out of range; give 0 <= keep_down < 1 and a finite keep_up >= 0.")

    def first(self) -> float:
        """The first weight: the budget if every answer of the canary is bad; `w_min` if the traffic is unknown."""
        return self._within(self.budget / (self.rps * self.dt)) if self.rps else self.w_min

    def target(self, weight: float, *closed: Totals) -> float:
        """The weight that the budget allows after `weight`, without hysteresis; the smallest over several metrics.

        Args:
            weight: the current weight.
            closed: totals over all closed strata (`ConditionalTest.closed`), one per Required ratio metric. Without
                any, the weight stays.
        """
        if not closed:
            return self._within(weight)
        if not self.rps:
            return self.w_min
        # The product can underflow to 0 if there is hardly any traffic, so it has a lower limit.
        share = self.budget / max(max(map(excess_upper, closed)) * self.rps * self.dt, 1e-300)
        return self._within(min(share, GROWTH * weight))

    def next(self, weight: float, *closed: Totals) -> float:
        """The weight after a stratum has closed: the target, or `weight` if the target is nearly the same."""
        target = self.target(weight, *closed)
        lower = target <= weight * (1 - self.keep_down)
        higher = target > weight and (target >= weight * (1 + self.keep_up) or target == self.w_max)
        return target if lower or higher or not self.w_min <= weight <= self.w_max else weight

    def _within(self, weight: float) -> float:
        return min(max(weight, self.w_min), self.w_max)


def excess_upper(closed: Totals) -> float:
    """Upper bound, above 0, on how much higher the canary's bad rate is than the stable's, given these totals."""
    canary = wilson_upper(closed.x1 + 0.5, closed.n1 + 1)
    return max(SMALLEST_EXCESS, canary - (closed.x0 + 0.5) / (closed.n0 + 1))
