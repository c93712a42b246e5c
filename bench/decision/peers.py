"""The decision rules of others, as they document them, on the same traffic; called by `rows`.

What they are, and where it is written (looked up in their own repositories):

- Argo Rollouts: an AnalysisTemplate with `successCondition: result >= 0.95` and `failureLimit: 3` (docs/features/
  analysis.md). A measurement fails below 95 %; the analysis fails when *more* than three have failed, in total
  (analysis/analysis.go: `result.Failed > failureLimit`). Here with `interval: 1m` over the last minute; with the
  document's own interval, 5 m, the fourth failure takes 20 minutes at least.
- Flagger: `interval: 1m`, `threshold: 10`, `maxWeight: 50`, `stepWeight: 5`, `request-success-rate` of at least 99
  over 1 m (docs/gitbook/usage/how-it-works.md). A failed check holds the weight; the tenth rolls back, in total; a
  check that passes at the largest weight promotes.
- Kayenta: Mann-Whitney on the series of canary and control, one point a minute, confidence 0.98, tolerance 0.25: the
  canary is High when the lower end of the confidence interval of the Hodges-Lehmann shift exceeds 0.25 times the
  shift's estimate (NetflixACAJudge.scala, MannWhitneyClassifier.scala). One metric that is High scores 0, below any
  marginal threshold. Judged at the end of each step of ten minutes over all points since the start; its own advice,
  50 points a judgement and several hours, does not fit into 40 minutes.

Argo and Kayenta ride the fixed ramp, as a Rollout with these steps would. A rule sees what *ends* in its window: none
of them knows epochs.
"""

from __future__ import annotations

import math

import numpy as np

from bench.decision.kernel import Floats, Ints, compiled
from bench.decision.rollouts import (
    AT_MAX,
    BAD,
    GOOD_SLICES,
    LATE_BAD,
    REQUESTS,
    ROLLED,
    STEP_SLICES,
    fixed_weight,
)

ARGO, FLAGGER, KAYENTA = 0, 1, 2
MINUTE = 4
"""Slices."""
Z_KAYENTA = 2.3263
"""Both sides together leave 2 %."""


@compiled
def rule_runs(
    gen: np.random.Generator,
    arrivals: Ints,
    rates: Floats,
    factor: float,
    onset: int,
    rule: int,
    window: int,
    slow_good: bool,
) -> Floats:
    """Errors as in `rollouts.ratio`; with `slow_good` answers last as in `rollouts.durations`."""
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    for run in range(runs):
        out[run, ROLLED] = out[run, AT_MAX] = -1
        weight = fixed_weight(0)
        failed, tail = 0, GOOD_SLICES + 1
        done = np.zeros((slices + tail, 4))  # n1, x1, n0, x0 by the slice in which they ended
        points, shares = 0, np.zeros((slices // MINUTE + 1, 2))
        for i in range(slices):
            p0 = rates[i]
            p1 = min(1.0, p0 * factor) if i >= onset else p0
            n1 = gen.binomial(arrivals[run, i], weight)
            out[run, REQUESTS] += n1
            out[run, BAD] += n1 * (p1 - p0)
            sides = (n1, arrivals[run, i] - n1)
            for side in range(2):
                bad = gen.binomial(sides[side], p1 if side == 0 else p0)
                late = gen.binomial(bad, LATE_BAD) if slow_good else 0
                for slot, count in ((i, bad - late), (i + 1, late)):
                    done[slot, 2 * side] += count
                    done[slot, 2 * side + 1] += count
                done[i + (GOOD_SLICES if slow_good else 0), 2 * side] += sides[side] - bad
            if (i + 1) % MINUTE == 0:
                ended = done[max(0, i + 1 - window) : i + 1].sum(axis=0)
                if rule == KAYENTA:
                    if ended[0] > 0 and ended[2] > 0:
                        shares[points, 0], shares[points, 1] = ended[1] / ended[0], ended[3] / ended[2]
                        points += 1
                    if (i + 1) % STEP_SLICES == 0 and points and is_high(shares[:points, 0], shares[:points, 1]):
                        out[run, ROLLED] = i
                        break
                elif rule == ARGO:
                    failed += ended[0] > 0 and ended[1] / ended[0] > 0.05
                    if failed > 3:
                        out[run, ROLLED] = i
                        break
                elif ended[0] > 0:
                    if ended[1] / ended[0] > 0.01:
                        failed += 1
                        if failed >= 10:
                            out[run, ROLLED] = i
                            break
                    elif weight >= 0.5:  # promoted: its ramp is over
                        break
                    else:
                        weight = min(0.5, weight + 0.05)
            if rule != FLAGGER:
                weight = fixed_weight(i + 1)
            if out[run, AT_MAX] < 0 and weight >= 0.25:
                out[run, AT_MAX] = i + 1
    return out


@compiled
def is_high(canary: Floats, control: Floats) -> bool:
    """Kayenta's classification of one metric, direction `increase`."""
    shifts = np.empty(len(canary) * len(control))
    for i in range(len(canary)):
        for j in range(len(control)):
            shifts[i * len(control) + j] = canary[i] - control[j]
    shifts.sort()
    pairs = len(shifts)
    spread = math.sqrt(pairs * (len(canary) + len(control) + 1) / 12)
    rank = math.floor(pairs / 2 - Z_KAYENTA * spread)  # the normal approximation, as R takes it for ties
    if rank < 1:
        return False
    estimate = (shifts[(pairs - 1) // 2] + shifts[pairs // 2]) / 2
    return bool(shifts[rank - 1] > 0.25 * abs(estimate))


@compiled
def argo_histogram(gen: np.random.Generator, arrivals: Ints, above: Floats, hang: float) -> Floats:
    """Argo's rule on the share above one boundary; what hangs is seen after 60 s."""
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    for run in range(runs):
        out[run, ROLLED] = out[run, AT_MAX] = -1
        failed = 0
        done = np.zeros((slices + 5, 2))
        for i in range(slices):
            n1 = gen.binomial(arrivals[run, i], fixed_weight(i))
            hung = gen.binomial(n1, hang)
            out[run, REQUESTS] += n1
            done[i, 0] += n1 - hung
            done[i, 1] += gen.binomial(n1 - hung, above[0])
            done[i + 4, 0] += hung
            done[i + 4, 1] += hung
            if (i + 1) % MINUTE == 0:
                ended = done[i + 1 - MINUTE : i + 1].sum(axis=0)
                failed += ended[0] > 0 and ended[1] / ended[0] > 0.05
                if failed > 3:
                    out[run, ROLLED] = i
                    break
    return out
