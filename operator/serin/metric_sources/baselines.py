"""The baseline of a trial: request rate and histograms of the time before the canary's first request.

Called by `serin.metric_sources.queries`. A baseline sets the parameters of a trial and feeds no test, so estimates by
Prometheus' `increase()` are good enough.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from serin.analysis.counts import Baseline, Tally
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.counter_growth import NO_EPOCH, milliseconds
from serin.metric_sources.counters import OWN_LABELS, POD, PROCESS, bound_text
from serin.metric_sources.failed_queries import FailedQueries
from serin.metric_sources.intervals import family_of
from serin.metric_sources.port import RefusedError, Watch
from serin.metric_sources.promql import chunks, one_of, over_range, with_matcher
from serin.metric_sources.response import vector
from serin.settings import Settings

RATE_OVER = timedelta(minutes=5)
"""Period of the baseline's request rate."""
HISTOGRAMS_OVER = timedelta(hours=1)
"""Period of the baseline's histograms."""


class _Estimate(NamedTuple):
    """Estimated growth of one watch's counters at one value of `by`."""

    key: Key
    value: str
    growth: float


class BaselineQueries:
    """The queries of baselines on one server.

    Args:
        ask: sends an instant query; see `Connection.query`.
        settings: names of labels.
        failures: of this read of the server.
    """

    def __init__(
        self, ask: Callable[[str, int], Awaitable[list[Any]]], settings: Settings, failures: FailedQueries
    ) -> None:
        self._ask = ask
        self._settings = settings
        self._failures = failures

    async def baselines(self, watches: Sequence[Watch], at: datetime) -> dict[Key, Baseline | MetricsError]:
        """The baseline of each watch that wants one, or why it could not be read.

        Args:
            watches: of one server.
            at: the end of the periods.
        """
        wanted = [(watch, watch.baseline_of) for watch in watches if watch.baseline_of is not None]
        rates = {watch.key: 0.0 for watch, _ in wanted}
        histograms: dict[Key, dict[Tally, Mapping[str, float]]] = {watch.key: {} for watch, _ in wanted}
        failed: dict[Key, MetricsError] = {}

        async def estimate(
            tally: Tally, wanting: Sequence[tuple[Watch, Sequence[str]]], over: timedelta
        ) -> list[_Estimate]:
            try:
                return await self._increase(tally, wanting, over, at)
            except MetricsError as error:
                watches = [watch for watch, _ in wanting]
                failed.update(await self._failures.by_watch(error, watches, family_of(tally)))
                return []

        for tally in dict.fromkeys(watch.requests for watch, _ in wanted if watch.requests):
            wanting = [(watch, watch.traffic_of) for watch, _ in wanted if watch.requests == tally]
            # The rate is of all requests, whatever their value of `by`.
            for key, _, value in await estimate(Tally(tally.selector, None, tally.names), wanting, RATE_OVER):
                rates[key] += value / RATE_OVER.total_seconds()
        by_value = dict.fromkeys(
            tally
            for watch, _ in wanted
            for tally in watch.tallies
            if tally.by == "le" or tally in watch.baseline_tallies
        )
        for tally in by_value:
            wanting = [(watch, (stable,)) for watch, stable in wanted if tally in watch.tallies]
            buckets: dict[Key, dict[str, float]] = {watch.key: {} for watch, _ in wanting}
            for key, bound, value in await estimate(tally, wanting, HISTOGRAMS_OVER):
                text = bound_text(bound) if tally.by == "le" else bound
                buckets[key][text] = buckets[key].get(text, 0.0) + value
            for key, counts in buckets.items():
                histograms[key][tally] = counts
        without = await self._without_epoch(wanted, at)
        return dict(failed) | {
            key: Baseline(at, rate, histograms[key], *without.get(key, (0.0, 0.0)))
            for key, rate in rates.items()
            if key not in failed
        }

    async def _without_epoch(self, wanted: Sequence[tuple[Watch, str]], at: datetime) -> dict[Key, tuple[float, float]]:
        """By watch, the share of the stable's requests with epoch `none`, and how many requests it is of."""
        sums: dict[Key, tuple[float, float]] = {}
        for tally in dict.fromkeys(watch.arrivals for watch, _ in wanted if watch.arrivals):
            wanting = [(watch, (stable,)) for watch, stable in wanted if watch.arrivals == tally]
            by_epoch = replace(tally, by=self._settings.epoch_label)
            try:
                found = await self._increase(by_epoch, wanting, RATE_OVER, at)
            except RefusedError:
                continue  # the trial can do without it
            for key, epoch, growth in found:
                none, all_ = sums.get(key, (0.0, 0.0))
                sums[key] = (none + growth * (epoch == NO_EPOCH), all_ + growth)
        return {key: (none / all_, all_) for key, (none, all_) in sums.items() if all_ > 0}

    async def _increase(
        self, tally: Tally, wanting: Sequence[tuple[Watch, Sequence[str]]], over: timedelta, at: datetime
    ) -> list[_Estimate]:
        s = self._settings
        attribution = Attribution(tally.names, wanting, s)
        by = dict.fromkeys(
            [attribution.label, s.namespace_label, s.deployment_label, *([tally.by] if tally.by is not None else [])]
        )
        estimates: list[_Estimate] = []
        for values in chunks(attribution.values):
            narrowed = with_matcher(tally.selector, one_of(attribution.label, values))
            increase = f"increase({narrowed}{over_range(over)})"
            if tally.selector.startswith(s.model_server_metrics):
                # The same counter of two scrape jobs is one.
                own = dict.fromkeys([*by, s.epoch_label, *OWN_LABELS, POD, PROCESS])
                increase = f"max by ({', '.join(own)}) ({increase})"
            query = f"sum by ({', '.join(by)}) ({increase})"
            for labels, value in vector(await self._ask(query, milliseconds(at))):
                estimates += [
                    _Estimate(key, labels.get(tally.by or "", ""), value) for key, _ in attribution.of(labels)
                ]
        return estimates
