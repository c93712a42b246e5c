"""A real Prometheus for tests of counting: the pods it scrapes every second, and a rollout that is counted.

`tests/integration/counting` and `test_replay.py` use it. The pods are pages of one small server; each test controls
their counters, and knows the truth. Nothing here sleeps for time: everything waits for a scrape, or for a reading.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect

from sandbox.control_plane.api_tier import Handle
from serin.analysis.counts import Interval, MetricReadings
from serin.metric_sources.port import MetricSource, Watch
from serin.settings import Settings

LONG = 30.0
REQUESTS = "serin_requests_total"
PAGES = "pages_asked_for"


def settings(url: str, **more: Any) -> Settings:
    patient: dict[str, Any] = {"prometheus_timeout": LONG}  # a busy machine may take longer than the default
    return Settings(identity="test", prometheus_url=url, scrape_interval=1.0, **patient | more)


@dataclass
class Pod:
    """A scraped process and its counters."""

    name: str
    prometheus: PrometheusConnect
    started: float = field(default_factory=time.time)
    counters: Counter[str] = field(default_factory=Counter)
    """Values by series, as in the exposition format."""
    answers: bool = True
    scrapes: int = 0

    def count(self, revision: str, outcome: str = "ok", *, epoch: int | str = 1, by: int = 1) -> None:
        """Count further requests as finished."""
        self.counters[f'{REQUESTS}{{revision="{revision}",epoch="{epoch}",outcome="{outcome}"}}'] += by

    def restart(self) -> None:
        """Restart with all counters at zero, as a container does."""
        self.counters, self.started = Counter(), time.time()

    def page(self) -> str | None:
        self.scrapes += 1
        if not self.answers:
            return None
        lines = [f"{series} {value}" for series, value in self.counters.copy().items()]
        return "\n".join([*lines, f"process_start_time_seconds {self.started}", f"{PAGES} {self.scrapes}", ""])

    async def scraped(self, times: int = 1) -> None:
        """Wait for further scrapes, and until the last one is stored if it was answered."""
        wanted = self.scrapes + times
        async with asyncio.timeout(LONG):
            while not await asyncio.to_thread(self._shown, wanted):  # noqa: ASYNC110 - it is in Prometheus
                await asyncio.sleep(0.02)

    def _shown(self, page: int) -> bool:
        if self.scrapes < page or not self.answers:
            return self.scrapes >= page
        try:
            found = self.prometheus.custom_query(f'{PAGES}{{instance="{self.name}"}}', timeout=5)
        except (requests.RequestException, PrometheusApiClientException):
            return False  # Prometheus restarts
        # A request is not yet a sample: Prometheus drops a scrape that takes longer than its interval.
        return any(float(series["value"][1]) >= page for series in found)


@dataclass
class Pods:
    """All pods that Prometheus scrapes."""

    tier: Handle
    address: str
    pods: dict[str, Pod] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Pods that a test has used."""
    second_job: set[str] = field(default_factory=set)
    """Pods that a second job scrapes as well."""
    relabel: list[str] = field(default_factory=list)
    """Rules of `metric_relabel_configs`, as YAML in one line."""
    receiver: str = ""
    """Where Prometheus writes its samples as well, under the name of a replica."""

    def add(self, name: str, *, age: float = 0.0, reload: bool = True, **labels: str) -> Pod:
        """Add a new pod, which Prometheus scrapes from now on."""
        pod = self.pods[name] = Pod(name, PrometheusConnect(self.tier.prometheus_url), time.time() - age)
        self.labels[name] = {"instance": name, **labels}
        if reload:
            self.reload()
        return pod

    def reload(self) -> None:
        """Make Prometheus scrape the present pods."""
        assert self.tier.prometheus_config
        rules = "".join(f"  - {rule}\n" for rule in self.relabel)
        config = (
            "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: pods\n"
            + (f"  metric_relabel_configs:\n{rules}" if rules else "")
            + f"  static_configs:\n{self.targets(*self.labels)}"
        )
        if self.receiver:
            config = (
                f'remote_write: [{{url: "{self.receiver}", queue_config: {{batch_send_deadline: 1s}}}}]\n'
                + config.replace("1s}", "1s, external_labels: {prometheus_replica: a}}", 1)
            )
        if again := self.targets(*sorted(self.second_job & self.labels.keys())):
            config += f"- job_name: second\n  static_configs:\n{again}"
        self.tier.prometheus_config.write_text(config)
        self.tier.reload_prometheus()

    def targets(self, *names: str) -> str:
        """These pods as entries of `static_configs`."""
        return "".join(
            f'  - targets: ["{self.address}"]\n    labels: {{__metrics_path__: /{name}, '
            + ", ".join(f'{label}: "{value}"' for label, value in self.labels[name].items())
            + "}\n"
            for name in names
        )

    @contextmanager
    def written_to(self, receiver: str) -> Iterator[None]:
        """Let Prometheus write what it scrapes to this address as well."""
        self.receiver = receiver
        self.reload()
        try:
            yield
        finally:
            self.receiver = ""
            self.reload()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], wrap: Any = None) -> Iterator[ThreadingHTTPServer]:
    """Serve this handler on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if wrap:
        server.socket = wrap.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def scraped_pods(tier: Handle) -> Iterator[Pods]:
    """Serve the pages of all pods, one path each."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pod = pods.pods.get(self.path.removeprefix("/"))
            page = pod.page() if pod else None
            self.send_response(200 if page is not None else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with serving(Handler) as server:
        pods = Pods(tier, f"127.0.0.1:{server.server_port}")
        yield pods


class Rollout:
    """One LLMDeployment, and the sum of all readings for it."""

    def __init__(self, source: MetricSource, watch: Watch) -> None:
        self.source = source
        self.watch = watch
        self.at = watch.read_until
        self.totals: Counter[tuple[Any, ...]] = Counter()
        self.errors: list[str] = []
        self.last = MetricReadings()

    async def tick(self) -> None:
        self.last = (await self.source.read([replace(self.watch, read_until=self.at)]))[self.watch.key]
        if self.last.error:
            self.errors.append(self.last.error)
        for interval in self.last.intervals:
            self.take(interval)

    def take(self, interval: Interval) -> None:
        assert interval.begin == self.at
        assert interval.end > interval.begin
        self.at = interval.end
        for tally, points in interval.counts.items():
            for point, count in points.items():
                assert count > 0
                self.totals[tally.selector, *point] += count

    async def past(self, moment: datetime | None = None) -> None:
        """Read until the readings cover everything up to now."""
        moment = moment or datetime.now(UTC)
        async with asyncio.timeout(LONG):
            while self.at is None or self.at < moment:
                await self.tick()
                await asyncio.sleep(0.05)

    def of(self, revision: str, outcome: str | None = None) -> int:
        """Return how many requests of a revision were counted."""
        return sum(n for (_, r, _, o), n in self.totals.items() if r == revision and outcome in {None, o})
