"""Counting on a real Prometheus that scrapes a small exporter, whose counters each test controls."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sandbox import api_tier
from sandbox.api_tier import Handle
from serin.metric_sources.collector import Collector
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.rollout.snapshot import Counts, Evidence
from serin.settings import Settings

LONG = 30.0
ENGINE = "e111111111"
SCRAPE = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: gateway
  static_configs: [{{targets: ["{address}"]}}]
- job_name: engine-0
  metrics_path: /engine-0
  static_configs: [{{targets: ["{address}"], labels: {{namespace: ns, deployment: triage, engine_revision: {engine}}}}}]
- job_name: engine-1
  metrics_path: /engine-1
  static_configs: [{{targets: ["{address}"], labels: {{namespace: ns, deployment: triage, engine_revision: {engine}}}}}]
"""


@dataclass
class Exporter:
    """What a gateway and two engine pods would show."""

    address: str
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    """By service and response code."""
    engines: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """Running and waiting by pod; None: the pod does not answer."""

    def page(self, path: str) -> str | None:
        if path == "/metrics":
            name = "envoy_cluster_upstream_rq"
            return f"# TYPE {name} counter\n" + "".join(
                f'{name}{{envoy_response_code="{code}",envoy_cluster_name="ns_{service}_8000"}} {count}\n'
                for (service, code), count in self.requests.items()
            )
        load = self.engines.get(path.removeprefix("/"))
        if load is None:
            return None
        labels = '{model_name="triage",engine="0"}'
        return f"vllm:num_requests_running{labels} {load[0]}\nvllm:num_requests_waiting{labels} {load[1]}\n"


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    with api_tier.start(tmp_path_factory.mktemp("collector"), prometheus=True) as handle:
        yield handle


@pytest.fixture
def exporter(tier: Handle) -> Iterator[Exporter]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = shown.page(self.path)
            self.send_response(200 if page is not None else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shown = Exporter(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert tier.prometheus_config
    tier.prometheus_config.write_text(SCRAPE.format(address=shown.address, engine=ENGINE))
    tier.reload_prometheus()
    yield shown
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def source(tier: Handle) -> Iterator[Prometheus]:
    assert tier.prometheus_url
    source = Prometheus(Settings(identity="test", prometheus_url=tier.prometheus_url))
    yield source
    source.close()


async def until(source: Prometheus, watch: Watch, seen: Callable[[Evidence], bool]) -> Evidence:
    """The first evidence that shows what is waited for."""
    evidence = Evidence()
    async with asyncio.timeout(LONG):
        while not seen(evidence):
            await asyncio.sleep(0.1)
            evidence = (await source.read([watch]))[watch.key]
            assert evidence.error is None
    return evidence


@pytest.fixture
async def beginning(exporter: Exporter, source: Prometheus) -> datetime:
    """A moment of which Prometheus has samples, but none of a series that a test makes later."""
    exporter.requests = {}
    async with asyncio.timeout(LONG):
        while True:
            since = datetime.now(UTC)
            if (await source.read([watch("anything", since, "at-all")]))["ns", "anything"].error is None:
                return since
            await asyncio.sleep(0.1)


async def test_a_window_that_begins_before_prometheus_counts_nothing(exporter: Exporter, source: Prometheus) -> None:
    exporter.requests = {("hole-a", "200"): 1000}
    hole = watch("hole", datetime.now(UTC) - timedelta(hours=1), "a")
    evidence = (await source.read([hole]))[hole.key]
    assert evidence.counts == {}
    assert "abort the canary and retry it" in str(evidence.error)


def watch(name: str, since: datetime, *revisions: str) -> Watch:
    return Watch("ns", name, since, revisions)


async def test_requests_are_counted_from_the_start_of_the_window_exactly(
    exporter: Exporter, source: Prometheus, beginning: datetime
) -> None:
    exporter.requests = {("window-old", "200"): 1000, ("window-old", "404"): 3, ("window-old", "500"): 10}
    before = await until(source, watch("window", beginning, "old"), lambda e: e.counts.get("old") == Counts(1010, 10))
    # The window begins at the scrape that was just read, so the next one is the first that may show a difference.
    since = before.at
    assert since
    exporter.requests |= {("window-old", "200"): 1030, ("window-old", "404"): 10, ("window-old", "500"): 12}
    # Born failing: these series do not exist when the window begins.
    exporter.requests |= {("window-new", "200"): 10, ("window-new", "503"): 5, ("window-new", "429"): 9}
    both = watch("window", since, "old", "new", "silent")
    evidence = await until(source, both, lambda e: "new" in e.counts)
    assert evidence.counts == {"old": Counts(32, 2), "new": Counts(15, 5)}
    assert evidence.since == since
    assert evidence.at
    assert since <= evidence.at <= datetime.now(UTC)

    # The gateway starts anew: its counters begin at zero again.
    exporter.requests |= {("window-old", "200"): 4, ("window-old", "500"): 1}
    evidence = await until(source, both, lambda e: e.counts.get("old") not in {None, Counts(32, 2)})
    assert evidence.counts["old"] == Counts(5, 1)


async def test_classes_of_codes_and_other_backends_do_not_count(
    exporter: Exporter, source: Prometheus, beginning: datetime
) -> None:
    exporter.requests = {("exact-a", "200"): 7, ("exact-a", "2xx"): 7, ("exact-ab", "200"): 50, ("other-a", "200"): 60}
    evidence = await until(source, watch("exact", beginning, "a"), lambda e: bool(e.counts))
    assert evidence.counts == {"a": Counts(7, 0)}


async def test_several_rollouts_are_read_together_however_many_names_there_are(
    exporter: Exporter, source: Prometheus, beginning: datetime
) -> None:
    exporter.requests = {("many-r7", "200"): 1, ("many-r449", "500"): 2, ("more-x", "400"): 3}
    many = watch("many", beginning, *(f"r{number}" for number in range(450)))
    await until(source, many, lambda e: len(e.counts) == 2)
    read = await source.read([many, watch("more", beginning, "x")])
    assert read["ns", "many"].counts == {"r7": Counts(1, 0), "r449": Counts(2, 2)}
    assert read["ns", "more"].counts == {"x": Counts(3, 3)}


async def test_requests_in_flight_are_summed_over_pods_and_as_old_as_their_scrape(
    exporter: Exporter, source: Prometheus
) -> None:
    exporter.engines = {"engine-0": (2, 1), "engine-1": (4, 0)}
    flight = Watch("ns", "triage", engine_revisions=(ENGINE, "e222222222"))
    evidence = await until(source, flight, lambda e: ENGINE in e.in_flight and e.in_flight[ENGINE].requests == 7)
    assert set(evidence.in_flight) == {ENGINE}
    assert evidence.counts == {}
    # Between two scrapes the measurement does not get younger, although the question is asked anew.
    async with asyncio.timeout(LONG):
        while (
            evidence.in_flight[ENGINE].at != (again := (await source.read([flight]))[flight.key]).in_flight[ENGINE].at
        ):
            evidence = again
    assert evidence.in_flight[ENGINE].at < datetime.now(UTC)


async def test_pods_that_do_not_answer_are_unknown_and_not_idle(exporter: Exporter, source: Prometheus) -> None:
    flight = Watch("ns", "triage", engine_revisions=(ENGINE,))
    exporter.engines = {"engine-0": (1, 0), "engine-1": (0, 0)}
    await until(source, flight, lambda e: ENGINE in e.in_flight)
    exporter.engines = {}
    evidence = await until(source, flight, lambda e: ENGINE not in e.in_flight)
    assert evidence.in_flight == {}


async def test_the_collector_tells_who_has_news_and_reads_nothing_for_nobody(
    exporter: Exporter, source: Prometheus, beginning: datetime
) -> None:
    woken: list[tuple[str, str]] = []
    reads: list[bool] = []
    collector = Collector(
        source,
        interval=0.2,
        woke=woken.append,
        observed=lambda seconds, *, failed: reads.append(failed and seconds > 0),
    )
    running = asyncio.create_task(collector.run())
    exporter.requests = {("told-a", "200"): 5}
    told = watch("told", beginning, "a")
    collector.set_watch(told)
    async with asyncio.timeout(LONG):
        while not collector.evidence(told.key).counts:  # noqa: ASYNC110 - what is waited for is in Prometheus
            await asyncio.sleep(0.05)
    assert set(woken) == {told.key}
    assert collector.evidence(told.key).counts == {"a": Counts(5, 0)}
    collector.set_watch(replace(told, since=datetime.now(UTC)))
    assert collector.evidence(told.key).counts == {}, "counts of another window"
    collector.drop(told.key)
    assert collector.evidence(told.key) == Evidence()
    running.cancel()
    assert reads
    assert not any(reads)


async def test_a_prometheus_that_is_gone_is_one_sentence_for_everybody(tier: Handle, source: Prometheus) -> None:
    watches = [watch("gone", datetime.now(UTC), "a"), watch("lost", datetime.now(UTC), "a")]
    tier.kill("prometheus")
    try:
        read = await source.read(watches)
    finally:
        tier.run("prometheus")
        tier.wait("prometheus")
    for one in watches:
        assert read[one.key].at is None
        assert read[one.key].counts == {}
        assert "cannot be reached; check that it runs" in str(read[one.key].error)
    back = await source.read(watches)
    assert back[watches[0].key].error is None


async def test_a_query_that_prometheus_refuses_is_told_in_its_words(tier: Handle) -> None:
    assert tier.prometheus_url
    broken = Prometheus(Settings(identity="test", prometheus_url=tier.prometheus_url, requests_metric="not a metric"))
    one = watch("broken", datetime.now(UTC), "a")
    read = await broken.read([one])
    broken.close()
    assert "refused a query" in str(read[one.key].error)


async def test_what_is_no_prometheus_is_told_as_that(exporter: Exporter) -> None:
    exporter.engines = {"": (0, 0)}
    wrong = Prometheus(Settings(identity="test", prometheus_url=f"http://{exporter.address}"))
    one = watch("wrong", datetime.now(UTC), "a")
    read = await wrong.read([one])
    wrong.close()
    assert read[one.key].error
    assert exporter.address in str(read[one.key].error)


async def test_a_prometheus_that_does_not_answer_in_time_is_told_as_that() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        await done.wait()
        writer.close()

    done = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    slow = Prometheus(Settings(identity="test", prometheus_url=f"http://127.0.0.1:{port}", prometheus_timeout=0.5))
    one = watch("slow", datetime.now(UTC), "a")
    async with asyncio.timeout(LONG):
        read = await slow.read([one])
    done.set()
    server.close()
    await server.wait_closed()
    slow.close()
    assert "did not answer within 0.5 s" in str(read[one.key].error)
