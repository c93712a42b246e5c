"""Two tests in closed form: canary against stable for strata too large for the exact test, and against a ceiling.

Both are e-processes, mixtures over `PSI`: under the null hypothesis the logarithm ever exceeds ln(1/alpha) with
probability at most alpha (Ville 1939). Specification: docs/reference/decision-engine.md, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serin.evidence.log_space import log_sum
from serin.evidence.slices import LOG_PRIOR, PSI, Counts, Totals


def increments(s: Totals, rho: float = 1.0, delta: float = 0.0) -> tuple[float, ...]:
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


@dataclass(frozen=True)
class ClosedForm:
    """The running test of canary against stable; slices without requests on one side are ignored."""

    rho: float = 1.0
    delta: float = 0.0
    logs: tuple[float, ...] = LOG_PRIOR

    def add(self, s: Totals) -> ClosedForm:
        """The test with one more slice."""
        if not (s.n1 and s.n0):
            return self
        steps = increments(s, self.rho, self.delta)
        return replace(self, logs=tuple([log + step for log, step in zip(self.logs, steps, strict=True)]))

    @property
    def log_e(self) -> float:
        """ln of the e-value."""
        return log_sum(self.logs)


@dataclass(frozen=True)
class Ceiling:
    """The running test of one side against an absolute limit on its bad rate. H0: it keeps the limit."""

    rate: float
    """The limit, above 0 and below 1."""
    logs: tuple[float, ...] = LOG_PRIOR

    def add(self, c: Counts) -> Ceiling:
        """The test with more requests of the side."""
        n, x, rate = c.requests, c.bad, self.rate
        logs = [
            log + x * math.log(psi) - n * math.log(1 - rate + rate * psi)
            for log, psi in zip(self.logs, PSI, strict=True)
        ]
        return replace(self, logs=tuple(logs))

    @property
    def log_e(self) -> float:
        """ln of the e-value."""
        return log_sum(self.logs)
