"""Tests of one formula each: canary against stable where the exact one is too large, and against a fixed ceiling.

Both are e-processes of a mixture over `PSI`: their logarithm may be looked at any time, and exceeds ln(1/alpha) with
probability at most alpha under the null hypothesis (Ville 1939).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from serin.evidence.log_space import log_sum
from serin.evidence.slices import LOG_PRIOR, PSI, Slice


def increments(s: Slice, rho: float = 1.0, delta: float = 0.0) -> tuple[float, ...]:
    """What a slice adds to the log of each alternative.

    H0: mean badness of the canary is at most `rho` times the stable's plus `delta`.
    """
    steps = []
    for psi in PSI:
        worse = s.n1 * rho * psi
        th0, th1 = s.n1 * rho / (s.n1 * rho + s.n0), worse / (worse + s.n0)
        a = th1 / th0
        steps.append(s.x1 * math.log(a) + s.x0 * math.log((1 - th1) / (1 - th0)) - delta * s.n1 * (a - 1))
    return tuple(steps)


@dataclass
class ClosedForm:
    """Canary against stable by the closed form; slices with an empty side count for nothing."""

    rho: float = 1.0
    delta: float = 0.0
    logs: list[float] = field(default_factory=lambda: list(LOG_PRIOR))

    def add(self, s: Slice) -> None:
        """Take one slice into account."""
        if s.n1 and s.n0:
            steps = increments(s, self.rho, self.delta)
            self.logs = [log + step for log, step in zip(self.logs, steps, strict=True)]

    @property
    def log_e(self) -> float:
        """ln of the e-value so far."""
        return log_sum(self.logs)


@dataclass
class Ceiling:
    """The canary alone against an absolute limit on its bad rate."""

    rate: float
    logs: list[float] = field(default_factory=lambda: list(LOG_PRIOR))

    def add(self, n: int, x: int) -> None:
        """Take `x` bad of `n` requests into account."""
        self.logs = [
            log + x * math.log(psi) - n * math.log(1 - self.rate + self.rate * psi)
            for log, psi in zip(self.logs, PSI, strict=True)
        ]

    @property
    def log_e(self) -> float:
        """ln of the e-value so far."""
        return log_sum(self.logs)
