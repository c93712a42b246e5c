"""The middleware alone: the same ASGI messages to an application that does nothing, with and without it.

Called by the benchmark. Only the middleware differs, so that microseconds can be measured; the two take turns. Measures
processor time, because nothing waits here and other programs may run.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from bench.model_server.cases import Body, Case
from bench.model_server.load import CHAT, EPOCH
from model_server.serin_model_server.asgi import Application, Message, Receive, Scope, Send
from model_server.serin_model_server.channel import Channel
from model_server.serin_model_server.identity import Identity
from model_server.serin_model_server.metrics import MAX_PAIRS, Metrics
from model_server.serin_model_server.middleware import Middleware
from model_server.serin_model_server.prompting.stage import Prompting
from model_server.serin_model_server.recorder import Recorder
from model_server.serin_model_server.timings import Times

EVENTS = 22
"""The events of an answer of 20 tokens from vLLM: one each, the finish reason and the end."""
CHUNK = 65_536
"""Bytes of a body that uvicorn hands over at once, at most."""
ROUNDS, REQUESTS = 41, 300
_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1795689814,'
    b'"model":"triage","choices":[{"index":0,"delta":{"content":" a"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_HEADERS = [
    *((f"x-header-{number}".encode(), b"a value of some length") for number in range(10)),
    (b"x-request-id", b"0b3f4f6e-9f0e-4d0e-8c44-3a8f1d2c5b6a"),
    (b"x-serin-epoch", EPOCH.encode()),
]
_ENGINE_ID = "chatcmpl-0b3f4f6e-9f0e-4d0e-8c44-3a8f1d2c5b6a"


@dataclass(frozen=True)
class Cost:
    """Microseconds that the middleware adds to a request that is answered by 22 events."""

    body: Body
    median: float
    highest: float


def costs(case: Case) -> list[Cost]:
    """Measure every body."""
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder, "split.json")
        document.write_bytes(case.split)
        channel = Channel(document, Path(folder, "copy"), CollectorRegistry())
        channel.start()
        return [asyncio.run(_cost(body, channel, prompted=case.prompt is not None)) for body in case.bodies]


def page_milliseconds() -> float:
    """Return the milliseconds that the series add to a page of /metrics when all 64 pairs are in use."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(MAX_PAIRS):
        metrics.pair(Identity(f"{number % 2:010x}", str(number // 2))).observe(
            Times(ttft=0.1, e2e=1, queue=0, per_token=0.1)
        )
    taken = []
    for _ in range(21):
        began = time.perf_counter()
        generate_latest(registry)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


async def _cost(body: Body, channel: Channel, *, prompted: bool) -> Cost:
    registry = CollectorRegistry()
    recorder = Recorder(Metrics(registry))
    recorder.engine_reports = True
    times = Times(ttft=0.01, e2e=0.1, queue=0.0, per_token=0.01)

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        # As vLLM's engine does, before the last event leaves; both sides pay for the call.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(EVENTS):
            await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
        recorder.report([(_ENGINE_ID, times)])
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    measured = Middleware(app, recorder, channel, Prompting() if prompted else None)
    content, added = body.made(0), []
    for _ in range(ROUNDS):
        bare = await _seconds(app, content)
        added.append((await _seconds(measured, content) - bare) / REQUESTS * 1e6)
    if registry.get_sample_value("serin_middleware_failures_total"):
        logging.getLogger(__name__).error("the middleware failed to measure; the results are invalid")
    return Cost(body, statistics.median(added), max(added))


async def _seconds(app: Application, content: bytes) -> float:
    chunks: list[Message] = [
        {"type": "http.request", "body": content[at : at + CHUNK], "more_body": at + CHUNK < len(content)}
        for at in range(0, len(content), CHUNK)
    ]

    async def send(_message: Message) -> None:
        return

    began = time.process_time()
    for _ in range(REQUESTS):
        messages = iter(chunks)

        async def receive(messages: Iterator[Message] = messages) -> Message:
            return next(messages)

        headers = list(_HEADERS)  # one that is prompted loses its length
        await app({"type": "http", "method": "POST", "path": CHAT, "headers": headers}, receive, send)
    return time.process_time() - began
