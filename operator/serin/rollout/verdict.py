"""The verdict: is the canary worse than the stable that serves beside it? Pass, Fail or Inconclusive.

This one is deliberately simple: finished requests of both sides in the same window, compared by Fisher's exact test
(R. A. Fisher, 1935). It is looked at repeatedly, so its level is strict. What it says is behind `Judgement`, which is
all that the rest of the core knows, so that a better test can take its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from serin.rollout.snapshot import Counts

MINIMUM_REQUESTS = 30
"""Finished requests of each side before a Pass."""
FAIL_BELOW = 1e-3
"""A one-sided p-value below this is a Fail."""
PASS_ABOVE = 0.05
"""Between this and `FAIL_BELOW` more evidence is awaited."""


NEGLIGIBLE = 40.0
"""A term smaller than the largest by this factor, as a logarithm, changes no digit of the sum."""


class Verdict(StrEnum):
    """Three-valued: silence is never Pass and never Fail."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True)
class MetricJudgement:
    """One metric: what was counted and what follows."""

    name: str
    canary: Counts
    stable: Counts
    evidence: float
    """How strongly the counts speak against the canary, 0-1 of what a rollback needs."""
    verdict: Verdict
    message: str


@dataclass(frozen=True)
class Judgement:
    """The verdict over all metrics, with the sentence that explains it."""

    verdict: Verdict
    message: str
    metrics: tuple[MetricJudgement, ...] = ()


def judge(canary: Counts | None, stable: Counts | None) -> Judgement:
    """Compare error counts of the same window; a side without any series counts as zero requests."""
    errors = _judge_errors(canary or Counts(0, 0), stable or Counts(0, 0))
    return Judgement(errors.verdict, errors.message, (errors,))


def _judge_errors(canary: Counts, stable: Counts) -> MetricJudgement:
    p = fisher_upper_tail(canary, stable)
    evidence = min(1.0, math.log(p) / math.log(FAIL_BELOW)) if p > 0 else 1.0
    verdict, message = _verdict(canary, stable, p)
    return MetricJudgement("errors", canary, stable, evidence, verdict, message)


def _verdict(canary: Counts, stable: Counts, p: float) -> tuple[Verdict, str]:
    told = f"canary {_rate(canary)}, stable {_rate(stable)}"
    if p < FAIL_BELOW:
        return Verdict.FAIL, f"The canary fails more requests than the stable: {told}."
    missing = max(MINIMUM_REQUESTS - canary.requests, 0), max(MINIMUM_REQUESTS - stable.requests, 0)
    if any(missing):
        return Verdict.INCONCLUSIVE, (
            f"Too few finished requests ({told}): "
            f"needs {missing[0]} more of the canary and {missing[1]} more of the stable."
        )
    if p <= PASS_ABOVE:
        return Verdict.INCONCLUSIVE, f"The canary looks worse, but not beyond doubt: {told}; more requests will tell."
    return Verdict.PASS, f"The canary fails no more requests than the stable: {told}."


def _rate(counts: Counts) -> str:
    return f"{counts.bad} bad of {counts.requests}"


def fisher_upper_tail(canary: Counts, stable: Counts) -> float:
    """P(the canary has at least this many of all bad requests), if bad ones fell on both sides alike; in 0..1.

    The hypergeometric upper tail given all margins, summed in log space so that large counts do not underflow.
    """
    n1, n0, bad = canary.requests, stable.requests, canary.bad + stable.bad
    highest = min(n1, bad)
    if canary.bad <= max(0, bad - n0):  # the lowest value possible: certain
        return 1.0
    total = _log_choose(n1 + n0, bad)
    logs: list[float] = []
    top = -math.inf
    for j in range(canary.bad, highest + 1):
        logs.append(_log_choose(n1, j) + _log_choose(n0, bad - j) - total)
        top = max(top, logs[-1])
        if logs[-1] < top - NEGLIGIBLE:  # past the mode, and what follows is smaller still
            break
    return min(1.0, math.exp(top) * math.fsum(math.exp(value - top) for value in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
