"""The proof that a canary is no slower, at equal load: for one boundary of a latency.

H: the share of the canary's requests above the boundary times the tolerance is at least the share of the stable's
above the boundary itself, plus `delta`. Two tests share the prior. The first is that of `non_inferiority`; it is strong
where few requests are above the boundary, and `delta` helps it there. In strata where most are above, as under high
load, it loses instead. The second is exact and conditional as `conditional`, with alternatives below 1; a stratum in
which all are above or none says nothing to it. Their mean is an e-value for H as well.
Specification: docs/reference/decision-engine.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serin.evidence import stored
from serin.evidence.conditional import LARGEST_SUPPORT
from serin.evidence.log_space import log_choose, log_sum
from serin.evidence.non_inferiority import BETA, UNPROVEN, NonInferiority
from serin.evidence.slices import Counts, Totals

ODDS = (0.2, 0.4, 0.6, 0.8, 0.9)
"""The alternatives of the second test: the canary's odds as a share of the tolerated ones."""
_LOG_ODDS = tuple(math.log(odds) for odds in ODDS)
_HALF = math.log(0.5)


@dataclass(frozen=True)
class NoSlower:
    """The running proof of one boundary."""

    rates: NonInferiority
    odds: tuple[float, ...] = (-math.log(len(ODDS)),) * len(ODDS)
    """ln of the weighted e-value of each alternative of the second test."""

    @classmethod
    def begin(cls, delta: float) -> NoSlower:
        """The proof before the first request."""
        return cls(NonInferiority(rho=1.0, delta=delta))

    @property
    def logs(self) -> tuple[float, ...]:
        """The state of both tests."""
        return (*self.rates.logs, *self.odds)

    def continued(self, logs: Sequence[float]) -> NoSlower:
        """The proof that continues from its state.

        Raises:
            ValueError: it is damaged.
        """
        checked = stored.logs(logs, like=(*UNPROVEN, *ODDS))
        return NoSlower(replace(self.rates, logs=checked[: len(UNPROVEN)]), checked[len(UNPROVEN) :])

    def add(self, s: Totals) -> NoSlower:
        """The proof with one more stratum; one without requests on one side is ignored."""
        if not (s.n1 and s.n0):
            return self
        odds = tuple([log + step for log, step in zip(self.odds, _steps(s), strict=True)])
        return NoSlower(self.rates.add(s), odds)

    def add_canary_alone(self, canary: Counts) -> NoSlower:  # noqa: ARG002 - as `NonInferiority`
        """The same proof: at a load that the stable does not have, the canary is compared with nothing."""
        return self

    @property
    def log_e(self) -> float:
        """ln of the e-value for the proof."""
        return log_sum([_HALF + self.rates.log_e, _HALF + log_sum(self.odds)])

    @property
    def proven(self) -> bool:
        """Whether the proof holds now."""
        return self.log_e >= -math.log(BETA)

    def still_needed(self, s: Totals) -> float | None:
        """Estimated number of further canary requests until the proof holds; None: no number is enough.

        By the first test from the rates of the totals `s`, by the second from what it has gained per request so far.
        """
        if not (s.n1 and s.n0):
            return None
        goal = -math.log(BETA) - _HALF
        estimates = [self.rates.still_needed(s)]
        if (gained := log_sum(self.odds)) > 0:
            estimates.append(max(0.0, goal - gained) * s.n1 / gained)
        return min((each for each in estimates if each is not None), default=None)


def _steps(s: Totals) -> tuple[float, ...]:
    """What a stratum adds to ln of the e-value of each alternative of the second test."""
    n1, n0, bad = s.n1, s.n0, s.x1 + s.x0
    lowest, highest = max(0, bad - n0), min(n1, bad)
    # Nothing is lost for the proof by leaving out a stratum by its margins, and the largest would take long.
    if lowest == highest or highest - lowest >= LARGEST_SUPPORT:
        return (0.0,) * len(ODDS)
    support = range(lowest, highest + 1)
    law = [log_choose(n1, j) + log_choose(n0, bad - j) for j in support]
    total = log_sum(law)
    return tuple(
        [
            s.x1 * odds - (log_sum([p + j * odds for p, j in zip(law, support, strict=True)]) - total)
            for odds in _LOG_ODDS
        ]
    )
