"""Trial states and intervals for the tests of what is counted and of how it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from serin.analysis.counts import Baseline, Interval, Names, Point, Tally
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.trial_state import Epoch, MetricState, TrialState
from serin.analysis.update import advance
from serin.api.analysis import Analysis
from serin.evidence.metric import Comparison
from serin.evidence.slices import Totals
from tests.unit.rollout.cases import GOOD, NOON, A, B, make_evidence
from tests.unit.rollout.worlds import REQUESTS

SLICE = timedelta(seconds=15)
ERRORS = {"name": "errors", "preset": "ErrorRate"}
LIMIT = {"name": "limit", "ceiling": {"of": "errors", "rate": 0.05}}
THROUGHPUT = {"name": "t", "preset": "Throughput", "mode": "Advisory"}
CODES = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)


def fresh(*, measured: bool = True, **changes: Any) -> TrialState:
    """Nothing counted yet; epoch 1 began at noon with 5 %."""
    pinned = measurements(Analysis(), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=measured)
    facts: dict[str, Any] = {
        "since": NOON,
        "until": NOON,
        "metrics": tuple(map(MetricState.begin, pinned)),
        "epochs": {1: Epoch(NOON, 500)},
    }
    return make_evidence(GOOD, **(facts | changes))


def grown(
    points: Mapping[Point, int], *, begin: datetime = NOON, tally: Tally = REQUESTS, span: timedelta = SLICE
) -> Interval:
    return Interval(begin, begin + span, {tally: points} if points else {})


def after(state: TrialState, *intervals: Interval) -> TrialState:
    return advance(state, intervals, canary=B, stable=A)


def totals(state: TrialState) -> Totals:
    """Of errors."""
    return state.metrics[0].tests.totals[0]


def comparison(state: TrialState) -> Comparison:
    """Of errors."""
    return state.metrics[0].tests.comparisons[0]


BOTH: dict[Point, int] = {(B, 1, "ok"): 9, (B, 1, "aborted"): 1, (A, 1, "ok"): 190, (A, 1, "server_error"): 2}
