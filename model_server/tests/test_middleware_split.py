"""Revision and epoch of a request in a pod with a split document, and that one request uses one document."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model_server.serin_model_server import middleware as middlewares
from model_server.serin_model_server import selection
from model_server.serin_model_server.asgi import Message
from model_server.serin_model_server.channel import Channel
from model_server.serin_model_server.document import Measure, parse
from model_server.serin_model_server.identity import NONE, Identity
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.middleware import Middleware
from model_server.serin_model_server.recorder import Recorder
from model_server.serin_model_server.selection import is_canary, select
from model_server.tests.split_documents import CANARY, MEASURE, STABLE, TOKEN, raw, shared

CHAT = "/v1/chat/completions"
EPOCH = b"x-serin-epoch"
Headers = list[tuple[bytes, bytes]]


class Pod:
    """A middleware with a channel, around an application that answers as `app` says."""

    def __init__(self, folder: Path, content: bytes | None, max_pairs: int = 64) -> None:
        self.registry = CollectorRegistry()
        self.path = folder / "split.json"
        if content is not None:
            self.path.write_bytes(content)
        self.channel = Channel(self.path, folder / "copy", self.registry)
        self.channel.start()
        self.recorder = Recorder(Metrics(self.registry, max_pairs))
        self.sent: list[Message] = []
        self.app: Any = self.answer
        self.middleware = Middleware(self.run, self.recorder, self.channel)

    def deliver(self, content: bytes) -> None:
        self.path.write_bytes(content)
        self.channel.start()

    async def run(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def answer(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def ask(self, headers: Headers | None = None, **more: Any) -> list[Message]:
        """Send a request; returns the messages of its response."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"{}"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers or []} | more
        await self.middleware(scope, receive, send)
        return sent

    def counts(self) -> dict[tuple[str, str], float]:
        """Arrivals by revision and epoch, without zeros."""
        return {
            (sample.labels["revision"], sample.labels["epoch"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_requests_started_total" and sample.value
        }

    def failures(self) -> float | None:
        return self.registry.get_sample_value("serin_middleware_failures_total")


def stamped(epoch: int = 7, token: str = TOKEN) -> Headers:
    return [(EPOCH, f"{epoch}.{token}".encode())]


@pytest.mark.parametrize("epoch", range(32))
def test_route_stamps_the_epoch_document_the_revision(epoch: int) -> None:
    assert select(stamped(epoch), parse(raw())).identity == Identity(STABLE, str(epoch))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(EPOCH, b"7")],
        [(EPOCH, b"")],
        [(EPOCH, b".")],
        [(EPOCH, b"7.")],
        [(EPOCH, TOKEN.encode())],
        [(EPOCH, b"." + TOKEN.encode())],
        [(EPOCH, b"7." + TOKEN.encode()[:-1])],
        [(EPOCH, b"7." + TOKEN.encode() + b"0")],
        [(EPOCH, b"7." + TOKEN.upper().encode())],
        [(EPOCH, b" 7." + TOKEN.encode())],
        [(EPOCH, b"7." + TOKEN.encode() + b" ")],
        [(EPOCH, b"07." + TOKEN.encode())],
        [(EPOCH, b"+7." + TOKEN.encode())],
        [(EPOCH, b"-1." + TOKEN.encode())],
        [(EPOCH, b"32." + TOKEN.encode())],
        [(EPOCH, b"none." + TOKEN.encode())],
        [(EPOCH, "\uff17.".encode() + TOKEN.encode())],
        [(EPOCH, b"7." + TOKEN.encode() + b", 7." + TOKEN.encode())],
        [(EPOCH, b"\xff" * 5000)],
        [*stamped(7), *stamped(7)],
        [*stamped(7), (EPOCH, b"")],
        [*stamped(7, "f" * 16)],
        [(b"x-serin-revision", CANARY.encode()), (EPOCH, b"7")],
    ],
    ids=str,
)
async def test_request_that_no_split_handled_has_epoch_none(tmp_path: Path, headers: Headers) -> None:
    pod = Pod(tmp_path, raw())
    await pod.ask(headers)

    assert pod.counts() == {(STABLE, "none"): 1}
    assert pod.failures() == 0


@given(st.lists(st.tuples(st.sampled_from([EPOCH, b"x-serin-revision", b"a"]), st.binary(max_size=20))))
def test_no_header_without_the_token_is_ever_a_label(headers: Headers) -> None:
    assert select(headers, parse(raw())).identity == Identity(STABLE, "none")
    assert select(headers, parse(shared(0))).identity == Identity(STABLE, "7")
    assert select(headers, None).identity == NONE


def test_revision_header_of_a_client_is_ignored() -> None:
    headers = [*stamped(7), (b"x-serin-revision", CANARY.encode()), (b"x-serin-revision", b"another")]
    assert select(headers, parse(raw())).identity == Identity(STABLE, "7")


def test_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(selection, "compare_digest", compare)
    select(stamped(7, "f" * 16), parse(raw()))

    assert compared == [(b"f" * 16, TOKEN.encode())]


@pytest.mark.parametrize(
    ("canary", "draws", "expected"), [(0, 2000, 0), (1, 20_000, 2), (500, 20_000, 1_000), (10_000, 2000, 2000)]
)
def test_pod_splits_by_weight(canary: int, draws: int, expected: int) -> None:
    document = parse(shared(canary))
    chosen = [select([], document).identity for _ in range(draws)]

    assert set(chosen) <= {Identity(STABLE, "7"), Identity(CANARY, "7")}
    # Six standard deviations: fails once in 500 million runs.
    slack = 6 * math.sqrt(expected * (1 - canary / 10_000)) + (1 if canary == 1 else 0)
    assert abs(chosen.count(Identity(CANARY, "7")) - expected) <= slack


def test_pod_that_splits_needs_no_header_and_heeds_none() -> None:
    document = parse(raw(epoch=0))
    for headers in ([], stamped(9), [(EPOCH, b"rubbish")], [*stamped(9), *stamped(9)]):
        assert select(headers, document).identity == Identity(STABLE, "0")


def test_bucket_is_a_keyed_hash() -> None:
    key = b"8 bytes."
    hashed = hashlib.blake2b(key, digest_size=8, key=CANARY.encode()).digest()
    bucket = int.from_bytes(hashed, "big") % 10_000

    assert is_canary(parse(shared(bucket + 1)), key)
    assert not is_canary(parse(shared(bucket)), key)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 10_000), st.integers(0, 10_000))
def test_higher_weight_moves_no_key_back(key: bytes, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert is_canary(parse(shared(high)), key) or not is_canary(parse(shared(low)), key)


@pytest.mark.parametrize("reveal", [True, False])
async def test_response_names_its_revision_only_if_the_document_says_so(tmp_path: Path, *, reveal: bool) -> None:
    pod = Pod(tmp_path, raw(reveal=reveal))

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Serin-Revision", b"other")]})
        await send({"type": "http.response.body", "body": b"ok"})

    assert dict((await pod.ask(stamped()))[0]["headers"]).get(b"x-serin-revision") == (
        STABLE.encode() if reveal else None
    )
    pod.app = app
    names = [name.lower() for name, _ in (await pod.ask(stamped()))[0]["headers"]]
    assert names == [b"x-serin-revision"]
    # Not measured, so no revision answers it.
    assert b"x-serin-revision" not in dict((await pod.ask(method="GET", path="/v1/models"))[0]["headers"])


async def test_request_uses_one_document_to_its_end(tmp_path: Path) -> None:
    pod = Pod(tmp_path, shared(10_000, epoch=3, reveal=True, measure=MEASURE))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # The pod switches three times while the request runs: other epoch, revision, measure, and no reveal.
        for changed in (raw(), shared(0, epoch=5, reveal=False), raw(reveal=True, measure=None)):
            pod.deliver(changed)
            await receive()
        await pod.answer(scope, receive, send)

    pod.app = app
    sent = await pod.ask(stamped(9))
    assert dict(sent[0]["headers"])[b"x-serin-revision"] == CANARY.encode()
    assert pod.counts() == {(CANARY, "3"): 1}
    outcome = {"revision": CANARY, "epoch": "3", "outcome": "ok"}
    assert pod.registry.get_sample_value("serin_requests_total", outcome) == 1


async def test_document_in_force_is_read_once_per_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = Pod(tmp_path, raw(reveal=True))
    reads = 0
    document = pod.channel.document

    class Counting:
        def ensure_polling(self) -> None:
            """Nothing to poll."""

        @property
        def document(self) -> Any:
            nonlocal reads
            reads += 1
            return document

    monkeypatch.setattr(pod.middleware, "_channel", Counting())
    await pod.ask(stamped())
    assert reads == 1


def test_recorder_gets_what_the_document_at_arrival_measures(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw(measure=MEASURE))
    first = pod.recorder.begin(CHAT, select(stamped(), pod.channel.document))
    pod.deliver(raw())
    second = pod.recorder.begin(CHAT, select(stamped(), pod.channel.document))

    assert first is not None
    assert second is not None
    assert first.measure == Measure({"ttft": (0.21, 0.35, 0.8)}, load_from=1.0, load_ratio=1.3)
    assert second.measure is None


@pytest.mark.parametrize(
    ("query", "asks"),
    [(b"split", True), (b"split=1", True), (b"x=y&split", True), (b"", False), (b"x=split", False), (b"splits", False)],
)
async def test_only_readiness_needs_a_document(tmp_path: Path, query: bytes, *, asks: bool) -> None:
    pod = Pod(tmp_path, None)
    probe: dict[str, Any] = {"method": "GET", "path": "/health", "query_string": query}
    before = await pod.ask(**probe)
    pod.deliver(raw())
    after = await pod.ask(**probe)

    assert before[0]["status"] == (503 if asks else 200)
    assert after[0]["status"] == 200
    if asks:
        assert b"split document" in before[1]["body"]
        assert int(dict(before[0]["headers"])[b"content-length"]) == len(before[1]["body"])


async def test_readiness_includes_vllms_own(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw())

    async def ill(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    pod.app = ill
    assert (await pod.ask(method="GET", path="/health", query_string=b"split"))[0]["status"] == 503


async def test_pod_without_a_document_serves_and_counts_under_none(tmp_path: Path) -> None:
    pod = Pod(tmp_path, None)
    sent = await pod.ask([*stamped(), (b"x-serin-revision", STABLE.encode())])

    assert sent[0]["status"] == 200
    assert pod.counts() == {("none", "none"): 1}


async def test_websockets_and_other_methods_are_untouched(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw(reveal=True))
    seen: list[Any] = []

    async def app(*everything: Any) -> None:
        seen.extend(everything)

    pod.app = app
    for scope in ({"type": "websocket", "path": CHAT}, {"type": "http", "method": "GET", "path": CHAT, "headers": []}):
        seen.clear()
        await pod.middleware(scope, print, print)  # type: ignore[arg-type] # never called
        assert seen == [scope, print, print]
    assert pod.counts() == {}


async def test_quiet_pod_switches(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw())

    async def app(*_: Any) -> None:
        """Start without a request."""

    pod.app = app
    await pod.middleware({"type": "lifespan"}, print, print)  # type: ignore[arg-type] # never called
    pod.path.write_bytes(raw(sequence=72))
    async with asyncio.timeout(10):
        while pod.channel.document is None or pod.channel.document.sequence != 72:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_failure_of_the_selection_does_not_fail_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    pod = Pod(tmp_path, raw())
    monkeypatch.setattr(middlewares, "select", fail)

    assert (await pod.ask(stamped()))[1]["body"] == b"ok"
    assert pod.failures() == 1


async def test_two_revisions_in_all_epochs_stay_within_the_pairs(tmp_path: Path) -> None:
    pod = Pod(tmp_path, None)
    for epoch in range(32):
        for canary in (0, 10_000):
            pod.deliver(shared(canary, epoch=epoch))
            await pod.ask()
    pod.deliver(raw())
    await pod.ask()

    assert len(pod.recorder.metrics) == 64
    counted = pod.counts()
    assert counted[STABLE, "none"] == 1
    # 63 places for the split's pairs; the one that was idle longest is gone.
    assert (STABLE, "0") not in counted
    assert len(counted) == 64


async def test_hundred_revisions_in_one_pod_stay_within_the_pairs(tmp_path: Path) -> None:
    pod = Pod(tmp_path, None)
    for number in range(100):
        pod.deliver(raw(revisions=[{"revision": f"{number:010x}", "weight": 10_000}]))
        await pod.ask(stamped())
        await pod.ask()

    assert len(pod.recorder.metrics) == 64
    assert pod.counts()[f"{99:010x}", "7"] == 1
    assert pod.counts()[f"{99:010x}", "none"] == 1
    assert pod.failures() == 0
