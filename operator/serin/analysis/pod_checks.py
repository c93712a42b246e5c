"""The checks that pods make, for their split document. Pure.

They are asked whether or not a trial runs, so that the quality of answers can be seen at any time. A trial pins those
that it began with: both sides are asked the same questions until it ends, whatever happens to the spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serin.analysis.trial_state import TrialState
    from serin.api.analysis import Analysis, Metric


def checks_for(analysis: Analysis, state: TrialState | None) -> tuple[Mapping[str, Any], ...]:
    """The value of `checks` in every split document; empty: nothing is asked.

    Args:
        analysis: the spec's.
        state: of the running trial; None without one, or before the canary got its first request.
    """
    if state is None:
        pinned = [pinned_check(metric) for metric in analysis.compared]
    else:
        pinned = [metric.measurement.check for metric in state.metrics]
    # A limit on a check has the check of the metric that it limits.
    return tuple(json.loads(text) for text in dict.fromkeys(filter(None, pinned)))


def pinned_check(metric: Metric) -> str:
    """The check of a metric as JSON, as it is stored with a trial; empty if it is not a check."""
    return json.dumps(metric.check.entry(metric.name), sort_keys=True, ensure_ascii=False) if metric.check else ""
