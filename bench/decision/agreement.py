"""Whether the compiled arithmetic is the operator's: on the test vectors and on random trajectories.

The vectors belong to docs/reference/decision-engine.md, section 10.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from bench.decision import kernel
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.metric import Comparison
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.ramp import AdaptiveRamp
from serin.evidence.slices import Slice

VECTORS = Path(__file__).parents[2] / "tests" / "unit" / "evidence" / "vectors.json"
TOLERANCE = 1e-6
TRAJECTORIES = 60


def check(seed: int) -> tuple[int, float]:
    """How many slices were compared, and the largest difference in log E, proof or weight.

    Raises:
        SystemExit: they differ by more than `TOLERANCE`, or in a verdict.
    """
    cases = [
        (Parameters(v["alpha"], v["margin"], v["cap"], v["min_stratum"]), [Slice(*values) for values in v["slices"]])
        for v in json.loads(VECTORS.read_text())
    ]
    cases += [_random_case(np.random.default_rng([seed, number])) for number in range(TRAJECTORIES)]
    worst = max(_difference(parameters, slices) for parameters, slices in cases)
    if not worst <= TOLERANCE:
        raise SystemExit(f"The compiled arithmetic differs from serin.evidence by {worst}; put bench/decision right.")
    return sum(len(slices) for _, slices in cases), worst


def _random_case(random: np.random.Generator) -> tuple[Parameters, list[Slice]]:
    cap = [None, 0.5, 0.25][random.integers(3)]
    parameters = Parameters(10 ** -random.uniform(1, 4), random.choice([1.0, 1.1, 1.25, 2.0]), cap)
    rate, ratio = 10 ** random.uniform(-3, -0.5), random.choice([0.5, 1, 1, 1.5, 3, 20])
    mean, weight, slices, t, epoch = 10 ** random.uniform(0.5, 4), random.uniform(0.002, 0.5), [], 0.0, 0
    for _ in range(60):
        t += 15 if random.random() < 0.95 else random.uniform(15, 3000)
        n = int(random.poisson(mean))
        n1 = int(random.binomial(n, weight))
        x1, x0 = int(random.binomial(n1, min(1.0, rate * ratio))), int(random.binomial(n - n1, rate))
        if epoch and random.random() < 0.2:  # time-outs of an epoch that is over
            hung = int(random.integers(1, 4))
            slices.append(Slice(hung, hung, 0, 0, t, epoch - 1))
        slices.append(Slice(n1, x1, n - n1, x0, t, epoch))
        epoch += int(random.random() < 0.3)
    return parameters, slices


def _difference(parameters: Parameters, slices: list[Slice]) -> float:
    p = parameters
    both = Comparison(ConditionalTest(p), NonInferiority())
    ramp, weight = AdaptiveRamp(20), 0.01
    par = kernel.parameters(p.alpha, p.margin, p.cap, p.min_stratum)
    ours, strata, closed = kernel.new_test(), kernel.new_open(), np.zeros(4, dtype=np.int64)
    logs, ours_weight, worst = np.full(8, -math.log(8)), 0.01, 0.0
    pools = np.zeros((1 + max(s.epoch for s in slices), 4), dtype=np.int64)
    for s in slices:
        was = both.test.closed
        both = both.add(s, settled=True).nothing_ended({s.epoch})
        test = both.test
        moved = kernel.add(ours, par, strata, closed, s.n1, s.x1, s.n0, s.x0, s.t or 0.0, s.epoch)
        for epoch, pool in enumerate(pools):
            ended = (s.n1, s.x1, s.n0, s.x0) if epoch == s.epoch else (0, 0, 0, 0)
            kernel.prove(logs, pool, *ended, p.min_stratum)
        if test.closed != was:
            weight = ramp.next(weight, test.closed)
        if moved:
            ours_weight = kernel.next_weight(ours_weight, closed, 20.0, 15.0, ramp.keep_down, ramp.keep_up)
        same = test.rolled_back == (ours[8] > 0) and (test.closed.n1, test.closed.x0) == (closed[0], closed[3])
        worst = max(
            worst,
            0.0 if same else math.inf,
            abs(test.log_e - kernel.log_e(ours)),
            abs(both.standing(0).log_e - kernel.proof(logs, pools, p.min_stratum)),
            abs(weight - ours_weight),
        )
    return worst
