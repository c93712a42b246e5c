"""Proof for a promotion: the canary is no worse than the tolerance, shown now, not ever.

H: canary bad rate >= rho * stable bad rate + delta. Rejecting it, at any time, errs with probability at most beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from serin.evidence.log_space import log_sum
from serin.evidence.slices import Slice

SHARES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92)
"""How good the canary may be, as a share of the tolerance; equal prior."""
UNPROVEN: tuple[float, ...] = (-math.log(len(SHARES)),) * len(SHARES)
"""ln of the evidence for each before anything was shown."""

BETA = 0.05
"""Probability of promoting a canary that is worse than the tolerance, at the most."""


@dataclass
class NonInferiority:
    """The running proof."""

    rho: float = 1.25
    delta: float = 0.005
    beta: float = BETA
    logs: list[float] = field(default_factory=lambda: list(UNPROVEN))

    def add(self, s: Slice) -> None:
        """Take one slice into account; one with an empty side counts for nothing."""
        if not (s.n1 and s.n0):
            return
        ratio = s.n1 * self.rho / s.n0
        self.logs = [
            log + s.x1 * math.log(a) + s.x0 * math.log1p(ratio * (1 - a)) + self.delta * s.n1 * (1 - a)
            for log, a in zip(self.logs, SHARES, strict=True)
        ]

    def counting_alone(self, n1: int, x1: int) -> NonInferiority:
        """The proof as it stands if these canary requests count as well, with no stable beside them.

        Only the absolute tolerance speaks for them. The expectation is at most 1 still: under H the canary's bad rate
        is at least delta, and the factor of the stable, which is left out, is at least 1.
        """
        logs = [log + x1 * math.log(a) + self.delta * n1 * (1 - a) for log, a in zip(self.logs, SHARES, strict=True)]
        return replace(self, logs=logs)

    @property
    def log_e(self) -> float:
        """ln of the e-value so far."""
        return log_sum(self.logs)

    @property
    def proven(self) -> bool:
        """Whether the proof holds at this moment."""
        return self.log_e >= -math.log(self.beta)

    def still_needed(self, s: Slice) -> float | None:
        """About how many more canary requests prove it if all goes on as in `s` (pooled); None: not at this weight."""
        if not (s.n1 and s.n0):
            return None
        p = (s.x1 + s.x0 + 0.5) / (s.n1 + s.n0 + 1)
        ratio = s.n1 * self.rho / s.n0
        gain = max(
            p * math.log(a) + p * (s.n0 / s.n1) * math.log1p(ratio * (1 - a)) + self.delta * (1 - a) for a in SHARES
        )
        return max(0.0, -math.log(self.beta) - self.log_e) / gain if gain > 0 else None
