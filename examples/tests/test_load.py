"""The load generator, tested with a small server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from examples.load import Load
from examples.load.__main__ import summary
from examples.load.generator import TOO_MANY


class _Model(BaseHTTPRequestHandler):
    """Always answers `network, high`; rejects long prompts with 400; waits while `hang` is cleared."""

    hang = threading.Event()
    systems: ClassVar[list[list[str]]] = []
    """The system messages of each request."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.hang.is_set():
            self.hang.wait(20)
        text = body["messages"][-1]["content"]
        self.systems.append([m["content"] for m in body["messages"] if m["role"] == "system"])
        if "\n" in text:
            self._reply(400, {"error": {"message": "too long"}})
            return
        content = json.dumps({"queue": "network", "priority": "high"})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        self._reply(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def _reply(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-serin-revision", "abc")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """The usual five connections are refused on a busy machine."""


@pytest.fixture
def url() -> Iterator[str]:
    _Model.hang.set()
    _Model.systems.clear()
    server = _Server(("127.0.0.1", 0), _Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    _Model.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_answers_and_errors_are_recorded_with_their_revision(url: str) -> None:
    load = Load(url, "m", rps=200, seconds=10, count=80)
    load.start()
    load.join()
    outcomes = load.outcomes()
    assert len(outcomes) == 80
    assert {o.error for o in outcomes if not o.long} == {None}
    assert {o.revision for o in outcomes} == {"abc"}
    assert {o.status for o in outcomes if o.long} == {400}
    assert {o.status for o in outcomes if not o.long} == {200}
    assert {o.good for o in outcomes if not o.failed} == {True, False}
    assert "abc" in summary(outcomes)


def test_rate_and_instruction_can_change_during_a_run(url: str) -> None:
    load = Load(url, "m", rps=1, seconds=60, long_share=0)
    load.start()
    assert load.wait_for(lambda outcomes: len(outcomes) >= 1, 10)
    load.rps, load.instructs = 50, False
    assert load.wait_for(lambda outcomes: len(outcomes) >= 40, 20)
    load.stop()
    assert _Model.systems[0] == ["Triage the ticket. Answer in JSON."]
    assert _Model.systems[-1] == []


def test_answer_that_is_wrong_but_has_the_right_form_is_recorded_as_such(url: str) -> None:
    load = Load(url, "m", rps=200, seconds=10, count=40, long_share=0)
    load.start()
    load.join()
    assert {(o.good, o.obeyed) for o in load.outcomes()} == {(True, True), (False, True)}


def test_slow_server_does_not_slow_sender_beyond_concurrency(url: str) -> None:
    _Model.hang.clear()
    load = Load(url, "m", rps=100, seconds=10, count=30, concurrency=5)
    load.start()
    assert load.wait_for(lambda outcomes: len(outcomes) >= 25, 10)
    assert {o.error for o in load.outcomes()} == {TOO_MANY}
    _Model.hang.set()
    load.join()
    assert len(load.outcomes()) == 30


def test_client_gives_up_after_timeout(url: str) -> None:
    _Model.hang.clear()
    load = Load(url, "m", rps=100, seconds=10, count=3, timeout=0.3)
    load.start()
    load.join()
    assert {o.error for o in load.outcomes()} == {"gave up after 0.3 s"}
    assert all(0.3 <= o.latency < 5 for o in load.outcomes())


def test_stop_ends_run_early(url: str) -> None:
    load = Load(url, "m", rps=50, seconds=600, count=100_000)
    load.start()
    assert load.wait_for(lambda outcomes: len(outcomes) >= 3, 10)
    load.stop()
    sent = len(load.outcomes())
    assert not load.wait_for(lambda outcomes: len(outcomes) > sent, 1)


def test_proxy_of_environment_is_not_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    load = Load(url, "m", rps=50, seconds=5, count=3, long_share=0)
    load.start()
    load.join()
    assert [o.status for o in load.outcomes()] == [200] * 3


def test_unreachable_server_gives_errors_without_status() -> None:
    load = Load("http://127.0.0.1:9", "m", rps=50, seconds=1, count=3)
    load.start()
    load.join()
    assert [o.status for o in load.outcomes()] == [None] * 3
    assert all(o.failed and o.revision is None for o in load.outcomes())


def test_failed_generator_raises_error_on_join() -> None:
    load = Load("http://127.0.0.1:9", "m", rps=50, seconds=1, count=3, long_share="many")  # type: ignore[arg-type]
    load.start()
    with pytest.raises(RuntimeError, match="correct its arguments"):
        load.join()
