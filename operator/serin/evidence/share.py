"""Tests whether the canary's share of the requests of one epoch differs from its weight: a beta-binomial e-process.

Detects requests that are lost on the way to one side, and a gateway that does not apply the weight. Called by
`serin.analysis.missing`: it warns, and holds the canary, but never rejects it. Specification:
docs/reference/decision-engine.md, section 6.
"""

from __future__ import annotations

import math


def log_e(canary: int, stable: int, weight: float, tolerance: float) -> float:
    """ln of the e-value against the hypothesis that the canary's share of the requests is about its weight.

    H0: every request reaches the canary with the same probability, and its odds are within `tolerance` of the odds of
    `weight`. The numerator is a Beta prior with mean `weight`, as wide as the smaller share. The denominator is the
    maximum of the likelihood over H0. The quotient is therefore an e-process for all of H0 (Wasserman, Ramdas &
    Balakrishnan, arXiv 1912.11436): under H0 it ever exceeds 1/alpha with probability at most alpha.

    Args:
        canary: requests that reached the canary since the epoch began.
        stable: requests that reached the stable since the epoch began.
        weight: the canary's weight as a fraction, above 0 and below 1.
        tolerance: relative tolerance of the odds; 0.1 allows odds 1.1 times higher or lower.
    """
    odds = weight / (1 - weight)
    a, b = (1.0, 1 / odds) if odds <= 1 else (odds, 1.0)
    lowest, highest = (ratio / (1 + ratio) for ratio in (odds / (1 + tolerance), odds * (1 + tolerance)))
    nearest = min(max(canary / max(1, canary + stable), lowest), highest)
    likeliest = canary * math.log(nearest) + stable * math.log1p(-nearest)
    return _log_beta(a + canary, b + stable) - _log_beta(a, b) - likeliest


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
