"""A canary whose bad rate is exactly the margin times the stable's: how often it is rolled back. Called by `main`."""

from __future__ import annotations

import numpy as np

from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.slices import Slice

ALPHA = 0.01
SECONDS, SLICES = 15.0, 240
"""An hour."""
RPS, WEIGHT = 20.0, 0.25


def rolled_back(base: float, margin: float, runs: int) -> float:
    """The share of the trials that roll it back, within an hour; `base` is the stable's rate."""
    found = 0
    for run in range(runs):
        random = np.random.default_rng(run)
        test = ConditionalTest(Parameters(alpha=ALPHA, margin=margin, of_rates=True))
        for number in range(1, SLICES + 1):
            n1, n0 = (int(random.poisson(RPS * SECONDS * share)) for share in (WEIGHT, 1 - WEIGHT))
            x1, x0 = int(random.binomial(n1, base * margin)), int(random.binomial(n0, base))
            test = test.add(Slice(n1, x1, n0, x0, SECONDS * number, 0))
            if test.rolled_back:
                found += 1
                break
    return found / runs
