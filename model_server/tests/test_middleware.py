"""The ASGI shell around small applications: what it counts, and what it must not change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model_server.serin_model_server.asgi import Application, Message, Scope
from model_server.serin_model_server.identity import NONE, Identity, read_stamp
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.middleware import INFERENCE_PATHS, Middleware
from model_server.serin_model_server.recorder import Recorder
from serin.routers.gateway_api import SERVED_PATHS

CHAT = "/v1/chat/completions"
REVISION = b"abcdef0123"
STAMPED = [(b"host", b"x"), (b"x-serin-revision", REVISION), (b"x-serin-epoch", b"7")]
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
Headers = list[tuple[bytes, bytes]]


class Bench:
    """A middleware around an application, and the messages that it sends."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.registry = CollectorRegistry()
        self.recorder = Recorder(Metrics(self.registry))
        self.middleware = Middleware(app, self.recorder)
        self.sent: list[Message] = []

    async def post(
        self, path: str = CHAT, headers: Headers | None = None, incoming: Sequence[Message] = (), **more: Any
    ) -> list[Message]:
        messages = iter(incoming or [{"type": "http.request", "body": b"{}", "more_body": False}])

        async def receive() -> Message:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            self.sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": STAMPED if headers is None else headers}
        await self.middleware(scope | more, receive, send)
        return self.sent

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def outcomes(self, revision: str = "abcdef0123", epoch: str = "7") -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_requests_total"
            and (sample.labels["revision"], sample.labels["epoch"]) == (revision, epoch)
        }

    def only_outcome(self) -> str:
        ((outcome, count),) = ((name, count) for name, count in self.outcomes().items() if count)
        assert count == 1
        return outcome

    def nothing_counted(self) -> bool:
        return len(self.recorder.metrics) == 0


def answers(status: int = 200, headers: Headers = JSON, chunks: Sequence[bytes] = (b"{}",)) -> Application:
    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, chunk in enumerate(chunks, start=1):
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks)})

    return app


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (500, "server_error"),
        (503, "server_error"),
        (400, "rejected"),
        (413, "rejected"),
        (422, "rejected"),
        *((status, "excluded") for status in (401, 402, 403, 404, 405, 409, 415, 418, 429, 304, 307)),
        (408, "left"),
        (499, "left"),
    ],
)
async def test_status_determines_outcome(status: int, outcome: str) -> None:
    bench = Bench(answers(status))
    await bench.post()

    assert bench.only_outcome() == outcome
    assert bench.value("serin_requests_started_total", revision="abcdef0123", epoch="7") == 1


async def test_first_request_creates_all_outcomes_at_zero() -> None:
    bench = Bench(answers())
    await bench.post()

    assert bench.outcomes() == {
        "ok": 1,
        "server_error": 0,
        "rejected": 0,
        "stream_error": 0,
        "aborted": 0,
        "timed_out": 0,
        "excluded": 0,
        "left": 0,
    }
    for le in ("30", "60", "120", "300", "600"):
        labels = {"revision": "abcdef0123", "epoch": "7", "le": le}
        assert bench.value("serin_requests_overdue_total", **labels) == 0
        assert bench.value("serin_requests_settled_total", **labels) == 1
    assert bench.value("serin_e2e_request_latency_seconds_count", revision="abcdef0123", epoch="7") == 0


@pytest.mark.parametrize(
    ("headers", "chunks", "outcome"),
    [
        (SSE, [b'data: {"choices":[{"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"], "ok"),
        (
            SSE,
            [b'data: {"choices":[]}\n\n', b'data: {"error": {"code": 500}}\n\n', b"data: [DONE]\n\n"],
            "stream_error",
        ),
        (SSE, [b'event: error\ndata: {"type":"error"}\n\n'], "stream_error"),
        (SSE, [b'data: {"choices":[{"finish_reason":"abort"}]}\n\n', b"data: [DONE]\n\n"], "aborted"),
        (JSON, [b'{"choices":[{"finish_reason":"abort"}]}'], "aborted"),
        (JSON, [b'{"choices":[{"finish_reason": "error"}]}'], "stream_error"),
        (SSE, [rb'data: {"choices":[{"text":"\"finish_reason\":\"error\" data: {\"error\":"}]}' + b"\n\n"], "ok"),
        (JSON, [rb'{"choices":[{"text":"event: error\n"}]}'], "ok"),
    ],
    ids=[
        "stop",
        "error-event",
        "anthropic",
        "abort",
        "json-abort",
        "json-error",
        "quoted-by-the-model",
        "quoted-event",
    ],
)
async def test_error_inside_response_with_status_200_is_counted(
    headers: Headers, chunks: list[bytes], outcome: str
) -> None:
    bench = Bench(answers(headers=headers, chunks=chunks))
    sent = await bench.post()

    assert bench.only_outcome() == outcome
    assert [message["body"] for message in sent[1:]] == chunks


async def test_user_json_repeated_in_response_is_not_an_error() -> None:
    bench = Bench(answers(chunks=[b'{"metadata":{"finish_reason":"error"},"status":"completed"}']))
    await bench.post("/v1/responses")

    assert bench.only_outcome() == "ok"


async def test_messages_pass_through_as_the_same_objects() -> None:
    incoming: list[Message] = [
        {"type": "http.request", "body": bytes(70_000), "more_body": True},
        {"type": "http.request", "body": b"end", "more_body": False},
    ]
    outgoing: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": SSE},
        {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True},
        {"type": "http.response.body"},
    ]
    seen = []

    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive()])
        for message in outgoing:
            await send(message)

    sent = await Bench(app).post(incoming=incoming)

    assert all(one is other for one, other in zip(seen, incoming, strict=True))
    assert all(one is other for one, other in zip(sent, outgoing, strict=True))


async def test_response_chunks_are_not_delayed() -> None:
    arrived = asyncio.Event()

    async def app(_scope: Scope, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        arrived.set()
        await asyncio.sleep(3600)

    bench = Bench(app)
    task = asyncio.create_task(bench.post())
    await arrived.wait()

    assert bench.sent[-1]["body"] == b"data: 1"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.only_outcome() == "aborted"


async def test_application_exception_is_server_error_and_propagates() -> None:
    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    bench = Bench(app)
    with pytest.raises(ZeroDivisionError):
        await bench.post()

    assert bench.only_outcome() == "server_error"


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([], "server_error"),
        ([{"type": "http.response.start", "status": 200, "headers": SSE}], "stream_error"),
        ([{"type": "http.response.start", "status": 400, "headers": JSON}], "rejected"),
    ],
    ids=["none", "begun", "refusal-begun"],
)
async def test_incomplete_response_is_an_error(messages: list[Message], outcome: str) -> None:
    async def app(_scope: Scope, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    bench = Bench(app)
    await bench.post()

    assert bench.only_outcome() == outcome


async def test_disconnected_client_has_left() -> None:
    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b'data: {"error": 1}\n\n', "more_body": False})

    bench = Bench(app)
    await bench.post()

    assert bench.only_outcome() == "left"


@pytest.mark.parametrize(("status", "outcome"), [(200, "left"), (500, "server_error")])
async def test_connection_failure_while_sending_is_a_client_that_left(status: int, outcome: str) -> None:
    async def broken(_message: Message) -> None:
        raise ConnectionResetError

    bench = Bench(answers(status))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    with pytest.raises(ConnectionResetError):
        await bench.middleware({"type": "http", "method": "POST", "path": CHAT, "headers": STAMPED}, receive, broken)

    assert bench.only_outcome() == outcome


async def test_disconnect_after_complete_response_is_ok() -> None:
    async def app(_scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await answers()(_scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    bench = Bench(app)
    await bench.post(incoming=[{"type": "http.request"}, {"type": "http.request"}])

    assert bench.only_outcome() == "ok"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-serin-revision", REVISION)],
        [(b"x-serin-epoch", b"7")],
        [*STAMPED, (b"x-serin-revision", b"0000000000")],
        [*STAMPED, (b"x-serin-revision", REVISION)],
        [(b"x-serin-epoch", b"3"), *STAMPED],
        [(b"x-serin-revision", REVISION + b", 0000000000"), (b"x-serin-epoch", b"7")],
        [(b"x-serin-revision", b"ABCDEF0123"), (b"x-serin-epoch", b"7")],
        [(b"x-serin-revision", b"abcdef01234"), (b"x-serin-epoch", b"7")],
        [(b"x-serin-revision", b"abcdef0123\n"), (b"x-serin-epoch", b"7")],
        [(b"x-serin-revision", REVISION), (b"x-serin-epoch", b"32")],
        [(b"x-serin-revision", REVISION), (b"x-serin-epoch", b"07")],
        [(b"x-serin-revision", REVISION), (b"x-serin-epoch", b"")],
    ],
)
async def test_invalid_headers_are_counted_as_none(headers: Headers) -> None:
    bench = Bench(answers())
    await bench.post(headers=headers)

    assert bench.outcomes("none", "none")["ok"] == 1
    assert bench.outcomes() == {}


@given(st.lists(st.tuples(st.sampled_from([b"x-serin-revision", b"x-serin-epoch", b"a"]), st.binary(max_size=12))))
def test_labels_are_bounded_for_any_headers(headers: Headers) -> None:
    revision, epoch = read_stamp(headers).identity

    known = len(revision) == 10 and set(revision) <= set("0123456789abcdef") and epoch in map(str, range(32))
    assert known or (revision, epoch) == NONE


@pytest.mark.parametrize("epoch", range(32))
def test_every_ring_value_is_an_epoch(epoch: int) -> None:
    headers = [(b"x-serin-revision", REVISION), (b"x-serin-epoch", str(epoch).encode())]

    assert read_stamp(headers).identity == Identity("abcdef0123", str(epoch))


def test_inference_paths_are_served_paths_that_the_engine_works_for() -> None:
    """A list of models and a count of tokens take no place in the engine, and say nothing about its answers."""
    assert set(SERVED_PATHS) - {"/v1/models", "/v1/messages/count_tokens"} == INFERENCE_PATHS


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/health", "GET"),
        ("/metrics", "GET"),
        ("/v1/models", "GET"),
        (CHAT, "OPTIONS"),
        ("/v1/messages/count_tokens", "POST"),
        ("/v1/responses/resp_1/cancel", "POST"),
        ("/tokenize", "POST"),
    ],
)
async def test_other_paths_and_methods_are_not_counted(path: str, method: str) -> None:
    bench = Bench(answers())
    await bench.post(path, method=method)

    assert len(bench.sent) == 2
    assert bench.nothing_counted()


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_protocols_pass_through_unread(kind: str) -> None:
    seen: list[Any] = []

    async def app(*everything: Any) -> None:
        seen.extend(everything)

    given_scope: Scope = {"type": kind, "path": CHAT}
    bench = Bench(app)
    await bench.middleware(given_scope, print, print)  # type: ignore[arg-type] # never called

    assert seen == [given_scope, print, print]
    assert bench.nothing_counted()


async def test_root_path_prefix_is_removed_from_path() -> None:
    bench = Bench(answers())
    await bench.post(f"/api{CHAT}", root_path="/api")

    assert bench.only_outcome() == "ok"


async def test_engine_gets_unique_id_and_clients_id_if_unique() -> None:
    ids = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        ids.append([value for name, value in scope["headers"] if name == b"x-request-id"])
        if len(ids) == 1:
            # A second request with the same id while the first is in flight.
            await bench.post(headers=[*STAMPED, (b"x-request-id", b"mine")])
        await answers()(scope, receive, send)

    bench = Bench(app)
    bench.recorder.engine_reports = True
    await bench.post(headers=[*STAMPED, (b"x-request-id", b"mine")])
    await bench.post(headers=[*STAMPED, (b"x-request-id", b"a"), (b"x-request-id", b"b")])
    await bench.post()
    await bench.post(headers=[*STAMPED, (b"x-request-id", b"no spaces please")])

    assert ids[0] == [b"mine"]
    assert {len(each) for each in ids} == {1}
    assert len({each[0] for each in ids}) == 5
    assert {len(each[0]) for each in ids[1:]} == {32}


async def test_without_plugin_headers_stay_and_own_clock_is_used() -> None:
    seen: list[Headers] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await answers()(scope, receive, send)

    bench = Bench(app)
    for _ in range(22):
        await bench.post()

    assert all(headers is STAMPED for headers in seen)
    labels = {"revision": "abcdef0123", "epoch": "7"}
    # Of 22 requests the first 20 are cold.
    assert bench.value("serin_e2e_request_latency_seconds_count", **labels) == 2
    assert bench.value("serin_time_to_first_token_seconds_count", **labels) == 0


@pytest.mark.parametrize("broken", ["pair", "headers", "scanner", "end"])
async def test_failure_while_measuring_does_not_fail_request(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    bench = Bench(answers(headers=SSE, chunks=[b"data: 1\n\n", b"data: [DONE]\n\n"]))
    headers: Any = STAMPED
    if broken == "pair":
        monkeypatch.setattr(bench.recorder.metrics, "pair", fail)
    elif broken == "headers":
        headers = [("name",)]
    elif broken == "scanner":
        monkeypatch.setattr("model_server.serin_model_server.outcome.Scanner.feed", fail)
    else:
        monkeypatch.setattr(bench.recorder.join, "linger", fail)
        bench.recorder.engine_reports = True

    for _ in range(2):
        bench.sent.clear()
        await bench.post(headers=headers)
        assert [message.get("body") for message in bench.sent] == [None, b"data: 1\n\n", b"data: [DONE]\n\n"]

    failures = bench.value("serin_middleware_failures_total")
    assert failures is not None
    assert failures >= 2
    assert len(caplog.records) == 1
