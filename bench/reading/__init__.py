"""One reading of a real Prometheus for 200 adaptive rollouts with four pods each: processor time and peak memory.

`rollouts` has what the rollouts want and what their pods and gateways export. One page of a small server has the series
of all of them, each with the labels of its own target, as a federating server has them. A new process reads them as the
operator does, several times. Printed are what the operator's processor spends on one reading, also as a multiple of
what `json` spends right after it on decoding the same answers, and the peak memory of the process. Limits: 2 s of
processor and 300 MiB.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from bench.reading import rollouts
from sandbox.builds.cache import Cache, provide
from sandbox.control_plane import programs
from sandbox.host.layout import from_environment
from sandbox.host.ports import free_port
from serin.metric_sources.connection import Connection
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings

ROUNDS = 5
SCRAPE_SECONDS = 15
SCRAPES = 4
MOST_SECONDS, MOST_MIB = 2.0, 300


def measure() -> dict[str, Any]:
    """What a new process found: `processor` seconds of each reading, `mib` at most, and what else `main` prints."""
    with tempfile.TemporaryDirectory() as directory, _prometheus(Path(directory)) as url:
        command = [sys.executable, "-m", "bench.reading", url]
        found: dict[str, Any] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
    return found


def main() -> None:
    """Measure, print one line, and fail if a limit is exceeded."""
    found = measure()
    # The least is what the reading itself needs: whatever else runs on the machine makes it more.
    processor, mib, pods = min(found["processor"]), found["mib"], rollouts.STABLE_PODS + rollouts.CANARY_PODS
    print(
        f"reading: {rollouts.ROLLOUTS} adaptive rollouts with {pods} pods each, {len(rollouts.LIVE)} of "
        f"{rollouts.EPOCHS} epochs live, {found['series']} series, {found['requests']} requests counted: "
        f"{processor:.2f} s of the operator's processor (at most {max(found['processor']):.2f}), "
        f"{statistics.median(found['ratios']):.1f} times decoding the answers by json ({min(found['ratios']):.1f} to "
        f"{max(found['ratios']):.1f}); {statistics.median(found['seconds']):.2f} s until all was read; peak memory "
        f"{mib:.0f} MiB; the event loop was blocked for {1000 * max(found['pauses']):.0f} ms at most"
    )
    if processor > MOST_SECONDS or mib > MOST_MIB:
        raise SystemExit(f"bench: A reading may take {MOST_SECONDS:g} s of processor and {MOST_MIB} MiB at most.")


def page(series: Sequence[tuple[str, int]], scrape: int) -> bytes:
    """The page of a scrape: of each series its name and labels, and by how much it grows."""
    lines = [f"{name} {1000 + grows * scrape}" for name, grows in series]
    return ("\n".join(lines) + "\n").encode()


@contextmanager
def _prometheus(directory: Path) -> Iterator[str]:
    """A Prometheus that has scraped the page `SCRAPES` times."""
    scraped = 0
    series = [(f"{name}{{{labels}}}", grows) for name, labels, grows in rollouts.series()]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal scraped
            body = page(series, scraped)
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
    source = Prometheus(settings, connect=Recording)
    watches = rollouts.watches(datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SCRAPE_SECONDS + 20))
    found: dict[str, list[float]] = {"pauses": [], "seconds": [], "processor": [], "ratios": []}
    series = requests = 0
    for _ in range(2):
        watching = asyncio.create_task(_longest_pause())
        await _read(source, watches)
        watching.cancel()
        found["pauses"].append(await watching)
    # What follows needs more memory than a reading, and what came before more of the processor.
    mib = _peak_mib()
    for _ in range(ROUNDS):
        Recording.queries.clear()
        began, spent = time.perf_counter(), time.process_time()
        requests = await _read(source, watches)
        found["seconds"].append(time.perf_counter() - began)
        found["processor"].append(time.process_time() - spent)
        decoding, series = _decoding(url)
        found["ratios"].append(found["processor"][-1] / decoding)
    source.close()
    print(json.dumps(found | {"mib": mib, "series": series, "requests": requests}))


async def _read(source: Prometheus, watches: Sequence[Watch]) -> int:
    """Read once; returns the number of requests counted."""
    answers = await source.read(watches)
    if errors := {each.error for each in answers.values() if each.error}:
        raise SystemExit(f"bench: {errors}")
    intervals = [interval for each in answers.values() for interval in each.intervals]
    return sum(sum(interval.counts.get(rollouts.REQUESTS, {}).values()) for interval in intervals)


def _peak_mib() -> float:
    """Peak memory of this process; `getrusage` would show the parent's if that is higher, as it is kept over `exec`."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


class Recording(Connection):
    """A connection that notes its queries."""

    queries: ClassVar[list[tuple[str, int | None]]] = []

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        """The rows that an instant query returns."""
        self.queries.append((query, at))
        return await super().query(query, at)


def _decoding(url: str) -> tuple[float, int]:
    """Seconds of processor that `json` needs for the answers of the last reading, and how many series they have."""
    spent, rows = 0.0, 0
    for query, at in Recording.queries:
        form = {"query": query} | ({"time": f"{at / 1000:.3f}"} if at is not None else {})
        with urlopen(f"{url}/api/v1/query", urlencode(form).encode(), timeout=60) as answer:  # noqa: S310 - loopback
            body = answer.read()
        began = time.process_time()
        rows += len(json.loads(body)["data"]["result"])
        spent += time.process_time() - began
    return spent, rows


async def _longest_pause() -> float:
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return max(longest, time.perf_counter() - before)
