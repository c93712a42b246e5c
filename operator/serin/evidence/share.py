"""Does the canary get the share of requests that its weight promises? A beta-binomial e-process of one epoch.

Warns of requests that are lost on the way to one side, and of a gateway that does not keep the weight; it decides
nothing. Pure; read by `serin.reporting.caveats`. Source: docs/reference/decision-engine.md, section 6.
"""

from __future__ import annotations

import math


def log_e(canary: int, stable: int, weight: float, tolerance: float) -> float:
    """ln of the evidence that the canary's share of the requests is not about its weight.

    H0: each request reaches the canary with one probability, whose odds are those of `weight` or differ from them by
    `tolerance` at most. Numerator: a Beta prior with its mean at the weight, as wide as the smaller share. Denominator:
    the likeliest point of H0, which no other point of it can exceed, so the quotient is an e-process for all of H0
    (Wasserman, Ramdas & Balakrishnan, arXiv 1912.11436) and exceeds 1/alpha with probability alpha at most, whenever
    one looks.

    Args:
        canary: requests that reached it since the epoch began.
        stable: requests that reached the stable.
        weight: of the canary, above 0 and below 1.
        tolerance: 0.1 lets the odds be 1.1 times higher or lower.
    """
    odds = weight / (1 - weight)
    a, b = (1.0, 1 / odds) if odds <= 1 else (odds, 1.0)
    lowest, highest = (ratio / (1 + ratio) for ratio in (odds / (1 + tolerance), odds * (1 + tolerance)))
    nearest = min(max(canary / max(1, canary + stable), lowest), highest)
    likeliest = canary * math.log(nearest) + stable * math.log1p(-nearest)
    return _log_beta(a + canary, b + stable) - _log_beta(a, b) - likeliest


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
