"""An absolute limit on one bad rate: is the canary above it, and is it proven to be below?

Two e-processes on the canary's own counts, one for each question, and one on the stable's: a limit that the stable
breaks too says nothing about the canary (specification, sections 3 and 4). The stable's may come late, though: under a
small share of the traffic it needs longer to show an outage of both. So a canary above the limit is rolled back only
when it is also worse than the stable beside it. Used by `serin.evidence.metric`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.closed_form import Ceiling
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.log_space import log_sum
from serin.evidence.non_inferiority import BETA, SHARES
from serin.evidence.slices import PRIOR, Slice

BEYOND = 1.0
"""How far above what is enough the evidence grows: then a hundred good requests or so show that an outage is over."""


@dataclass
class CeilingTest:
    """The running test of one ceiling; its own processes pool nowhere, since each looks at one side only."""

    rate: float
    """The limit, above 0 and below 1."""
    alpha: float
    """Probability of rolling back a canary that keeps it or is no worse than the stable, at the most."""
    worse: ConditionalTest = field(init=False)
    stable_seen: bool = False
    """Whether the stable has shown anything of what is limited; if it never does, the limit stands alone."""
    above: Ceiling = field(init=False)
    stable_above: Ceiling = field(init=False)
    below: list[float] = field(default_factory=lambda: [-math.log(len(SHARES))] * len(SHARES))
    fired: bool = False

    def __post_init__(self) -> None:
        self.above, self.stable_above = Ceiling(self.rate), Ceiling(self.rate)
        self.worse = ConditionalTest(Parameters(alpha=self.alpha))

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.alpha)

    @property
    def log_e(self) -> float:
        """ln of the evidence that the canary is above the limit, and worse than the stable."""
        return min(self.above.log_e, self.worse.log_e) if self.stable_seen else self.above.log_e

    @property
    def exceeded(self) -> bool:
        """Whether the canary is above the limit, whoever is to blame."""
        return self.above.log_e >= self.threshold - 1e-9

    @property
    def shared(self) -> bool:
        """Whether the stable is above the limit as well: then the canary is not to blame."""
        return self.stable_above.log_e >= self.threshold - 1e-9

    @property
    def rolled_back(self) -> bool:
        """Whether it fired while the stable kept the limit and was better; it stays so."""
        return self.fired

    def proven(self, owed: int) -> bool:
        """Whether the canary is proven to be below the limit, now, and no outage is shared.

        Args:
            owed: see `Comparison.standing`.
        """
        return not self.shared and log_sum(self._with(owed)) >= -math.log(BETA)

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Take one slice into account; only a settled one counts for the proof."""
        self.stable_seen |= s.n0 > 0
        self.worse.add(s, young=young)
        self.above.add(s.n1, s.x1)
        self.stable_above.add(s.n0, s.x0)
        # It forgets good times, or it would notice an outage long after the canary's: it only ever holds, so it may.
        self.stable_above.logs = [max(log, math.log(w)) for log, w in zip(self.stable_above.logs, PRIOR, strict=True)]
        # Both forget how bad bad times were, or they would not be over for hours; less evidence is always allowed.
        for each in (self.above, self.stable_above):
            each.logs = [min(log, self.threshold + BEYOND) for log in each.logs]
        if settled:
            self.below = [
                log + s.x1 * math.log(a) - s.n1 * math.log(1 - self.rate + self.rate * a)
                for log, a in zip(self.below, SHARES, strict=True)
            ]
        # A stable that has shown nothing may be scraped a moment later: what has settled has waited for that.
        to_blame = self.worse.rolled_back if self.stable_seen else settled
        self.fired = self.fired or (self.exceeded and to_blame and not self.shared)

    def still_needed(self, s: Slice, owed: int) -> float | None:
        """About how many more canary requests prove it if all goes on as in `s` (pooled); None: not at this rate."""
        if not s.n1:
            return None
        p = (s.x1 + 0.5) / (s.n1 + 1)
        gain = max(p * math.log(a) - math.log(1 - self.rate + self.rate * a) for a in SHARES)
        return max(0.0, -math.log(BETA) - log_sum(self._with(owed))) / gain if gain > 0 else None

    def _with(self, owed: int) -> list[float]:
        """The proof if so many of the requests in it are bad as well."""
        return [log + owed * math.log(a) for log, a in zip(self.below, SHARES, strict=True)]

    def close_epoch(self, epoch: int, owed: int) -> None:
        """See `Comparison.close_epoch`; to the proof all epochs are one."""
        self.worse.close_epoch(epoch)
        self.below = self._with(owed)

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON."""
        return {
            "above": self.above.logs,
            "stableAbove": self.stable_above.logs,
            "below": self.below,
            "worse": self.worse.state(),
            "stableSeen": self.stable_seen,
            "fired": self.fired,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.above.logs = _logs(state["above"], len(self.above.logs))
        self.stable_above.logs = _logs(state["stableAbove"], len(self.stable_above.logs))
        self.below = _logs(state["below"], len(self.below))
        self.fired = bool(state["fired"])
        # What came later is read without, or an upgrade would begin every trial anew.
        self.stable_seen = bool(state["stableSeen"])
        if "worse" in state:
            self.worse = ConditionalTest.from_state(self.worse.parameters, state["worse"])


def _logs(written: Sequence[float], expected: int) -> list[float]:
    logs = [float(log) for log in written]
    if len(logs) != expected:
        raise ValueError("the limit has another number of alternatives")
    return logs
