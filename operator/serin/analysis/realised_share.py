"""Whether the canary gets far more of the requests than its weight, so that a failure would reach too many users. Pure.

Happens where the requests of one client stay together (`routing.sticky`, session persistence) and a few clients send
most of them. `serin.analysis.missing` compares arrivals with weights; here only twice the weight counts.
"""

from __future__ import annotations

from serin.analysis.missing import BEYOND_DOUBT, Arrivals, off_weight
from serin.analysis.trial_state import TrialState
from serin.evidence.share import log_e

TIMES = 2
"""How many times its weight the canary's share may be."""


def far_above_weight(state: TrialState | None) -> Arrivals | None:
    """The arrivals of a trial if the canary's share of them is above twice its weight beyond doubt; else None."""
    arrivals = off_weight(state)
    if arrivals is None or arrivals.share <= TIMES * arrivals.weight:
        return None
    most = TIMES * arrivals.weight
    return arrivals if log_e(arrivals.canary, arrivals.stable, most, arrivals.allowance) >= BEYOND_DOUBT else None
