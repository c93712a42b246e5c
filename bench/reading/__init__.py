"""One reading of a real Prometheus for 200 adaptive rollouts with four pods each: time and peak memory.

One page of a small server has the series of all pods, each with the labels of its own target, as a federating server
has them. Each pod has the series of eight epochs, of which four can still grow: the running one, and three whose
requests may not have ended. A new process reads them as the operator does, several times; the median time and the peak
memory of the process are printed. Limits: 2 s and 300 MiB.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from sandbox.builds.cache import Cache, provide
from sandbox.control_plane import programs
from sandbox.host.layout import from_environment
from sandbox.host.ports import free_port
from serin.analysis.counts import Tally
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings

ROLLOUTS, STABLE_PODS, CANARY_PODS, ROUNDS = 200, 3, 1, 5
EPOCHS, LIVE = 8, (4, 5, 6, 7)
AHEAD = (8, 9, 10, 11)
"""Epochs that can begin before the collector knows of them; no pod has series of them yet."""
SCRAPE_SECONDS = 15
SCRAPES = 4
MOST_SECONDS, MOST_MIB = 2.0, 300
OUTCOMES = ("ok", "server_error", "rejected", "stream_error", "aborted", "timed_out", "excluded", "left")
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
REQUESTS, STARTED = Tally("serin_requests_total", by="outcome"), Tally("serin_requests_started_total")
TTFT = Tally("serin_time_to_first_token_seconds_bucket", by="le")


def main() -> None:
    """Measure in a new process, print one line, and fail if a limit is exceeded."""
    with tempfile.TemporaryDirectory() as directory, _prometheus(Path(directory)) as url:
        command = [sys.executable, "-m", "bench.reading", url]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    seconds, mib = statistics.median(found["seconds"]), found["mib"]
    print(
        f"reading: {ROLLOUTS} adaptive rollouts with {STABLE_PODS + CANARY_PODS} pods each, {len(LIVE)} of {EPOCHS} "
        f"epochs live, {found['requests']} requests counted: {seconds:.2f} s ({min(found['seconds']):.2f} to "
        f"{max(found['seconds']):.2f}), of that {found['processor']:.2f} s of the operator's processor; peak memory "
        f"{mib:.0f} MiB; the event loop was blocked for {1000 * found['pause']:.0f} ms at most"
    )
    if seconds > MOST_SECONDS or mib > MOST_MIB:
        raise SystemExit(f"bench: A reading may take {MOST_SECONDS:g} s and {MOST_MIB} MiB at most.")


def page(scrape: int) -> bytes:
    """The series of all pods; those of the live epochs grow with each scrape."""
    lines = []
    for name in ("serin_requests_total", "serin_requests_started_total", "serin_time_to_first_token_seconds_bucket"):
        lines.append(f"# TYPE {name} untyped")
        for labels, epoch in _pods():
            grown = 1000 + (scrape if epoch in LIVE else 0)
            if name == "serin_requests_total":
                lines += [f'{name}{{{labels},outcome="{o}"}} {grown if o == "ok" else 0}' for o in OUTCOMES]
            elif name == "serin_requests_started_total":
                lines.append(f"{name}{{{labels}}} {grown}")
            else:
                lines += [f'{name}{{{labels},le="{bound}"}} {grown}' for bound in (*BOUNDS, "+Inf")]
    return ("\n".join(lines) + "\n").encode()


def _pods() -> Iterator[tuple[str, int]]:
    for rollout in range(ROLLOUTS):
        for pod in range(STABLE_PODS + CANARY_PODS):
            revision = f"{rollout:05x}{'aaaaa' if pod < STABLE_PODS else 'ccccc'}"
            target = (
                f'container="engine",deployment="model-{rollout}",endpoint="http",engine_revision="{revision}",'
                f'instance="10.42.{rollout}.{pod}:8000",job="serin-models/vllm",namespace="team-{rollout}",'
                f'pod="model-{rollout}-{revision}-6c9d8f7b5d-x{pod}",revision="{revision}"'
            )
            for epoch in range(EPOCHS):
                yield f'{target},epoch="{epoch}"', epoch


@contextmanager
def _prometheus(directory: Path) -> Iterator[str]:
    """A Prometheus that has scraped the page `SCRAPES` times."""
    scraped = 0
    pages = [page(scrape) for scrape in range(SCRAPES)]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal scraped
            body = pages[min(scraped, SCRAPES - 1)]
            scraped += 1
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    cache = Cache(from_environment())
    provide(cache, ["prometheus"], directory, None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config, listen = directory / "prometheus.yaml", f"127.0.0.1:{free_port()}"
    config.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s, scrape_timeout: {SCRAPE_SECONDS}s}}\n"
        "scrape_configs:\n- job_name: pods\n  honor_labels: true\n  static_configs:\n"
        f'  - targets: ["127.0.0.1:{server.server_port}"]\n'
    )
    command = programs.prometheus(cache.path("prometheus"), config=config, data=directory / "data", listen=listen)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 20 * SCRAPES * SCRAPE_SECONDS
        query = f"http://{listen}/api/v1/query?query=count_over_time(up[1h])"
        while _value(query) < SCRAPES:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(
                    f"bench: Prometheus has not scraped the page. {(directory / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.5)
        yield f"http://{listen}"
    finally:
        server.shutdown()
        process.terminate()
        process.wait(30)


def _value(url: str) -> float:
    """The first value of an instant query; 0.0 without an answer."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - it is on the loopback
            rows = json.load(answer)["data"]["result"]
    except (URLError, OSError, KeyError, ValueError):
        return 0.0
    return float(rows[0]["value"][1]) if rows else 0.0


async def read(url: str) -> None:
    """Read a few times, and print what it cost as JSON."""
    settings = Settings(identity="bench", prometheus_url=url, prometheus_timeout=60.0, scrape_interval=SCRAPE_SECONDS)
    source = Prometheus(settings)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SCRAPE_SECONDS + 20)
    watches = [_watch(rollout, begin) for rollout in range(ROLLOUTS)]
    seconds: list[float] = []
    pauses: list[float] = []
    spent, requests = time.process_time(), 0
    for _ in range(ROUNDS):
        watching = asyncio.create_task(_longest_pause())
        await asyncio.sleep(0)
        began = time.perf_counter()
        answers = await source.read(watches)
        seconds.append(time.perf_counter() - began)
        watching.cancel()
        pauses.append(await watching)
        if errors := {each.error for each in answers.values() if each.error}:
            raise SystemExit(f"bench: {errors}")
        requests = sum(
            sum(interval.counts.get(REQUESTS, {}).values()) for each in answers.values() for interval in each.intervals
        )
    processor = (time.process_time() - spent) / ROUNDS
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps({"seconds": seconds, "mib": mib, "pause": max(pauses), "requests": requests, "processor": processor})
    )
    source.close()


def _watch(rollout: int, begin: datetime) -> Watch:
    stable, canary = f"{rollout:05x}aaaaa", f"{rollout:05x}ccccc"
    return Watch(
        begin,
        ((stable, stable), (canary, canary)),
        (REQUESTS, TTFT, STARTED),
        epochs=LIVE + AHEAD,
        in_progress=(STARTED, REQUESTS),
        by_process_of=stable,
        by_process=(REQUESTS,),
        requests=REQUESTS,
        namespace=f"team-{rollout}",
        name=f"model-{rollout}",
    )


async def _longest_pause() -> float:
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return max(longest, time.perf_counter() - before)
