"""An absolute limit on one bad rate: is the canary above it, and is it proven to be below?

Two e-processes on the canary's own counts, one for each question, and one on the stable's: a limit that the stable
breaks too says nothing about the canary (docs/reference/decision-engine.md, section 4). The stable's may come late,
though: under a small share of the traffic it needs longer to show an outage of both. So a canary above the limit is
rolled back only when it is also worse than the stable beside it. Used by `serin.evidence.metric`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.closed_form import Ceiling
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.log_space import log_sum
from serin.evidence.non_inferiority import BETA, SHARES, UNPROVEN
from serin.evidence.slices import LOG_PRIOR, Slice

BEYOND = 1.0
"""How far above what is enough the evidence grows, so that it does not outlive bad times for long."""


@dataclass
class Side:
    """Whether one side is beyond the limit now: since it was shown to be, until it is shown to keep it again.

    In between nobody knows, and evidence that once was enough wavers for as long as the limit is broken.
    """

    rate: float
    enough: float
    """ln(1/alpha)."""
    forgets: bool
    """Whether good times before count for nothing: not if a rollback rests on it."""
    above: Ceiling = field(init=False)
    keeps: list[float] = field(default_factory=lambda: list(UNPROVEN))
    """ln of the evidence that it keeps the limit, of the time since it was last shown not to."""
    beyond: bool = False

    def __post_init__(self) -> None:
        self.above = Ceiling(self.rate)

    @property
    def shown(self) -> bool:
        """Whether the evidence is enough."""
        return self.above.log_e >= self.enough - 1e-9

    def add(self, n: int, x: int) -> None:
        """Take `x` bad of `n` requests into account."""
        self.above.add(n, x)
        # Less evidence is always allowed.
        self.above.logs = [min(log, self.enough + BEYOND) for log in self.above.logs]
        if self.forgets:  # more is not, but this one only ever holds
            self.above.logs = _floored(self.above.logs, LOG_PRIOR)
        if self.shown:
            self.beyond, self.keeps = True, list(UNPROVEN)
        elif self.beyond:
            self.keeps = below(_floored(self.keeps, UNPROVEN), self.rate, n, x)
            self.beyond = log_sum(self.keeps) < -math.log(BETA)

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON."""
        return {"above": self.above.logs, "keeps": self.keeps, "beyond": self.beyond}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.above.logs = _logs(state["above"], len(self.above.logs))
        self.keeps = _logs(state["keeps"], len(self.keeps))
        self.beyond = bool(state["beyond"])


def _floored(logs: Sequence[float], least: Sequence[float]) -> list[float]:
    return [max(log, at_least) for log, at_least in zip(logs, least, strict=True)]


def below(logs: Sequence[float], rate: float, n: int, x: int) -> list[float]:
    """The evidence that a side is below the rate, after `x` bad of `n` requests more."""
    return [log + x * math.log(a) - n * math.log(1 - rate + rate * a) for log, a in zip(logs, SHARES, strict=True)]


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
    canary: Side = field(init=False)
    stable: Side = field(init=False)
    below: list[float] = field(default_factory=lambda: list(UNPROVEN))
    fired: bool = False

    def __post_init__(self) -> None:
        self.canary = Side(self.rate, self.threshold, forgets=False)
        self.stable = Side(self.rate, self.threshold, forgets=True)
        self.worse = ConditionalTest(Parameters(alpha=self.alpha))

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.alpha)

    @property
    def log_e(self) -> float:
        """ln of the evidence that the canary is above the limit, and worse than the stable."""
        above = self.canary.above.log_e
        return min(above, self.worse.log_e) if self.stable_seen else above

    @property
    def exceeded(self) -> bool:
        """Whether the canary is above the limit, whoever is to blame."""
        return self.canary.beyond

    @property
    def shared(self) -> bool:
        """Whether the stable is above the limit as well: then the canary is not to blame."""
        return self.stable.beyond

    @property
    def rolled_back(self) -> bool:
        """Whether it fired while the stable kept the limit and was better; it stays so."""
        return self.fired

    def proven(self, owed: int) -> bool:
        """Whether the canary is proven to be below the limit, now, and neither side is known to be above it.

        Args:
            owed: see `Comparison.standing`.
        """
        return not (self.shared or self.exceeded) and log_sum(self._with(owed)) >= -math.log(BETA)

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Take one slice into account; only a settled one counts for the proof."""
        self.stable_seen |= s.n0 > 0
        self.worse.add(s, young=young)
        self.canary.add(s.n1, s.x1)
        self.stable.add(s.n0, s.x0)
        if settled:
            self.below = below(self.below, self.rate, s.n1, s.x1)
        # A stable that has shown nothing may be scraped a moment later: what has settled has waited for that.
        to_blame = self.worse.rolled_back if self.stable_seen else settled
        self.fired = self.fired or (self.canary.shown and to_blame and not self.shared)

    def still_needed(self, s: Slice, owed: int) -> float | None:
        """About how many more canary requests prove it if all goes on as in `s` (pooled); None: not at this rate."""
        if not s.n1:
            return None
        p = (s.x1 + 0.5) / (s.n1 + 1)
        gain = max(p * math.log(a) - math.log(1 - self.rate + self.rate * a) for a in SHARES)
        return max(0.0, -math.log(BETA) - log_sum(self._with(owed))) / gain if gain > 0 else None

    def _with(self, owed: int) -> list[float]:
        """The proof if so many of the requests in it are bad as well."""
        return below(self.below, self.rate, 0, owed)

    def close_epoch(self, epoch: int, owed: int) -> None:
        """See `Comparison.close_epoch`; to the proof all epochs are one."""
        self.worse.close_epoch(epoch)
        self.below = self._with(owed)

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON."""
        return {
            "canary": self.canary.state(),
            "stable": self.stable.state(),
            "below": self.below,
            "worse": self.worse.state(),
            "stableSeen": self.stable_seen,
            "fired": self.fired,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken.

        What came later is read without, or an upgrade would begin every trial anew: `above` and `stableAbove` were all
        that was known of the sides.
        """
        for side, name, before in ((self.canary, "canary", "above"), (self.stable, "stable", "stableAbove")):
            if name in state:
                side.restore(state[name])
            else:
                side.above.logs = _logs(state[before], len(side.above.logs))
                side.beyond = side.shown
        self.below = _logs(state["below"], len(self.below))
        self.fired = bool(state["fired"])
        self.stable_seen = bool(state["stableSeen"])
        if "worse" in state:
            self.worse = ConditionalTest.from_state(self.worse.parameters, state["worse"])


def _logs(written: Sequence[float], expected: int) -> list[float]:
    logs = [float(log) for log in written]
    if len(logs) != expected:
        raise ValueError("the limit has another number of alternatives")
    return logs
