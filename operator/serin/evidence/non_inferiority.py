"""The proof that a promotion needs: a non-inferiority test of canary against stable.

H: canary bad rate >= rho * stable bad rate + delta. If H is true, it is ever rejected with probability at most beta.
The proof must hold at the moment of the promotion; that it held earlier is not enough.
Specification: docs/reference/decision-engine.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serin.evidence import stored
from serin.evidence.log_space import log_sum
from serin.evidence.slices import Counts, Totals

SHARES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92)
"""The alternatives: the canary's bad rate as a share of the tolerated one. All have the same prior weight."""
UNPROVEN: tuple[float, ...] = (-math.log(len(SHARES)),) * len(SHARES)
"""ln of the weighted e-value of each alternative before the first request."""

BETA = 0.05
"""Upper limit on the probability of promoting a canary that is worse than the tolerance."""
RATIO = 1.5
"""Default of the relative tolerance."""
ABSOLUTE, ABSOLUTE_OF_LITTLE_TRAFFIC = 0.002, 0.005
"""Defaults of the absolute tolerance; the proof for the smaller one takes more than twice as many requests."""
ENOUGH_TRAFFIC = 5.0
"""Requests per second from which on the smaller one applies."""


def default_tolerance(rps: float) -> tuple[float, float]:
    """The relative and the absolute tolerance of a metric for which none is written.

    Args:
        rps: requests per second of all revisions before the trial; 0 if unknown.
    """
    return RATIO, ABSOLUTE if rps >= ENOUGH_TRAFFIC else ABSOLUTE_OF_LITTLE_TRAFFIC


@dataclass(frozen=True)
class NonInferiority:
    """The running proof of one comparison."""

    rho: float = 1.25
    """Relative tolerance: this many times the stable's bad rate ..."""
    delta: float = 0.005
    """... plus this absolute rate, 0 to 1."""
    beta: float = BETA
    logs: tuple[float, ...] = UNPROVEN

    def continued(self, logs: Sequence[float]) -> NonInferiority:
        """The proof that continues from its state.

        Raises:
            ValueError: it is damaged.
        """
        return replace(self, logs=stored.logs(logs, like=UNPROVEN))

    def add(self, s: Totals) -> NonInferiority:
        """The proof with one more slice; a slice without requests on one side is ignored."""
        if not (s.n1 and s.n0):
            return self
        ratio = s.n1 * self.rho / s.n0
        logs = [
            log + s.x1 * math.log(a) + s.x0 * math.log1p(ratio * (1 - a)) + self.delta * s.n1 * (1 - a)
            for log, a in zip(self.logs, SHARES, strict=True)
        ]
        return replace(self, logs=tuple(logs))

    def add_canary_alone(self, canary: Counts) -> NonInferiority:
        """The proof with more canary requests and no stable requests to compare them with.

        Only the absolute tolerance allows for them. The expectation of the e-value under H stays at most 1: the
        canary's bad rate is at least delta, and the stable's factor, which is left out, is at least 1.
        """
        n, x = canary.requests, canary.bad
        logs = [log + x * math.log(a) + self.delta * n * (1 - a) for log, a in zip(self.logs, SHARES, strict=True)]
        return replace(self, logs=tuple(logs))

    @property
    def log_e(self) -> float:
        """ln of the e-value for the proof."""
        return log_sum(self.logs)

    @property
    def proven(self) -> bool:
        """Whether the proof holds now."""
        return self.log_e >= -math.log(self.beta)

    def still_needed(self, s: Totals) -> float | None:
        """Estimated number of further canary requests until the proof holds, at the rates and weight of the totals `s`.

        None: no number of requests is enough at these rates and this weight.
        """
        if not (s.n1 and s.n0):
            return None
        p = (s.x1 + s.x0 + 0.5) / (s.n1 + s.n0 + 1)
        ratio = s.n1 * self.rho / s.n0
        gain = max(
            p * math.log(a) + p * (s.n0 / s.n1) * math.log1p(ratio * (1 - a)) + self.delta * (1 - a) for a in SHARES
        )
        return max(0.0, -math.log(self.beta) - self.log_e) / gain if gain > 0 else None
