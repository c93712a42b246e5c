"""Parameters of one metric of each kind, and metrics fed with counts. Called by the tests of metrics and ceilings."""

from __future__ import annotations

from serin.evidence.metric import MetricEvidence, MetricParameters
from serin.evidence.slices import Totals

ONE = MetricParameters(alpha=0.01, margin=1.0, ratio=1.25, absolute=0.005)
FOUR = MetricParameters(alpha=0.01, margin=1.25, ratio=1.25, absolute=0.005, boundaries=(0.1, 0.5, 1.0, 2.0))
LIMIT = MetricParameters(alpha=0.01, margin=1.0, ratio=1.25, absolute=0.005, ceiling=0.05)


def fed(parameters: MetricParameters, *slices: list[Totals], settled: bool = True) -> MetricEvidence:
    metric = MetricEvidence(parameters)
    for number, counts in enumerate(slices, start=1):
        metric.add(counts, t=15.0 * number, epoch=0, settled=settled)
    return metric
