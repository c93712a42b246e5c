"""Random numbers of a Poisson distribution, which the standard library does not have. Called by `runs`."""

from __future__ import annotations

import math
from random import Random

SMALL = 10.0
"""Means below this use counting, which is faster there; PTRS is not exact there."""


def poisson(random: Random, mean: float) -> int:
    """A random number of the Poisson distribution with mean `mean` >= 0. Exact.

    Source for large means: Hörmann 1993, "The transformed rejection method for generating Poisson random variables",
    algorithm PTRS.
    """
    if mean < SMALL:
        return _counted(random, mean)
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    accepted_at_once = 0.9277 - 3.6224 / (b - 2)
    scale = math.log(1.1239 + 1.1328 / (b - 3.4))
    while True:
        u, v = random.random() - 0.5, 1 - random.random()
        rest = 0.5 - abs(u)
        if rest <= 0:
            continue
        k = math.floor((2 * a / rest + b) * u + mean + 0.43)
        if rest >= 0.07 and v <= accepted_at_once:
            return k
        if k < 0 or (rest < 0.013 and v > rest):
            continue
        density = k * math.log(mean) - mean - math.lgamma(k + 1)
        if math.log(v) + scale - math.log(a / (rest * rest) + b) <= density:
            return k


def _counted(random: Random, mean: float) -> int:
    product, limit, count = random.random(), math.exp(-mean), 0
    while product > limit:
        product *= random.random()
        count += 1
    return count
