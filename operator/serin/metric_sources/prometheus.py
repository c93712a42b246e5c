"""Evidence from Prometheus: finished requests by revision from the gateway's counters, requests in flight from vLLM's.

Used by the collector. Counting is exact and keeps no state but the baselines: a count is what a counter shows now minus
what the same series showed when the window began; never rate() or increase(), which extrapolate. Limits that follow: a
counter that was reset and has since passed its old value counts short, and a series that Prometheus had not yet
scraped at the start of the window counts from zero. Statistics are not here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from serin.api.names import PORT, child_name
from serin.errors import MetricsError
from serin.metric_sources.port import Key, Watch
from serin.metric_sources.tally import Baseline, Sample, Series, counted
from serin.rollout.snapshot import Evidence, InFlight
from serin.settings import Settings

CHUNK = 200
"""Most names in one query."""
INGESTED = timedelta(seconds=30)
"""After this time no more samples of a moment are stored."""
ASPECT = "serin_aspect"
"""Label by which one query tells its values from their times."""


class Prometheus:
    """A `MetricSource` on one Prometheus server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = PrometheusConnect(
            url=settings.prometheus_url.rstrip("/"),
            session=_FormSession(),
            retry=Retry(0),  # the collector asks again anyway; a retry would only make it late
            method="POST",
            timeout=settings.prometheus_timeout,
        )
        # Threads of its own, few: a server that drips its answer holds these two and nothing else.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prometheus")
        self._baselines: dict[Key, Baseline] = {}

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, Evidence]:
        """The evidence of every watch as of now; never raises."""
        # Who is not watched any more needs no baseline.
        self._baselines = {watch.key: self._baselines[watch.key] for watch in watches if watch.key in self._baselines}
        try:
            samples = await self._samples([self._backend(w, r) for w in watches for r in w.revisions])
            in_flight = await self._in_flight([e for watch in watches for e in watch.engine_revisions])
        except MetricsError as error:
            return {watch.key: Evidence(error=str(error), since=watch.since) for watch in watches}
        return {watch.key: await self._evidence(watch, samples, in_flight) for watch in watches}

    async def _evidence(
        self, watch: Watch, samples: Mapping[str, list[Sample]], in_flight: Mapping[tuple[str, str, str], InFlight]
    ) -> Evidence:
        flying = {
            engine: in_flight[watch.namespace, watch.name, engine]
            for engine in watch.engine_revisions
            if (watch.namespace, watch.name, engine) in in_flight
        }
        if watch.since is None:
            return Evidence(in_flight=flying)
        try:
            baseline = await self._baseline(watch, watch.since)
        except MetricsError as error:
            return Evidence(error=str(error), since=watch.since, in_flight=flying)
        counts, newest = {}, None
        for revision in watch.revisions:
            found = samples.get(self._backend(watch, revision), [])
            if found:
                counts[revision] = counted(found, baseline)
                newest = max([sample.at for sample in found] + ([newest] if newest else []))
        return Evidence(at=newest, since=watch.since, counts=counts, in_flight=flying)

    async def _baseline(self, watch: Watch, since: datetime) -> Baseline:
        """What the counters showed when the window began; asked once per window and backend."""
        backends = {self._backend(watch, revision) for revision in watch.revisions}
        known = self._baselines.get(watch.key)
        if known is None or known.since != since or not backends <= known.backends:
            samples = await self._samples(sorted(backends), at=since)
            values = {sample.series: sample.value for found in samples.values() for sample in found}
            if not values and not await self._query("count(up)", since):
                raise MetricsError(
                    f"Prometheus holds nothing from {since:%Y-%m-%d %H:%M:%S} UTC, when the trial began, so nothing "
                    "can be counted since; abort the canary and retry it."
                )
            known = Baseline(since, frozenset(backends), values)
            # A scrape that began before the window may still be on its way into the store.
            if datetime.now(UTC) - since > INGESTED:
                self._baselines[watch.key] = known
        return known

    async def _samples(self, backends: Iterable[str], at: datetime | None = None) -> dict[str, list[Sample]]:
        """Every counter of these backends with the time it was scraped, by backend."""
        s = self._settings
        samples: dict[str, list[Sample]] = {}
        for chunk in _chunks(backends):
            selector = f'{s.requests_metric}{{{s.requests_backend_label}=~"{_any_of(chunk)}"}}'
            values, times = await self._values_and_times(selector, f"timestamp({selector})", at)
            for series, value in values.items():
                labels = dict(series)
                backend, code = labels.get(s.requests_backend_label), labels.get(s.requests_code_label)
                # Prometheus drops the name of the metric from a timestamp, so the rest identifies the series.
                scraped = times.get(series)
                if backend is None or code is None or scraped is None or not re.fullmatch("[1-5][0-9]{2}", code):
                    continue
                sample = Sample(series, code, value, datetime.fromtimestamp(scraped, UTC))
                samples.setdefault(backend, []).append(sample)
        return samples

    async def _in_flight(self, engines: Iterable[str]) -> dict[tuple[str, str, str], InFlight]:
        """Running and waiting requests by namespace, deployment and engine revision, as old as the oldest sample."""
        s = self._settings
        by = (s.namespace_label, s.deployment_label, s.engine_revision_label)
        found: dict[tuple[str, str, str], InFlight] = {}
        for chunk in _chunks(engines):
            where = f'{{{s.engine_revision_label}=~"{_any_of(chunk)}"}}'
            per = f"by ({', '.join(by)})"
            total = f"sum {per} ({s.running_metric}{where}) + sum {per} ({s.waiting_metric}{where})"
            oldest = f"min {per} (timestamp({s.running_metric}{where}))"
            values, times = await self._values_and_times(total, oldest, None)
            for series, value in values.items():
                labels = dict(series)
                namespace, name, engine = (labels.get(label, "") for label in by)
                if series in times:
                    found[namespace, name, engine] = InFlight(value, datetime.fromtimestamp(times[series], UTC))
        return found

    async def _values_and_times(
        self, values: str, times: str, at: datetime | None
    ) -> tuple[dict[Series, float], dict[Series, float]]:
        """Two vectors of one moment, by labels without the metric's name."""
        # One query for both: two would be evaluated at two moments, with a scrape between them.
        query = " or ".join(
            f'label_replace({vector}, "{ASPECT}", "{aspect}", "", "")'
            for vector, aspect in ((values, "value"), (times, "time"))
        )
        answer: dict[str, dict[Series, float]] = {"value": {}, "time": {}}
        for row in await self._query(query, at):
            try:
                labels = {str(k): str(v) for k, v in row["metric"].items() if k != "__name__"}
                answer[labels.pop(ASPECT)][frozenset(labels.items())] = float(row["value"][1])
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise MetricsError(f"Prometheus sent a row that cannot be read ({row}); check its version.") from error
        return answer["value"], answer["time"]

    async def _query(self, query: str, at: datetime | None) -> list[dict[str, Any]]:
        s = self._settings
        form = {"timeout": f"{s.prometheus_timeout:g}s"} | ({"time": f"{at.timestamp():.3f}"} if at else {})
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(s.prometheus_timeout):
                call = loop.run_in_executor(self._threads, self._connection.custom_query, query, form)
                return list(await call)
        except (TimeoutError, requests.Timeout) as error:
            raise MetricsError(
                f"Prometheus at {s.prometheus_url} did not answer within {s.prometheus_timeout:g} s; check its load."
            ) from error
        except requests.ConnectionError as error:
            raise MetricsError(
                f"Prometheus at {s.prometheus_url} cannot be reached; check that it runs and that the URL is right."
            ) from error
        except PrometheusApiClientException as error:
            raise MetricsError(
                f"Prometheus at {s.prometheus_url} refused a query ({_first_line(error)}); check its log."
            ) from error
        except (requests.RequestException, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise MetricsError(
                f"What answers at {s.prometheus_url} is not a Prometheus ({_first_line(error)}); check the URL."
            ) from error

    def _backend(self, watch: Watch, revision: str) -> str:
        service = child_name(watch.name, revision)
        return self._settings.requests_backend.format(namespace=watch.namespace, service=service, port=PORT)


class _FormSession(requests.Session):
    """A session that sends the parameters of a POST in its body: the client library would put them into the URL."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        if method == "POST" and not args and "data" not in kwargs:
            kwargs["data"] = kwargs.pop("params", None)
        return super().request(method, url, *args, **kwargs)


def _chunks(names: Iterable[str]) -> list[list[str]]:
    unique = sorted(set(names))
    return [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]


def _any_of(names: Iterable[str]) -> str:
    """A regular expression for exactly these names, quoted for a PromQL string."""
    return json.dumps("|".join(re.escape(name) for name in names), ensure_ascii=False)[1:-1]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
