"""A second real Prometheus, and what stands between one and another: delays, and clocks that differ.

Called by `test_servers`.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode
from urllib.request import Request, urlopen

from sandbox.control_plane import programs
from sandbox.control_plane.api_tier import Handle
from sandbox.host import probe
from sandbox.host.ports import free_port
from tests.integration.scraped import LONG, serving

RECEIVES = "--web.enable-remote-write-receiver"


@contextmanager
def second_prometheus(tier: Handle, directory: Path, config: str) -> Iterator[str]:
    """The URL of another server of the same build, with its own configuration, that accepts remote writes."""
    listen = f"127.0.0.1:{free_port()}"
    (directory / "prometheus.yaml").write_text(config)
    binary = Path(tier.commands["prometheus"][0])
    command = programs.prometheus(binary, config=directory / "prometheus.yaml", data=directory / "data", listen=listen)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([*command, RECEIVES], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + LONG
        while probe.get(f"http://{listen}/-/ready") is None:
            starts = process.poll() is None and time.monotonic() < deadline
            assert starts, (directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(LONG)


@contextmanager
def delayed_writes(url: str, seconds: float, *, every: float = 0.0) -> Iterator[str]:
    """The address of a remote-write receiver that hands each request on to this server `seconds` later, in order.

    Args:
        url: of the server.
        seconds: the delay.
        every: seconds between two bursts; 0: each request when it is due.
    """
    held: list[tuple[float, bytes, dict[str, str]]] = []
    ended = threading.Event()

    class Hold(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = ("Content-Type", "Content-Encoding", "X-Prometheus-Remote-Write-Version")
            held.append((time.monotonic(), body, {name: self.headers[name] for name in names if self.headers[name]}))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    def hand_on() -> None:
        while not ended.wait(max(0.05, every)):
            due = time.monotonic() - seconds
            while held and held[0][0] <= due:
                _, body, headers = held.pop(0)
                urlopen(Request(f"{url}/api/v1/write", body, headers), timeout=LONG).close()  # noqa: S310

    handing = threading.Thread(target=hand_on)
    with serving(Hold) as server:
        handing.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1/write"
        finally:
            ended.set()
            handing.join()


@contextmanager
def other_clock(url: str, ahead: float) -> Iterator[str]:
    """The server as it would be if its clock were `ahead` seconds ahead: it stamps all that it scrapes with it."""

    class Clock(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            if "time" in asked:
                asked["time"] = f"{float(asked['time']) - ahead:.3f}"
            headers = {"Content-Type": self.headers["Content-Type"]}
            with urlopen(Request(url + self.path, urlencode(asked).encode(), headers)) as found:  # noqa: S310
                answer = json.load(found)
            is_time = "time()" in asked["query"] or "timestamp(" in asked["query"]
            for row in answer["data"]["result"]:
                for sample in [row["value"]] if "value" in row else row["values"]:
                    _shift(sample, ahead, is_time=is_time)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with serving(Clock) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def _shift(sample: list[Any], ahead: float, *, is_time: bool) -> None:
    """Move the time of a sample, and its value if that is a time of this clock."""
    sample[0] = round(sample[0] + ahead, 3)
    if is_time:
        sample[1] = str(float(sample[1]) + ahead)
