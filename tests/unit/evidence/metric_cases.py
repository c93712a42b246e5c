"""Parameters of one metric of each kind, and metrics fed with counts. Called by the tests of metrics and ceilings."""

from __future__ import annotations

from serin.evidence.metric import MetricParameters, MetricTests
from serin.evidence.slices import Totals

ONE = MetricParameters(alpha=0.01, margin=1.0, ratio=1.25, absolute=0.005)
FOUR = MetricParameters(alpha=0.01, margin=1.25, ratio=1.25, absolute=0.005, boundaries=(0.1, 0.5, 1.0, 2.0))
LIMIT = MetricParameters(alpha=0.01, margin=1.0, ratio=1.25, absolute=0.005, ceiling=0.05)


Four = tuple[int, int, int, int]
"""n1, x1, n0 and x0 of a leaf, short enough for tables."""


def fed(parameters: MetricParameters, *slices: list[Four], settled: bool = True) -> MetricTests:
    metric = MetricTests.begin(parameters)
    for number, counts in enumerate(slices, start=1):
        metric = metric.add([Totals(*each) for each in counts], t=15.0 * number, epoch=0, settled=settled)
    return metric
