"""The running test of a ceiling, an absolute limit on one bad rate.

Two e-processes on the canary's counts ask whether it is above the limit and whether it is proven to be below. A third,
on the stable's counts, asks whether the stable is above the limit, too: then the canary is not the cause. But with a
small share of the traffic the stable shows an outage of both sides later than the canary. A canary above the limit is
therefore rolled back only if it is also worse than the stable. Called by `serin.evidence.metric`.
Specification: docs/reference/decision-engine.md, sections 3 and 4.
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

HEADROOM = 1.0
"""How far ln of the e-value can rise above the threshold, so that it falls soon after an outage is over."""


@dataclass
class Side:
    """Whether canary or stable is above the limit now.

    A side is above the limit from when the evidence for this is enough until the evidence for the opposite is enough.
    In between, the evidence rises and falls, although the limit is still broken.
    """

    rate: float
    """The limit, above 0 and below 1."""
    threshold: float
    """ln(1/alpha)."""
    ignores_good_past: bool
    """Whether earlier requests below the limit cannot delay the result; invalid if a rollback depends on it."""
    above: Ceiling = field(init=False)
    """The e-process for being above the limit."""
    below_logs: list[float] = field(default_factory=lambda: list(UNPROVEN))
    """By alternative, ln of the e-value for being below the limit, since the side was last shown to be above."""
    above_limit: bool = False

    def __post_init__(self) -> None:
        self.above = Ceiling(self.rate)

    @property
    def reaches_threshold(self) -> bool:
        """Whether the evidence for being above the limit is enough now."""
        return self.above.log_e >= self.threshold - 1e-9

    def add(self, n: int, x: int) -> None:
        """Add `n` requests, `x` of them bad."""
        self.above.add(n, x)
        # Lowering an e-value is always valid.
        self.above.logs = [min(log, self.threshold + HEADROOM) for log in self.above.logs]
        if self.ignores_good_past:  # raising one is not, but this side's result can only hold a canary
            self.above.logs = _at_least(self.above.logs, LOG_PRIOR)
        if self.reaches_threshold:
            self.above_limit, self.below_logs = True, list(UNPROVEN)
        elif self.above_limit:
            self.below_logs = below(_at_least(self.below_logs, UNPROVEN), self.rate, n, x)
            self.above_limit = log_sum(self.below_logs) < -math.log(BETA)

    def state(self) -> dict[str, Any]:
        """The state of the side, for JSON."""
        return {"above": self.above.logs, "keeps": self.below_logs, "beyond": self.above_limit}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.above.logs = _logs(state["above"], len(self.above.logs))
        self.below_logs = _logs(state["keeps"], len(self.below_logs))
        self.above_limit = bool(state["beyond"])


def _at_least(logs: Sequence[float], minimum: Sequence[float]) -> list[float]:
    return [max(log, lowest) for log, lowest in zip(logs, minimum, strict=True)]


def below(logs: Sequence[float], rate: float, n: int, x: int) -> list[float]:
    """By alternative, ln of the e-value for a bad rate below `rate`, after `n` more requests, `x` of them bad."""
    return [log + x * math.log(a) - n * math.log(1 - rate + rate * a) for log, a in zip(logs, SHARES, strict=True)]


@dataclass
class CeilingTest:
    """The running test of one ceiling.

    The e-processes of one side need no strata. `worse` compares the sides and uses strata as any comparison does.
    """

    rate: float
    """The limit, above 0 and below 1."""
    alpha: float
    """Upper limit on the probability of rolling back a canary that keeps the limit or is no worse than the stable."""
    worse: ConditionalTest = field(init=False)
    """The test whether the canary is worse than the stable."""
    stable_seen: bool = False
    """Whether any request of the stable was counted; if not, the limit decides without the comparison."""
    canary: Side = field(init=False)
    stable: Side = field(init=False)
    below: list[float] = field(default_factory=lambda: list(UNPROVEN))
    """By alternative, ln of the e-value for a canary below the limit: the proof."""
    fired: bool = False
    """Whether the test has caused a rollback."""

    def __post_init__(self) -> None:
        self.canary = Side(self.rate, self.threshold, ignores_good_past=False)
        self.stable = Side(self.rate, self.threshold, ignores_good_past=True)
        self.worse = ConditionalTest(Parameters(alpha=self.alpha))

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.alpha)

    @property
    def log_e(self) -> float:
        """ln of the evidence that the canary is above the limit and worse than the stable: the smaller of the two."""
        above = self.canary.above.log_e
        return min(above, self.worse.log_e) if self.stable_seen else above

    @property
    def exceeded(self) -> bool:
        """Whether the canary is above the limit, also if the stable is."""
        return self.canary.above_limit

    @property
    def shared(self) -> bool:
        """Whether the stable is above the limit; then the canary is not the cause."""
        return self.stable.above_limit

    @property
    def rolled_back(self) -> bool:
        """Whether the canary was ever above the limit and worse than the stable while the stable kept the limit."""
        return self.fired

    def proven(self, carried_over: int) -> bool:
        """Whether the canary is proven to be below the limit, now, and neither side is known to be above it.

        Args:
            carried_over: see `Comparison.standing`.
        """
        return not (self.shared or self.exceeded) and log_sum(self._below_with(carried_over)) >= -math.log(BETA)

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Add one slice to the tests and, if it is settled, to the proof."""
        self.stable_seen |= s.n0 > 0
        self.worse.add(s, young=young)
        self.canary.add(s.n1, s.x1)
        self.stable.add(s.n0, s.x0)
        if settled:
            self.below = below(self.below, self.rate, s.n1, s.x1)
        # If no request of the stable was counted yet, its pods may be scraped later; settled slices are late enough.
        canary_is_cause = self.worse.rolled_back if self.stable_seen else settled
        self.fired = self.fired or (self.canary.reaches_threshold and canary_is_cause and not self.shared)

    def still_needed(self, s: Slice, carried_over: int) -> float | None:
        """Estimated number of further canary requests until the proof holds, at the rates of the totals `s`.

        None: no number of requests is enough at this rate.
        """
        if not s.n1:
            return None
        p = (s.x1 + 0.5) / (s.n1 + 1)
        gain = max(p * math.log(a) - math.log(1 - self.rate + self.rate * a) for a in SHARES)
        return max(0.0, -math.log(BETA) - log_sum(self._below_with(carried_over))) / gain if gain > 0 else None

    def _below_with(self, carried_over: int) -> list[float]:
        """`below` if that many more of the counted requests are bad."""
        return below(self.below, self.rate, 0, carried_over)

    def close_epoch(self, epoch: int, carried_over: int) -> None:
        """See `Comparison.close_epoch`; the proof does not distinguish epochs."""
        self.worse.close_epoch(epoch)
        self.below = self._below_with(carried_over)

    def state(self) -> dict[str, Any]:
        """The state of the test, for JSON."""
        return {
            "canary": self.canary.state(),
            "stable": self.stable.state(),
            "below": self.below,
            "worse": self.worse.state(),
            "stableSeen": self.stable_seen,
            "fired": self.fired,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        States of earlier releases lack some fields; they are accepted, or an upgrade would restart every trial. They
        have only `above` and `stableAbove` instead of the two sides.
        """
        for side, name, before in ((self.canary, "canary", "above"), (self.stable, "stable", "stableAbove")):
            if name in state:
                side.restore(state[name])
            else:
                side.above.logs = _logs(state[before], len(side.above.logs))
                side.above_limit = side.reaches_threshold
        self.below = _logs(state["below"], len(self.below))
        self.fired = bool(state["fired"])
        self.stable_seen = bool(state["stableSeen"])
        if "worse" in state:
            self.worse = ConditionalTest.from_state(self.worse.parameters, state["worse"])


def _logs(written: Sequence[float], expected: int) -> list[float]:
    logs = [float(log) for log in written]
    if len(logs) != expected:
        raise ValueError("different number of alternatives of the limit")
    return logs
