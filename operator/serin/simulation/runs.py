"""Simulated trials and their summary. Called by `command`.

Requests arrive as a Poisson process that the weight splits at random, and each answer is bad with the probability of
its side. The four counts of a slice are therefore independent Poisson numbers. Answers are complete at once, and a new
weight applies at once. Slow answers are simulated in one way only: strata of a young epoch stay open. Latency, drift
and other effects of slow answers are in `bench/decision`. Run number i of a seed is the same on every machine.
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
from serin.evidence.metric import Comparison
from serin.evidence.non_inferiority import NonInferiority, default_tolerance
from serin.evidence.ramp import AdaptiveRamp, default_budget, limit
from serin.evidence.slices import Slice
from serin.simulation.poisson import poisson

FIXED_STEPS = (0.05, 0.25, 0.5)
"""Weights of the fixed ramp, as fractions; the last one stays until the end of the trial."""
STEP_SECONDS = 600.0
LIMITS = (0.25, 0.5)
"""Highest weights of the adaptive ramp, before and after the evidence favours the canary."""
BAKE_SECONDS = 600.0
"""Shortest time until a promotion: the default of `rollout.minimumBake`."""
SETTLE_SECONDS = 30.0
"""How long after a change of weight slices do not count for the proof."""


@dataclass(frozen=True)
class Scenario:
    """Parameters of the simulation. Rates are fractions of the answers, 0 to 1."""

    rps: float = 20.0
    """Requests per second of canary and stable together."""
    base_rate: float = 0.01
    """Bad rate of the stable."""
    ratio: float = 2.0
    """Bad rate of the canary divided by that of the stable."""
    ramp: str = "adaptive"
    """`adaptive`, or `fixed` (FIXED_STEPS)."""
    minutes: float = 40.0
    """Duration of the trial if it is not rolled back."""
    alpha: float = 0.01
    margin: float = 1.0
    slice_seconds: float = 15.0
    answer_seconds: float = 0.0
    """90 % quantile of the duration of answers, which decides how long strata stay open after a change of weight."""

    @property
    def canary_rate(self) -> float:
        """Bad rate of the canary."""
        return self.base_rate * self.ratio


@dataclass(frozen=True)
class Run:
    """The result of one simulated trial."""

    seconds: float | None
    """From the canary's first traffic to the rollback; None if there was none."""
    promoted: float | None
    """From the canary's first traffic to the moment when it may be promoted; None if it did not come. The trial goes on
    after it, so that a rollback that is too late can be seen."""
    canary_requests: int
    excess_bad: float
    """Expected number of bad answers until the rollback, beyond those of the stable for the same requests.

    It is the expectation given the requests, not a count: the mean over runs is the same (optional stopping), but has a
    smaller error. Without a rollback it covers the whole trial. It is negative if the canary is better.
    """


def run_one(scenario: Scenario, random: Random) -> Run:
    """Simulate one trial, from the canary's first request to the rollback or to the end."""
    s = scenario
    ratio, absolute = default_tolerance(s.rps)
    tested = Comparison(
        ConditionalTest(Parameters(alpha=s.alpha, margin=s.margin, of_rates=True)), NonInferiority(ratio, absolute)
    )
    weight = _adaptive(s, LIMITS[0]).first() if s.ramp == "adaptive" else FIXED_STEPS[0]
    soonest = BAKE_SECONDS if s.ramp == "adaptive" else len(FIXED_STEPS) * STEP_SECONDS
    epoch, began, requests = 0, 0.0, 0
    young, seconds, promoted = young_seconds(s.answer_seconds, s.slice_seconds), None, None
    for number in range(1, round(s.minutes * 60 / s.slice_seconds) + 1):
        arrivals, end = s.rps * s.slice_seconds, number * s.slice_seconds
        x1 = poisson(random, arrivals * weight * s.canary_rate)
        n1 = x1 + poisson(random, arrivals * weight * (1 - s.canary_rate))
        x0 = poisson(random, arrivals * (1 - weight) * s.base_rate)
        n0 = x0 + poisson(random, arrivals * (1 - weight) * (1 - s.base_rate))
        requests, closed = requests + n1, tested.test.closed
        tested = tested.add(
            Slice(n1, x1, n0, x0, end, epoch),
            settled=end - began >= SETTLE_SECONDS,
            young=end - s.slice_seconds - began < young,
        ).nothing_ended({epoch})
        if tested.rolled_back:
            seconds = end
            break
        if promoted is None and end >= soonest and tested.proven(0):
            promoted = end
        before = weight
        if s.ramp == "fixed":
            weight = FIXED_STEPS[min(int(end // STEP_SECONDS), len(FIXED_STEPS) - 1)]
        elif tested.test.closed != closed:
            largest = limit(weight, LIMITS, [(tested.log_e, tested.proof.log_e)])
            weight = _adaptive(s, largest).next(weight, tested.test.closed)
        if weight != before:
            epoch, began = epoch + 1, end
    return Run(seconds, promoted, requests, requests * (s.canary_rate - s.base_rate))


def _adaptive(s: Scenario, largest: float) -> AdaptiveRamp:
    return AdaptiveRamp(s.rps, s.slice_seconds, default_budget(s.rps), w_max=largest)


def run_all(scenario: Scenario, runs: int, seed: int, jobs: int | None = None) -> list[Run]:
    """Simulate `runs` trials on `jobs` processes (None: one per core); the result does not depend on `jobs`."""
    jobs = min(jobs or os.cpu_count() or 1, runs)
    numbered = partial(_numbered, scenario, seed)
    if jobs <= 1:
        return [numbered(number) for number in range(runs)]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(numbered, range(runs), chunksize=max(1, runs // (jobs * 16))))


def _numbered(scenario: Scenario, seed: int, number: int) -> Run:
    return run_one(scenario, Random(f"{seed} {number}"))


def wald_bound(base_rate: float, canary_rate: float, alpha: float, margin: float = 1.0) -> float | None:
    """Wald's lower bound on the mean excess bad answers of any test with this alpha and power 1.

    (p1 - p0) ln(1/alpha) / KL(p1, margin p0); None if the canary is within the margin. Source: Wald 1945.
    """
    allowed = margin * base_rate
    if canary_rate <= allowed:
        return None
    if not allowed:
        return 0.0  # the first bad answer decides
    information = canary_rate * math.log(canary_rate / allowed)
    if canary_rate < 1:
        information += (1 - canary_rate) * math.log((1 - canary_rate) / (1 - allowed))
    return (canary_rate - base_rate) * -math.log(alpha) / information


@dataclass(frozen=True)
class Summary:
    """Statistics over all runs; `_se` means standard error."""

    runs: int
    p_rollback: float
    p_rollback_se: float
    mean_excess_bad: float
    mean_excess_bad_se: float
    median_delay_s: float | None
    """From the canary's first traffic to the rollback, over the trials that were rolled back; None without any."""
    p_promoted: float
    """Share of the trials in which the proof for a promotion held before any rollback."""
    median_promotion_s: float | None
    """From the canary's first traffic until then, over those trials; None without any."""
    mean_canary_requests: float
    wald_bound: float | None
    """See `wald_bound`."""
    ratio_to_bound: float | None


def summarise(scenario: Scenario, runs: list[Run]) -> Summary:
    """Statistics over the runs, of which there must be at least one."""
    delays = [run.seconds for run in runs if run.seconds is not None]
    promoted = [run.promoted for run in runs if run.promoted is not None]
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
        p_promoted=len(promoted) / len(runs),
        median_promotion_s=statistics.median(promoted) if promoted else None,
        mean_canary_requests=statistics.fmean(run.canary_requests for run in runs),
        wald_bound=bound,
        ratio_to_bound=mean / bound if bound else None,
    )
