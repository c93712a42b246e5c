"""Simulated rollouts: traffic in, verdicts out. Called by `command`.

Arrivals are a Poisson process that the weight splits at random, and each answer is bad with its side's probability. So
the four counts of a slice are independent Poisson numbers. Answers are counted at once, and a weight takes effect at
once; of slow answers only one thing is played, that strata of a young epoch stay open for them. The rest of it, latency
and drift are in `bench/decision`. Run number i of a seed is the same on any machine.
"""

from __future__ import annotations

import math
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random

from serin.evidence.conditional import ConditionalTest, Parameters, young_seconds
from serin.evidence.ramp import AdaptiveRamp
from serin.evidence.slices import Slice
from serin.simulation.poisson import poisson

FIXED_STEPS = (0.05, 0.25, 0.5)
"""Weights of the fixed ramp, as fractions; the last one is held until the end."""
STEP_SECONDS = 600.0


@dataclass(frozen=True)
class Scenario:
    """What is simulated. Rates are fractions of the answers, 0..1."""

    rps: float = 20.0
    """Requests per second of canary and stable together."""
    base_rate: float = 0.01
    """Of the stable's answers, this share is bad."""
    ratio: float = 2.0
    """How many times worse the canary is; 1: no worse."""
    ramp: str = "adaptive"
    """`adaptive`, or `fixed`: the steps above."""
    minutes: float = 40.0
    alpha: float = 0.01
    margin: float = 1.0
    slice_seconds: float = 15.0
    answer_seconds: float = 0.0
    """What nine of ten of the stable's answers take: how long strata stay open after a change of weight."""

    @property
    def canary_rate(self) -> float:
        """Of the canary's answers, this share is bad."""
        return self.base_rate * self.ratio


@dataclass(frozen=True)
class Run:
    """How one rollout went."""

    seconds: float | None
    """From the canary's first traffic to the rollback; None: it was not rolled back."""
    canary_requests: int
    excess_bad: float
    """Expected bad answers beyond what the stable would have given to the same requests, until the rollback.

    Expected given the requests, not counted: the mean over runs is the same (optional stopping), its error is smaller.
    A run without rollback is charged the whole ramp. Negative for a canary that is better.
    """


def run_one(scenario: Scenario, random: Random) -> Run:
    """One rollout from the first request to the rollback, or to the end of the ramp."""
    s, test = scenario, ConditionalTest(Parameters(alpha=scenario.alpha, margin=scenario.margin))
    ramp = AdaptiveRamp(s.rps, s.slice_seconds)
    weight = ramp.first() if s.ramp == "adaptive" else FIXED_STEPS[0]
    epoch, began, requests = 0, 0.0, 0
    young, seconds = young_seconds(s.answer_seconds, s.slice_seconds), None
    for number in range(1, round(s.minutes * 60 / s.slice_seconds) + 1):
        arrivals, end = s.rps * s.slice_seconds, number * s.slice_seconds
        x1 = poisson(random, arrivals * weight * s.canary_rate)
        n1 = x1 + poisson(random, arrivals * weight * (1 - s.canary_rate))
        x0 = poisson(random, arrivals * (1 - weight) * s.base_rate)
        n0 = x0 + poisson(random, arrivals * (1 - weight) * (1 - s.base_rate))
        requests, closed = requests + n1, test.closed
        test.add(Slice(n1, x1, n0, x0, end, epoch), young=end - s.slice_seconds - began < young)
        if test.rolled_back:
            seconds = end
            break
        before = weight
        if s.ramp == "fixed":
            weight = FIXED_STEPS[min(int(end // STEP_SECONDS), len(FIXED_STEPS) - 1)]
        elif test.closed != closed:
            weight = ramp.next(weight, test.closed)
        if weight != before:
            epoch, began = epoch + 1, end
    return Run(seconds, requests, requests * (s.canary_rate - s.base_rate))


def run_all(scenario: Scenario, runs: int, seed: int, jobs: int | None = None) -> list[Run]:
    """`runs` rollouts in order, on `jobs` processes (None: all cores); the result does not depend on how many."""
    jobs = min(jobs or os.cpu_count() or 1, runs)
    numbered = partial(_numbered, scenario, seed)
    if jobs <= 1:
        return [numbered(number) for number in range(runs)]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(numbered, range(runs), chunksize=max(1, runs // (jobs * 16))))


def _numbered(scenario: Scenario, seed: int, number: int) -> Run:
    return run_one(scenario, Random(f"{seed} {number}"))


def wald_bound(base_rate: float, canary_rate: float, alpha: float, margin: float = 1.0) -> float | None:
    """Excess bad answers that any test with this alpha and power 1 needs on average; None if it is not worse.

    (p1 - p0) ln(1/alpha) / KL(p1, margin p0). Source: Wald 1945.
    """
    allowed = margin * base_rate
    if canary_rate <= allowed:
        return None
    if not allowed:
        return 0.0  # the first bad answer is a proof
    information = canary_rate * math.log(canary_rate / allowed)
    if canary_rate < 1:
        information += (1 - canary_rate) * math.log((1 - canary_rate) / (1 - allowed))
    return (canary_rate - base_rate) * -math.log(alpha) / information


@dataclass(frozen=True)
class Summary:
    """What the runs say together; `_se` are standard errors."""

    runs: int
    p_rollback: float
    p_rollback_se: float
    mean_excess_bad: float
    mean_excess_bad_se: float
    median_delay_s: float | None
    """From the canary's first traffic to the rollback, over the runs that were rolled back."""
    mean_canary_requests: float
    wald_bound: float | None
    ratio_to_bound: float | None


def summarise(scenario: Scenario, runs: list[Run]) -> Summary:
    """The figures of at least one run."""
    delays = [run.seconds for run in runs if run.seconds is not None]
    share, excess = len(delays) / len(runs), [run.excess_bad for run in runs]
    mean, spread = statistics.fmean(excess), statistics.stdev(excess) if len(runs) > 1 else 0.0
    bound = wald_bound(scenario.base_rate, scenario.canary_rate, scenario.alpha, scenario.margin)
    return Summary(
        runs=len(runs),
        p_rollback=share,
        p_rollback_se=math.sqrt(share * (1 - share) / len(runs)),
        mean_excess_bad=mean,
        mean_excess_bad_se=spread / math.sqrt(len(runs)),
        median_delay_s=statistics.median(delays) if delays else None,
        mean_canary_requests=statistics.fmean(run.canary_requests for run in runs),
        wald_bound=bound,
        ratio_to_bound=mean / bound if bound else None,
    )
