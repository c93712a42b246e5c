"""Whether requests are lost on the way to the canary: tests of its share of the arrivals against its weight. Pure.

A request reaches the canary with the probability that its weight gives, and arrives with the probability `kept`. One
side is tested only, against `kept` = 0.9 (`TOLERATED`). `log_e_of_few_lost` is an e-process for the proof that a
promotion needs; `LostTest` finds a loss and says so while it lasts. Called by `serin.analysis.arrivals_proof` and
`serin.analysis.update`. Specification: docs/reference/decision-engine.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from serin.evidence.log_space import log_sum
from serin.evidence.slices import NO_REQUESTS, RequestsBySide

TOLERATED = 0.9
"""The share of the canary's requests that must arrive."""
FEW_LOST = (0.95, 1.0)
"""The alternatives of the proof: shares that arrive. At less than about 0.925 no number of requests proves anything."""
MANY_LOST = (0.02, 0.2, 0.4, 0.6, 0.7, 0.8)
"""The alternatives of the test that finds a loss."""
PROVEN = math.log(20)
"""ln of the e-value from which few requests are proven to be lost."""
BEYOND_DOUBT = math.log(1000)
"""ln of the e-value from which many are lost beyond doubt."""
PERIOD_SECONDS = 60.0
"""Arrivals of this time are one step of `LostTest`: long against the scrape interval, by which one side can be behind.
"""
MOST_PER_PERIOD = BEYOND_DOUBT / 3
"""The most that a period adds: a pod that restarts loses requests for less than three."""


class Arrivals(NamedTuple):
    """Requests of both sides that arrived at one weight."""

    canary: int
    stable: int
    weight: float
    """The canary's weight as a fraction, above 0 and below 1."""

    @property
    def expected(self) -> float:
        """How many requests of the canary the stable's lead to expect."""
        return self.stable * self.weight / (1 - self.weight)


def _steps(arrivals: Arrivals, alternatives: Sequence[float], tolerated: float = TOLERATED) -> list[float]:
    """What arrivals add to the logarithm of each alternative's likelihood ratio against `tolerated`."""
    odds = arrivals.weight / (1 - arrivals.weight)
    null = odds * tolerated / (1 + odds * tolerated)
    shares = [odds * kept / (1 + odds * kept) for kept in alternatives]
    return [
        arrivals.canary * math.log(share / null) + arrivals.stable * math.log((1 - share) / (1 - null))
        for share in shares
    ]


def log_e_of_few_lost(arrivals: Iterable[Arrivals], tolerated: float = TOLERATED) -> float:
    """ln of the e-value for the proof that a larger share than `tolerated` of the canary's requests arrives.

    The likelihood ratio of a Bernoulli trial is monotone in its probability, so its expectation is at most 1 under
    every larger loss too.
    """
    logs = [0.0] * len(FEW_LOST)
    for each in arrivals:
        logs = [log + step for log, step in zip(logs, _steps(each, FEW_LOST, tolerated), strict=True)]
    return log_sum(logs) - math.log(len(FEW_LOST))


def still_needed(log_e: float, kept: float, weight: float, tolerated: float = TOLERATED) -> float | None:
    """Estimated number of further requests of both sides until the proof holds; None: no number is enough."""
    odds = weight / (1 - weight)
    share = odds * kept / (1 + odds * kept)
    gain = max(
        share * at_canary + (1 - share) * at_stable
        for at_canary, at_stable in zip(
            *(_steps(one, FEW_LOST, tolerated) for one in (Arrivals(1, 0, weight), Arrivals(0, 1, weight))), strict=True
        )
    )
    return max(0.0, PROVEN + math.log(len(FEW_LOST)) - log_e) / gain if gain > 0 else None


_PRIOR = (-math.log(len(MANY_LOST)),) * len(MANY_LOST)


@dataclass(frozen=True)
class LostTest:
    """Evidence that more than a tenth of the canary's requests are lost now.

    E begins again at 1 whenever it falls below, so a loss that begins late is found as soon as an early one. With a
    tenth lost, E reaches 1000 on average once in 1000 periods; with none lost, practically never.
    """

    logs: tuple[float, ...] = _PRIOR
    since: float = 0.0
    """Begin of the current period, in seconds since the canary's first traffic."""
    arrived: RequestsBySide = NO_REQUESTS
    """Arrivals of the period that is not over."""
    expected: float = 0.0
    """Sum of (both sides' requests times weight) of that period."""
    lost: float = 0.0
    """About how many requests were lost since E was 1."""

    @property
    def log_e(self) -> float:
        """ln E."""
        return log_sum(self.logs)

    @property
    def beyond_doubt(self) -> bool:
        """Whether many requests are lost beyond doubt."""
        return self.log_e >= BEYOND_DOUBT - 1e-9

    def add(self, arrivals: Iterable[Arrivals], t: float) -> LostTest:
        """The test with the arrivals of one interval that ends at `t`."""
        arrived, expected = self.arrived, self.expected
        for each in arrivals:
            arrived += RequestsBySide(each.canary, each.stable)
            expected += (each.canary + each.stable) * each.weight
        test = replace(self, arrived=arrived, expected=expected)
        return test.after_period(t) if t - self.since >= PERIOD_SECONDS else test

    def after_period(self, t: float) -> LostTest:
        """The test with a period that ends at `t`."""
        if not self.arrived.both:
            return replace(self, since=t)
        period = Arrivals(self.arrived.canary, self.arrived.stable, self.expected / self.arrived.both)
        logs = [log + step for log, step in zip(self.logs, _steps(period, MANY_LOST), strict=True)]
        log_e, most = log_sum(logs), self.log_e + MOST_PER_PERIOD
        if log_e <= 0:
            return LostTest(since=t)
        lost = self.lost + max(0.0, period.expected - period.canary)
        return LostTest(tuple(log - max(0.0, log_e - most) for log in logs), since=t, lost=lost)


NOTHING_LOST = LostTest()
"""The test before the first request."""
