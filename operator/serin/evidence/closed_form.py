"""Two tests in closed form: canary against stable for strata too large for the exact test, and against a ceiling.

Both are e-processes, mixtures over `PSI`: under the null hypothesis the logarithm ever exceeds ln(1/alpha) with
probability at most alpha (Ville 1939). Specification: docs/reference/decision-engine.md, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from serin.evidence.log_space import log_sum
from serin.evidence.slices import LOG_PRIOR, PSI, Slice


def increments(s: Slice, rho: float = 1.0, delta: float = 0.0) -> tuple[float, ...]:
    """What a slice adds to ln of the e-value of each alternative in `PSI`; n1 and n0 must be above 0.

    H0: the canary's bad rate is at most `rho` times the stable's plus `delta`.
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
    """The running test of canary against stable; slices without requests on one side are ignored."""

    rho: float = 1.0
    delta: float = 0.0
    logs: list[float] = field(default_factory=lambda: list(LOG_PRIOR))

    def add(self, s: Slice) -> None:
        """Add one slice."""
        if s.n1 and s.n0:
            steps = increments(s, self.rho, self.delta)
            self.logs = [log + step for log, step in zip(self.logs, steps, strict=True)]

    @property
    def log_e(self) -> float:
        """ln of the e-value."""
        return log_sum(self.logs)


@dataclass
class Ceiling:
    """The running test of one side against an absolute limit on its bad rate. H0: it keeps the limit."""

    rate: float
    """The limit, above 0 and below 1."""
    logs: list[float] = field(default_factory=lambda: list(LOG_PRIOR))

    def add(self, n: int, x: int) -> None:
        """Add `n` requests, `x` of them bad."""
        self.logs = [
            log + x * math.log(psi) - n * math.log(1 - self.rate + self.rate * psi)
            for log, psi in zip(self.logs, PSI, strict=True)
        ]

    @property
    def log_e(self) -> float:
        """ln of the e-value."""
        return log_sum(self.logs)
