"""What the pods of a trial have to count, for their split document. Pure.

The document of each engine carries it as `measure` (`serin.rollout` asks per side); the pods count latencies by load
only as long as it is there. The boundaries are pinned with the trial, so they do not change while it runs.
"""

from __future__ import annotations

from typing import Any

from serin.analysis.measurement import LOAD_FROM, LOAD_RATIO
from serin.analysis.trial_state import TrialState


def measure_for(state: TrialState | None, *, canary: bool) -> dict[str, Any] | None:
    """The value of `measure` in the split document of a side; None if its pods need not count by load.

    Returns:
        `{"load": {"from": 1.0, "ratio": 1.3}, "boundaries": {"ttft": [0.21, 0.35]}}`, seconds, ascending. The canary's
        boundaries are multiplied by margin and tolerance already.
    """
    boundaries: dict[str, set[float]] = {}
    for metric in state.metrics if state else ():
        if at_load := metric.measurement.at_load:
            boundaries.setdefault(at_load.metric, set()).update(at_load.canary if canary else at_load.stable)
    if not boundaries:
        return None
    return {
        "load": {"from": LOAD_FROM, "ratio": LOAD_RATIO},
        "boundaries": {name: sorted(bounds) for name, bounds in sorted(boundaries.items())},
    }
