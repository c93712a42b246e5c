"""Bucket boundaries of a histogram nearest to its quantiles, and single quantiles.

Called by `serin.analysis.presets`, once before a trial, with estimated counts: the boundaries say where requests are
split into good and bad, and no estimate feeds a test. Specification: docs/reference/decision-engine.md, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

QUANTILES = (0.5, 0.75, 0.9, 0.97, 0.995, 0.999)


def boundaries(cumulative: Mapping[float, float]) -> tuple[float, ...]:
    """The distinct finite bucket boundaries nearest to `QUANTILES`, ascending.

    Args:
        cumulative: by upper bound of a bucket, `inf` included, the number of observations at or below it.

    Returns:
        Empty without a finite boundary. The middle boundary alone if there is no observation.
    """
    finite = sorted(bound for bound in cumulative if math.isfinite(bound))
    if not finite:
        return ()
    total = max(cumulative.values())
    if total <= 0:
        return (finite[len(finite) // 2],)
    return tuple(sorted({min(finite, key=lambda b: (abs(cumulative[b] / total - q), b)) for q in QUANTILES}))


def interpolated(cumulative: Mapping[float, float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The distinct estimated quantiles, ascending; observations are taken to be spread evenly within a bucket.

    For series that are counted at any boundary. Three significant digits; empty without observations.
    """
    finite = sorted(bound for bound in cumulative if math.isfinite(bound))
    total = max(cumulative.values(), default=0.0)
    if not finite or total <= 0:
        return ()
    found = set()
    for q in quantiles:
        lower, below = 0.0, 0.0
        for bound in finite:
            if cumulative[bound] >= q * total:
                found.add(lower + (bound - lower) * (q * total - below) / (cumulative[bound] - below))
                break
            lower, below = bound, cumulative[bound]
        else:
            found.add(finite[-1])
    return tuple(sorted({float(f"{value:.3g}") for value in found if value > 0}))


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """The smallest finite boundary that at least the share `q`, 0 to 1, of the observations does not exceed.

    The largest finite boundary if no boundary satisfies this; None without observations or finite boundaries.
    """
    finite = sorted(bound for bound in cumulative if math.isfinite(bound))
    total = max(cumulative.values(), default=0.0)
    if not finite or total <= 0:
        return None
    return next((bound for bound in finite if cumulative[bound] >= q * total), finite[-1])
