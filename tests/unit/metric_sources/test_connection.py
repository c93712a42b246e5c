"""How much of an answer is read, from a real server over HTTP."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serin.errors import MetricsError
from serin.metric_sources.connection import Connection
from serin.metric_sources.http_session import MAX_BYTES
from serin.metric_sources.port import RefusedError, Server
from serin.metric_sources.response import vector

EMPTY = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
ROWS = EMPTY.replace(b"[]", b'[{"metric":{},"value":[0,"1"]}]')
NO_PROMETHEUS = r"is not a Prometheus \(.*\); check the URL\.$"
BOMB = gzip.compress(gzip.compress(bytes(60 * 2**20)))
"""60 MiB of zeros, compressed twice."""


@contextmanager
def serving(body: bytes, encoding: str = "", status: int = 200) -> Iterator[Connection]:
    """A connection to a server with one answer to every query."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return  # the client has closed the connection

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        connection = Connection(Server(f"http://127.0.0.1:{server.server_port}"), timeout=20.0)
        try:
            yield connection
        finally:
            connection.close()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(ROWS, ""), (ROWS, "identity"), (gzip.compress(ROWS), "gzip")],
    ids=["no encoding", "identity", "gzip"],
)
async def test_answer_is_read_compressed_or_not(body: bytes, encoding: str) -> None:
    with serving(body, encoding) as connection:
        assert vector(await connection.query("up")) == [({}, 1.0)]


async def test_answer_of_the_largest_size_is_read() -> None:
    with serving(gzip.compress(EMPTY + b" " * (MAX_BYTES - len(EMPTY))), "gzip") as connection:
        assert await connection.query("up") == []


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_answer_above_the_largest_size_is_refused(encoding: str) -> None:
    body = EMPTY + b" " * (MAX_BYTES - len(EMPTY) + 1)
    sent = gzip.compress(body) if encoding else body
    with (
        serving(sent, encoding) as connection,
        pytest.raises(RefusedError, match=r"sent more than 16 MiB; narrow the selector\.$"),
    ):
        await connection.query("up")


async def test_compressed_bomb_is_refused_before_it_is_decompressed() -> None:
    with serving(gzip.decompress(BOMB), "gzip") as connection:
        tracemalloc.start()
        try:
            with pytest.raises(RefusedError, match="sent more than 16 MiB"):
                await connection.query("up")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 3 * MAX_BYTES


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BOMB, "gzip, gzip"),
        (b"oops", "gzip"),
        (b"oops", "br"),
        (gzip.compress(ROWS)[:-20], "gzip"),
        (gzip.compress(ROWS) + bytes(2**20), "gzip"),
    ],
    ids=["twice", "damaged", "another", "cut off", "continued"],
)
async def test_unreadable_encoding_is_reported(body: bytes, encoding: str) -> None:
    with serving(body, encoding) as connection, pytest.raises(MetricsError, match=NO_PROMETHEUS):
        await connection.query("up")


async def test_endlessly_nested_answer_is_reported() -> None:
    with serving(b"[" * 2**20) as connection, pytest.raises(MetricsError, match=NO_PROMETHEUS):
        await connection.query("up")


@pytest.mark.parametrize(
    ("padding", "detail"), [(0, "(too many)"), (5_000, "(HTTP Status Code 500)")], ids=["near", "far"]
)
async def test_cause_is_searched_only_in_the_beginning_of_an_error(padding: int, detail: str) -> None:
    # The search takes time that grows with the square of the length, and it runs on the event loop.
    body = b" " * padding + b'{"errorType":"execution","error":"too many"}'
    with serving(body, status=500) as connection, pytest.raises(MetricsError) as failure:
        await connection.query("up")
    assert detail in str(failure.value)
