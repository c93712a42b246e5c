"""A server in front of a real Prometheus that fails, delays or demands credentials, as a test sets it.

Called by `test_connections`.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.request import Request, urlopen

from tests.integration.scraped import serving


class Behaviour:
    """How a proxy behaves."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | None = None
        self.wants: set[str] = set()
        self.location = ""
        self.missing = 0
        self.done = threading.Event()
        self.seen: list[dict[str, str]] = []


@contextmanager
def before(url: str, behave: Behaviour, wrap: ssl.SSLContext | None = None) -> Iterator[str]:
    """A proxy in front of Prometheus, with the behaviour that a test sets."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            behave.seen.append(dict(self.headers.items()))
            status, answer = behave.status, behave.body
            if behave.wants - {f"{k}: {v}" for k, v in self.headers.items()}:
                status, answer = 401, b"no"
            if status == 200 and answer is None:
                with urlopen(Request(url + self.path, body, {"Content-Type": self.headers["Content-Type"]})) as found:  # noqa: S310
                    answer = found.read()
            self.send_response(status)
            self.send_header("Location", behave.location)
            self.send_header("Content-Length", str(len(answer or b"") + behave.missing))
            self.end_headers()
            self.wfile.write(answer or b"")
            for _ in range(behave.missing):
                if behave.done.wait(0.1):
                    return
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with serving(Proxy, wrap) as server:
        yield f"http{'s' if wrap else ''}://127.0.0.1:{server.server_port}"
