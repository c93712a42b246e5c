"""How many requests are in the engine, and the counters that compare latencies at equal load.

Called by the recorder, in vLLM's event loop. A request's load is the mean number of requests in the engine over the
span that a latency measures: from its arrival to its first token, from its first to its last token, or its life. It is
the integral of the running count over that span, divided by the span. The count is that of this process: with several
API server processes (data parallelism) each one sees only its own requests, about an equal share of the engine's. Loads
are then comparable between pods with the same number of API servers, and only between those.

What is counted comes from the split document (`document.Measure`); without it there are no series. Specification:
docs/reference/decision-engine.md, section 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter

from .document import Measure
from .labels import NO_EPOCH, Identity

MAX_EPOCHS = 3
"""The series of older epochs are removed; requests of theirs that still end are not counted."""
MAX_POINTS = 16_384
RESOLUTION = 0.005
"""Least seconds between two stored points of the integral."""
LOW, HIGH = "low", "high"
"""The values of the label `cached`: whether the prefix cache had at least half of the prompt's tokens."""


class RunningCount:
    """The number of requests in the engine over time, as its integral at some moments.

    Older moments are thinned out, so the memory is bounded; between two of them the count is taken to be constant.
    """

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        self._max_points = max_points
        self._count = 0
        self._last = 0.0
        """When the count changed last."""
        self._integral = 0.0
        """The integral up to then, in requests times seconds."""
        self._moments: list[float] = []
        self._integrals: list[float] = []

    def __len__(self) -> int:
        return len(self._moments)

    def change(self, by: int, now: float) -> None:
        """Count requests that arrive (1) or leave (-1) at `now`, seconds on a clock that never runs backwards."""
        if self._moments:
            self._integral += self._count * (now - self._last)
        if not self._moments or now - self._moments[-1] >= RESOLUTION:
            if len(self._moments) >= self._max_points:
                self._thin_out()
            self._moments.append(now)
            self._integrals.append(self._integral)
        self._last = now
        self._count = max(0, self._count + by)

    def mean(self, begin: float, end: float) -> float | None:
        """The mean count over a span; None if it begins before the first stored moment."""
        if not self._moments or begin < self._moments[0]:
            return None
        end = max(end, begin + 1e-4)
        return max(0.0, (self._until(end) - self._until(begin)) / (end - begin))

    def of_request(self, begin: float, end: float) -> float | None:
        """The mean count over a span in which one request was in the engine all the time; so it is 1 or more.

        A lone request is exactly 1, an edge of the buckets. What is lost between stored moments, or to rounding, would
        put it on either side by chance.
        """
        mean = self.mean(begin, end)
        return None if mean is None else max(1.0, mean)

    def _until(self, moment: float) -> float:
        if moment >= self._last:
            return self._integral + self._count * (moment - self._last)
        after = bisect_right(self._moments, moment)
        left, before = self._moments[after - 1], self._integrals[after - 1]
        right, total = (
            (self._moments[after], self._integrals[after])
            if after < len(self._moments)
            else (self._last, self._integral)
        )
        return before + (total - before) * (moment - left) / (right - left) if right > left else before

    def _thin_out(self) -> None:
        """Drop every second point of the older half."""
        half = len(self._moments) // 2
        for points in (self._moments, self._integrals):
            points[:half] = points[:half:2]


_Cell = tuple[str, str, str, int]
"""Revision, latency, `cached` and load bucket."""


class LatencyAtLoad:
    """The counters of warm requests with outcome ok by load, and of those above each boundary."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("revision", "epoch", "metric", "cached", "load")
        self._requests = Counter(
            "serin_latency_requests",
            "Warm requests with outcome ok, by the load of the engine while they ran.",
            labels,
            registry=registry,
        )
        self._above = Counter(
            "serin_latency_above",
            "Those of serin_latency_requests that took longer than a boundary of the split document.",
            (*labels, "boundary"),
            registry=registry,
        )
        self._measure: Measure | None = None
        self._epochs: OrderedDict[str, dict[_Cell, tuple[Counter, tuple[Counter, ...]]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._epochs.values()))

    def arrive(self, identity: Identity, measure: Measure | None) -> Measure | None:
        """What is counted of a request that arrives; None: nothing. The first of an epoch removes an old epoch."""
        if measure != self._measure:
            # The boundaries have changed, so the counts so far mean something else.
            for epoch in list(self._epochs):
                self._forget_epoch(epoch)
            self._measure = measure
        if self._measure is None or identity.epoch == NO_EPOCH:
            return None
        if identity.epoch not in self._epochs:
            while len(self._epochs) >= MAX_EPOCHS:
                self._forget_epoch(next(iter(self._epochs)))
            self._epochs[identity.epoch] = {}
        return self._measure

    def observe(
        self, identity: Identity, measure: Measure, metric: str, value: float, *, load: float | None, cached: str
    ) -> None:
        """Count one latency of a request that arrived under `measure`; nothing if that is not the current one."""
        boundaries, cells = measure.boundaries.get(metric), self._epochs.get(identity.epoch)
        if boundaries is None or cells is None or load is None or measure is not self._measure:
            return
        cell = (identity.revision, metric, cached, measure.bucket(load))
        if cell not in cells:
            # All counters of a cell begin together at 0, so Prometheus sees their first values alike.
            values = (identity.revision, identity.epoch, metric, cached, str(cell[3]))
            cells[cell] = (
                self._requests.labels(*values),
                tuple(self._above.labels(*values, str(number)) for number in range(len(boundaries))),
            )
        requests, above = cells[cell]
        requests.inc()
        for counter, boundary in zip(above, boundaries, strict=True):
            if value > boundary:
                counter.inc()

    def forget(self, identity: Identity) -> None:
        """Remove the series of a pair."""
        cells = self._epochs.get(identity.epoch, {})
        for cell in [cell for cell in cells if cell[0] == identity.revision]:
            self._remove(identity.epoch, cell, len(cells.pop(cell)[1]))

    def _forget_epoch(self, epoch: str) -> None:
        for cell, (_, above) in self._epochs.pop(epoch).items():
            self._remove(epoch, cell, len(above))

    def _remove(self, epoch: str, cell: _Cell, boundaries: int) -> None:
        revision, metric, cached, load = cell
        values = (revision, epoch, metric, cached, str(load))
        self._requests.remove(*values)
        for number in range(boundaries):
            self._above.remove(*values, str(number))
