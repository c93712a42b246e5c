"""Traffic at a high rate, tested with a small server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from examples.light.traffic import Traffic, has_wrong_keys

HANGS = "hang"


@pytest.fixture
def place() -> Iterator[Any]:
    """A gateway that answers with the number of tokens, hangs if asked to, and reveals a revision with every second."""
    ready, answered = threading.Event(), 0
    found = SimpleNamespace(gateway_url="")

    async def answer(request: web.Request) -> web.Response:
        nonlocal answered
        asked = await request.json()
        if asked["messages"][0]["content"] == HANGS:
            await found.stop.wait()
        answered += 1
        headers = {"x-serin-revision": "abc"} if answered % 2 else {}
        return web.Response(text=json.dumps(asked.get("max_tokens")), headers=headers)

    async def serve() -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.gateway_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        found.loop, found.stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await found.stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    yield found
    found.loop.call_soon_threadsafe(found.stop.set)
    thread.join()


def test_answers_are_counted_by_revealed_revision(place: Any) -> None:
    with Traffic(place, cast("Any", SimpleNamespace(namespace="test")), rate=500, limit=20, tokens=5) as traffic:
        traffic.wait_for(20, 10)
    assert traffic.answered == {"abc": 10, "": 10}
    assert traffic.failures == []


def test_clients_give_up_after_timeout(place: Any) -> None:
    cluster = cast("Any", SimpleNamespace(namespace="test"))
    with Traffic(place, cluster, rate=500, limit=5, timeout=0.3, asks=HANGS) as traffic:
        traffic.wait_for(5, 10)
    assert [(failure.status, failure.gave_up) for failure in traffic.failures] == [(None, True)] * 5
    assert all(0.3 <= failure.after < 5 for failure in traffic.failures)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ('{"queue": "network", "priority": "high"}', False),
        ('{"team": "network", "urgency": "high"}', True),
        ("the network queue", True),
        ("[]", True),
        (None, True),
    ],
)
def test_answer_with_wrong_keys_is_recognised(content: str | None, wrong: bool) -> None:  # noqa: FBT001 - a row's value
    assert has_wrong_keys(json.dumps({"choices": [{"message": {"content": content}}]})) is wrong


def test_body_that_is_no_chat_completion_has_wrong_keys() -> None:
    assert all(map(has_wrong_keys, ("", "5", "{}", '{"choices": []}')))
