"""Requests without a byte are counted while they hang, once per limit, and every request is settled once per limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model_server.serin_model_server.asgi import Message, Scope
from model_server.serin_model_server.identity import Identity, Stamp
from model_server.serin_model_server.metrics import SILENCE_LABELS, SILENCE_LIMITS, Metrics
from model_server.serin_model_server.middleware import Middleware
from model_server.serin_model_server.recorder import Measured, Recorder

CHAT = "/v1/chat/completions"
WHO = Identity("abcdef0123", "7")
HEADERS = [(b"x-serin-revision", b"abcdef0123"), (b"x-serin-epoch", b"7")]
START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


class Process:
    """A recorder whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.25
        self.registry = CollectorRegistry()
        self.recorder = Recorder(Metrics(self.registry), clock=lambda: self.now)

    def begin(self, who: Identity = WHO) -> Measured:
        measured = self.recorder.begin(CHAT, Stamp(who, None))
        assert measured is not None
        return measured

    def wait(self, seconds: float, sweep: float = 1.0) -> None:
        """Let time pass, with a sweep every `sweep` seconds."""
        until = self.now + seconds
        while self.now + sweep <= until:
            self.now += sweep
            self.recorder.sweep()
        self.now = until

    def counts(self, family: str, who: Identity = WHO) -> list[float | None]:
        """The counters of a family, in the order of the limits."""
        return [
            self.registry.get_sample_value(f"serin_requests_{family}_total", who._asdict() | {"le": le})
            for le in SILENCE_LABELS
        ]

    def outcome(self) -> str:
        ended = [
            sample.labels["outcome"]
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_requests_total" and sample.value
        ]
        assert len(ended) == 1
        return ended[0]

    def failures(self) -> float | None:
        return self.registry.get_sample_value("serin_middleware_failures_total")


@pytest.mark.parametrize(
    ("waited", "reached"), [(29.9, 0), (31, 1), (59, 1), (61, 2), (121, 3), (299, 3), (301, 4), (601, 5), (86_400, 5)]
)
def test_hanging_request_is_overdue_and_settled_before_it_ends(waited: float, reached: int) -> None:
    process = Process()
    measured = process.begin()
    process.wait(waited)

    overdue = [1] * reached + [0] * (5 - reached)
    assert process.counts("overdue") == process.counts("settled") == overdue

    process.recorder.end(measured, "ok")
    assert process.counts("overdue") == overdue
    assert process.counts("settled") == [1] * 5


@pytest.mark.parametrize("sweep", [1.0, 1e9], ids=["swept", "never-swept"])
def test_request_that_resumes_after_sixty_seconds_counts_once_per_limit(sweep: float) -> None:
    process = Process()
    measured = process.begin()
    process.wait(5, sweep)
    measured.silence.byte(process.now)
    process.wait(60, sweep)
    measured.silence.byte(process.now)
    process.wait(45, sweep)
    measured.silence.byte(process.now)
    process.wait(59, sweep)
    process.recorder.end(measured, "ok")

    assert process.counts("overdue") == [1, 1, 0, 0, 0]
    assert process.counts("settled") == [1] * 5


def test_second_longer_silence_counts_only_the_further_limits() -> None:
    process = Process()
    measured = process.begin()
    for seconds in (31, 20, 301, 301):
        process.wait(seconds)
        measured.silence.byte(process.now)

    assert process.counts("overdue") == process.counts("settled") == [1, 1, 1, 1, 0]


def test_stream_with_bytes_in_time_is_never_overdue() -> None:
    process = Process()
    measured = process.begin()
    for _ in range(100):
        process.wait(29)
        measured.silence.byte(process.now)
    process.recorder.end(measured, "ok")

    assert process.counts("overdue") == [0] * 5
    assert process.counts("settled") == [1] * 5


def test_limit_is_counted_at_most_one_sweep_late() -> None:
    process = Process()
    process.begin()
    process.wait(29.5)
    assert process.counts("overdue")[0] == 0
    process.wait(1.5)
    assert process.counts("overdue")[0] == 1


def test_failure_in_sweep_loses_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.begin(Identity("0000000000", "1"))
    broken = process.begin(Identity("1111111111", "1"))
    process.begin(Identity("2222222222", "1"))
    broken.pair.overdue = []
    process.wait(61)

    for revision in ("0000000000", "2222222222"):
        assert process.counts("overdue", Identity(revision, "1")) == [1, 1, 0, 0, 0]
    assert process.failures()
    assert len(caplog.records) == 1


def test_request_of_a_removed_pair_brings_no_series_back() -> None:
    process = Process()
    measured = process.begin()
    # This cannot happen while the request counts as in flight.
    measured.pair.in_flight = 0
    for number in range(64):
        process.recorder.metrics.pair(Identity(f"{number:010x}", "0"))
    assert not process.recorder.metrics.is_current(measured.pair)
    process.wait(700)
    measured.silence.byte(process.now)
    process.recorder.end(measured, "ok")

    assert process.counts("overdue") == process.counts("settled") == [None] * 5
    assert process.failures() == 0


def test_requests_that_have_ended_are_not_watched() -> None:
    process = Process()
    for _ in range(1000):
        process.recorder.end(process.begin(), "ok")
        process.now += 0.01
    hanging = [process.begin() for _ in range(3)]

    assert len(process.recorder._watch) == 3
    assert len(process.recorder._watch._slots) <= 3
    process.wait(601)
    assert len(process.recorder._watch) == 0
    assert process.recorder._watch._slots == {}
    for measured in hanging:
        process.recorder.end(measured, "timed_out")
    assert process.counts("settled") == [1003] * 5


@given(
    st.lists(st.tuples(st.sampled_from(["byte", "sweep", "begin", "end"]), st.floats(0, 400)), max_size=40),
)
def test_each_request_is_counted_once_in_any_order_of_events(events: list[tuple[str, float]]) -> None:
    process = Process()
    running: list[tuple[Measured, list[float]]] = []
    expected = [0] * 5
    begun = 0

    def end(measured: Measured, times: list[float]) -> None:
        process.recorder.end(measured, "ok")
        silences = [after - before for before, after in zip(times, [*times[1:], process.now], strict=True)]
        for place, limit in enumerate(SILENCE_LIMITS):
            expected[place] += max(silences) >= limit

    for kind, seconds in events:
        process.now += seconds
        if kind == "begin":
            running.append((process.begin(), [process.now]))
            begun += 1
        elif kind == "sweep":
            process.recorder.sweep()
        elif kind == "byte" and running:
            running[0][0].silence.byte(process.now)
            running[0][1].append(process.now)
        elif running:
            end(*running.pop(0))
    for measured, times in running:
        end(measured, times)

    assert [count or 0 for count in process.counts("overdue")] == expected
    assert [count or 0 for count in process.counts("settled")] == [begun] * 5
    assert len(process.recorder._watch) == 0
    assert process.failures() == 0


class Connection:
    """A client whose messages, and the time between them, the test says."""

    def __init__(self, process: Process, *incoming: Message | float) -> None:
        self._process = process
        self._incoming = list(incoming)

    async def receive(self) -> Message:
        while self._incoming:
            found = self._incoming.pop(0)
            if isinstance(found, dict):
                return found
            self._process.wait(found)  # type: ignore[arg-type] # a number
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take it."""


def body(text: bytes = b"{}", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": text, "more_body": more}


def chunk(text: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


async def run(process: Process, app: Any, *incoming: Message | float) -> None:
    connection = Connection(process, *incoming)
    scope: Scope = {"type": "http", "method": "POST", "path": CHAT, "headers": HEADERS}
    await Middleware(app, process.recorder)(scope, connection.receive, connection.send)


@pytest.mark.parametrize(
    ("chunks", "silence", "outcome"),
    [
        ([], 9.9, "left"),
        ([], 10, "timed_out"),
        ([b""], 10, "timed_out"),
        ([b"data: 1\n\n"], 0, "left"),
        ([b"data: 1\n\n"], 9.9, "left"),
        ([b"data: 1\n\n"], 10, "timed_out"),
        ([b"data: 1\n\n", b"data: 2\n\n", b""], 300, "timed_out"),
    ],
)
async def test_client_that_leaves_after_ten_silent_seconds_has_timed_out(
    chunks: list[bytes], silence: float, outcome: str
) -> None:
    process = Process()

    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        for each in chunks:
            # However long the whole response takes.
            process.wait(9)
            await send(chunk(each))
        process.now = process.now if not chunks or chunks[-1] else process.now - 9
        assert (await receive())["type"] == "http.disconnect"
        # What the application does after the client has left changes nothing.
        process.wait(100)
        await send(chunk(b'data: {"error": 1}\n\n'))
        await send(chunk(b"too late", more=False))

    await run(process, app, body(), silence)
    assert process.outcome() == outcome
    assert process.counts("settled") == [1] * 5


@pytest.mark.parametrize("silence", [0, 11], ids=["at once", "after-ten-seconds"])
@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (500, b"", "server_error"),
        (400, b"", "rejected"),
        (404, b"", "excluded"),
        (429, b"{}", "excluded"),
        (200, b'data: {"error":{}}\n\n', "stream_error"),
        (200, b"event: error\ndata: {}\n\n", "stream_error"),
        (200, b'data: {"choices":[{"finish_reason":"abort"}]}\n\n', "aborted"),
    ],
)
async def test_known_failure_stays_when_client_leaves(status: int, text: bytes, outcome: str, silence: float) -> None:
    process = Process()

    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send(START | {"status": status})
        await send(chunk(text))
        await receive()

    await run(process, app, body(), silence)
    assert process.outcome() == outcome


@pytest.mark.parametrize("error", [None, RuntimeError, asyncio.CancelledError], ids=str)
async def test_failure_after_client_left_is_not_the_servers(error: type[BaseException] | None) -> None:
    # vLLM cancels the request then, and answers 400 "Client disconnected".
    process = Process()

    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        await send(START | {"status": 400})
        await send(chunk(b"{}", more=False))
        if error is not None:
            raise error

    if error is None:
        await run(process, app, body(), 3.0)
    else:
        with pytest.raises(error):
            await run(process, app, body(), 3.0)
    assert process.outcome() == "left"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [(b"data: 1\n\n", "aborted"), (b'data: {"error":{}}\n\n', "stream_error")],
    ids=["healthy", "failed-before"],
)
async def test_request_cancelled_at_shutdown(text: bytes, outcome: str) -> None:
    process = Process()

    async def app(_scope: Scope, _receive: Any, send: Any) -> None:
        await send(START)
        await send(chunk(text))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run(process, app, body())
    assert process.outcome() == outcome
    assert len(process.recorder._watch) == 0


async def test_request_cancelled_while_sending_is_aborted() -> None:
    process = Process()

    async def app(_scope: Scope, _receive: Any, send: Any) -> None:
        await send(START)

    async def stuck(_message: Message) -> None:
        raise asyncio.CancelledError

    scope: Scope = {"type": "http", "method": "POST", "path": CHAT, "headers": HEADERS}
    with pytest.raises(asyncio.CancelledError):
        await Middleware(app, process.recorder)(scope, Connection(process).receive, stuck)
    assert process.outcome() == "aborted"


async def test_slow_upload_is_not_overdue_stalled_upload_is() -> None:
    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(START)
        await send(chunk(b"data: 1\n\n", more=False))

    slow, stalled = Process(), Process()
    await run(slow, app, *[part for _ in range(100) for part in (7.0, body(more=True))], body())
    await run(stalled, app, body(more=True), 61.0, body())

    assert slow.counts("overdue") == [0] * 5
    assert stalled.counts("overdue") == [1, 1, 0, 0, 0]
    for process in (slow, stalled):
        assert process.outcome() == "ok"
        assert process.counts("settled") == [1] * 5


async def test_client_that_leaves_during_its_upload_has_left() -> None:
    async def app(_scope: Scope, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    process = Process()
    await run(process, app, *[part for _ in range(10) for part in (7.0, body(more=True))], 7.0)
    assert process.outcome() == "left"


async def test_headers_of_a_response_are_not_a_byte() -> None:
    process = Process()

    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        process.wait(20)
        await send(START)
        process.wait(20)
        await send(chunk(b"data: 1\n\n", more=False))

    await run(process, app, body())
    assert process.counts("overdue") == [1, 0, 0, 0, 0]


async def test_timer_sweeps_and_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    process.recorder._ticker._seconds = 0.01
    calls = 0
    due = process.recorder._watch.due

    def failing_once(now: float) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("broken on purpose")
        return due(now)

    monkeypatch.setattr(process.recorder._watch, "due", failing_once)

    async def app(*_: Any) -> None:
        process.now += 31
        while process.counts("overdue")[0] != 1:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.01)

    await asyncio.wait_for(run(process, app), 10)
    assert calls >= 2
    assert process.failures() == 1


async def test_requests_share_one_timer() -> None:
    process = Process()
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]

    async def app(*_: Any) -> None:
        """Answer nothing."""

    middleware = [Middleware(app, process.recorder) for _ in range(2)]
    for each in middleware * 50:
        await each({"type": "http", "method": "GET", "path": "/health"}, Connection(process).receive, print)  # type: ignore[arg-type]
        await each({"type": "lifespan"}, Connection(process).receive, print)  # type: ignore[arg-type]
    assert len(loop._scheduled) == before + 1  # type: ignore[attr-defined]
