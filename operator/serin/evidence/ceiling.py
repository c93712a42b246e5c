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
from dataclasses import dataclass, replace
from typing import Any

from serin.evidence import stored
from serin.evidence.closed_form import Ceiling
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.log_space import log_sum
from serin.evidence.non_inferiority import BETA, SHARES, UNPROVEN
from serin.evidence.slices import LOG_PRIOR, Counts, Slice, Totals

HEADROOM = 1.0
"""How far ln of the e-value can rise above the threshold, so that it falls soon after an outage is over."""


@dataclass(frozen=True)
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
    above: Ceiling
    """The e-process for being above the limit."""
    below_logs: tuple[float, ...] = UNPROVEN
    """By alternative, ln of the e-value for being below the limit, since the side was last found to be above."""
    above_limit: bool = False

    @classmethod
    def begin(cls, rate: float, threshold: float, *, ignores_good_past: bool) -> Side:
        """A side before its first request."""
        return cls(rate, threshold, ignores_good_past, Ceiling(rate))

    @property
    def reaches_threshold(self) -> bool:
        """Whether the evidence for being above the limit is enough now."""
        return self.above.log_e >= self.threshold - 1e-9

    def add(self, counts: Counts) -> Side:
        """The side after more requests."""
        # Lowering an e-value is always valid.
        logs = tuple([min(log, self.threshold + HEADROOM) for log in self.above.add(counts).logs])
        if self.ignores_good_past:  # raising one is not, but this side's result can only hold a canary
            logs = _at_least(logs, LOG_PRIOR)
        side = replace(self, above=replace(self.above, logs=logs))
        if side.reaches_threshold:
            return replace(side, above_limit=True, below_logs=UNPROVEN)
        if not self.above_limit:
            return side
        below_logs = below(_at_least(self.below_logs, UNPROVEN), self.rate, counts)
        return replace(side, below_logs=below_logs, above_limit=log_sum(below_logs) < -math.log(BETA))

    def state(self) -> dict[str, Any]:
        """The state of the side, for JSON."""
        return {"above": list(self.above.logs), "keeps": list(self.below_logs), "beyond": self.above_limit}

    def continued(self, state: dict[str, Any]) -> Side:
        """The side that continues from `state`."""
        return replace(
            self,
            above=replace(self.above, logs=stored.logs(state["above"], like=LOG_PRIOR)),
            below_logs=stored.logs(state["keeps"], like=UNPROVEN),
            above_limit=stored.flag(state["beyond"]),
        )

    def continued_from_logs(self, logs: Sequence[Any]) -> Side:
        """The side that continues from the state of an early release, which has only the logarithms of `above`."""
        side = replace(self, above=replace(self.above, logs=stored.logs(logs, like=LOG_PRIOR)))
        return replace(side, above_limit=side.reaches_threshold)


def _at_least(logs: Sequence[float], minimum: Sequence[float]) -> tuple[float, ...]:
    return tuple([max(log, lowest) for log, lowest in zip(logs, minimum, strict=True)])


def below(logs: Sequence[float], rate: float, counts: Counts) -> tuple[float, ...]:
    """By alternative, ln of the e-value for a bad rate below `rate`, after more requests."""
    n, x = counts.requests, counts.bad
    return tuple(
        [log + x * math.log(a) - n * math.log(1 - rate + rate * a) for log, a in zip(logs, SHARES, strict=True)]
    )


@dataclass(frozen=True)
class CeilingTest:
    """The running test of one ceiling.

    The e-processes of one side need no strata. `worse` compares the sides and uses strata as any comparison does.
    """

    rate: float
    """The limit, above 0 and below 1."""
    alpha: float
    """Upper limit on the probability of rolling back a canary that keeps the limit or is no worse than the stable."""
    worse: ConditionalTest
    """The test whether the canary is worse than the stable."""
    canary: Side
    stable: Side
    stable_has_requests: bool = False
    """Whether any request of the stable was counted; if not, the limit decides without the comparison."""
    below: tuple[float, ...] = UNPROVEN
    """By alternative, ln of the e-value for a canary below the limit: the proof."""
    fired: bool = False
    """Whether the test has caused a rollback."""

    @classmethod
    def begin(cls, rate: float, alpha: float) -> CeilingTest:
        """The test before the first request."""
        threshold = -math.log(alpha)
        return cls(
            rate,
            alpha,
            worse=ConditionalTest(Parameters(alpha=alpha)),
            canary=Side.begin(rate, threshold, ignores_good_past=False),
            stable=Side.begin(rate, threshold, ignores_good_past=True),
        )

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.alpha)

    @property
    def log_e(self) -> float:
        """ln of the evidence that the canary is above the limit and worse than the stable: the smaller of the two."""
        above = self.canary.above.log_e
        return min(above, self.worse.log_e) if self.stable_has_requests else above

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

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> CeilingTest:
        """The tests with one more slice, and if it is settled the proof as well."""
        stable_has_requests = self.stable_has_requests or s.n0 > 0
        worse, canary, stable = self.worse.add(s, young=young), self.canary.add(s.canary), self.stable.add(s.stable)
        # If no request of the stable was counted yet, its pods may be scraped later; settled slices are late enough.
        canary_is_cause = worse.rolled_back if stable_has_requests else settled
        return replace(
            self,
            worse=worse,
            canary=canary,
            stable=stable,
            stable_has_requests=stable_has_requests,
            below=below(self.below, self.rate, s.canary) if settled else self.below,
            fired=self.fired or (canary.reaches_threshold and canary_is_cause and not stable.above_limit),
        )

    def still_needed(self, s: Totals, carried_over: int) -> float | None:
        """Estimated number of further canary requests until the proof holds, at the rates of the totals `s`.

        None: no number of requests is enough at this rate.
        """
        if not s.n1:
            return None
        p = (s.x1 + 0.5) / (s.n1 + 1)
        gain = max(p * math.log(a) - math.log(1 - self.rate + self.rate * a) for a in SHARES)
        return max(0.0, -math.log(BETA) - log_sum(self._below_with(carried_over))) / gain if gain > 0 else None

    def _below_with(self, carried_over: int) -> tuple[float, ...]:
        """`below` if that many more of the counted requests are bad."""
        return below(self.below, self.rate, Counts(0, carried_over))

    def close_epoch(self, epoch: int, carried_over: int) -> CeilingTest:
        """See `Comparison.close_epoch`; the proof does not distinguish epochs."""
        return replace(self, worse=self.worse.close_epoch(epoch), below=self._below_with(carried_over))

    def state(self) -> dict[str, Any]:
        """The state of the test, for JSON."""
        return {
            "canary": self.canary.state(),
            "stable": self.stable.state(),
            "below": list(self.below),
            "worse": self.worse.state(),
            "stableSeen": self.stable_has_requests,
            "fired": self.fired,
        }

    def continued(self, state: dict[str, Any], total: Totals) -> CeilingTest:
        """The test that continues from `state`.

        States of earlier releases lack some fields; they are accepted, or an upgrade would restart every trial. They
        have only `above` and `stableAbove` instead of the two sides. `total` is what was counted so far.
        """
        two_sides = "canary" in state and "stable" in state
        return replace(
            self,
            canary=self.canary.continued(state["canary"])
            if two_sides
            else self.canary.continued_from_logs(state["above"]),
            stable=self.stable.continued(state["stable"])
            if two_sides
            else self.stable.continued_from_logs(state["stableAbove"]),
            below=stored.logs(state["below"], like=UNPROVEN),
            worse=ConditionalTest.from_state(self.worse.parameters, state["worse"]) if "worse" in state else self.worse,
            stable_has_requests=stored.flag(state.get("stableSeen", total.n0 > 0)),
            fired=stored.flag(state["fired"]),
        )
