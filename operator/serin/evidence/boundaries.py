"""Where a histogram is cut: the boundaries nearest the stable's quantiles, and a high quantile as a duration.

Taken once, before a rollout, from estimates; they feed no test. Used by `serin.analysis.presets`. Source:
docs/reference/decision-engine.md, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

QUANTILES = (0.5, 0.75, 0.9, 0.97, 0.995, 0.999)


def boundaries(cumulative: Mapping[float, float]) -> tuple[float, ...]:
    """The distinct finite bucket boundaries nearest to the quantiles of a histogram, ascending.

    Args:
        cumulative: count of observations at or below each upper bound, `inf` included. Empty, or without a single
            observation: the middle boundary alone stands for a distribution that nobody has seen.
    """
    finite = sorted(bound for bound in cumulative if math.isfinite(bound))
    if not finite:
        return ()
    total = max(cumulative.values())
    if total <= 0:
        return (finite[len(finite) // 2],)
    return tuple(sorted({min(finite, key=lambda b: (abs(cumulative[b] / total - q), b)) for q in QUANTILES}))


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """The smallest finite boundary that at least the share `q` of the observations does not exceed.

    The largest finite boundary where even that is exceeded by more; None without observations.
    """
    finite = sorted(bound for bound in cumulative if math.isfinite(bound))
    total = max(cumulative.values(), default=0.0)
    if not finite or total <= 0:
        return None
    return next((bound for bound in finite if cumulative[bound] >= q * total), finite[-1])
