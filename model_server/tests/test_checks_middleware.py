"""Checks in the middleware: which answers are counted, under what, and that no request waits for them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_server.serin_model_server.checks.checker import Checker
from model_server.serin_model_server.checks.texts import Held
from model_server.tests.prompting.prompts import content
from model_server.tests.split_documents import CANARY, STABLE, raw, shared
from model_server.tests.test_middleware_split import CHAT, Pod, stamped

JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream")]
EMPTY = {"name": "empty", "kind": "Empty"}
TRUNCATED = {"name": "truncated", "kind": "Truncated"}
SCHEMA = {"name": "schema", "kind": "Schema"}
PATTERN = {"name": "json", "kind": "Regex", "pattern": "^{"}
OBJECT = {"type": "object", "required": ["queue"]}


def completion(*texts: str, finish: str = "stop") -> bytes:
    choices = [{"index": n, "message": {"content": text}, "finish_reason": finish} for n, text in enumerate(texts)]
    return json.dumps({"choices": choices}).encode()


class CheckedPod(Pod):
    """A pod whose application answers with `body`."""

    def __init__(self, folder: Path, content: bytes, **more: Any) -> None:
        super().__init__(folder, content, **more)
        self.body = completion("a")
        self.status = 200
        self.headers = JSON

    async def answer(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for start in range(0, max(1, len(self.body)), 65_536):
            more = start + 65_536 < len(self.body)
            await send({"type": "http.response.body", "body": self.body[start : start + 65_536], "more_body": more})

    def checks(self) -> dict[tuple[str, str, str, str], float]:
        """Counts by revision, epoch, check and result."""
        return {
            tuple(sample.labels[label] for label in ("revision", "epoch", "check", "result")): sample.value  # type: ignore[misc]
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_checks_total"
        }

    def counted(self) -> dict[tuple[str, str, str, str], float]:
        return {place: count for place, count in self.checks().items() if count}

    async def wait_for(self, count: int) -> dict[tuple[str, str, str, str], float]:
        """The counts once there are so many."""
        async with asyncio.timeout(60):
            while sum(self.counted().values()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.counted()

    def end(self) -> None:
        self.recorder.checker._process._end_child()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[CheckedPod]:
    made = CheckedPod(tmp_path, raw(checks=[EMPTY, TRUNCATED]))
    yield made
    made.end()


def prompted(schema: Any, canary_schema: Any = None, canary: int = 0) -> list[dict[str, Any]]:
    found = []
    for revision, weight, own in ((STABLE, 10_000 - canary, schema), (CANARY, canary, canary_schema)):
        prompt = content() if own is None else content(outputSchema=own)
        found.append({"revision": revision, "weight": weight, "prompts": {"triage": prompt}})
    return found


async def test_answer_is_counted_under_its_revision_and_epoch(pod: CheckedPod) -> None:
    await pod.ask(stamped(9))
    pod.body = completion(" ", finish="length")
    await pod.ask()

    assert pod.counted() == {
        (STABLE, "9", "empty", "pass"): 1,
        (STABLE, "9", "truncated", "pass"): 1,
        (STABLE, "none", "empty", "fail"): 1,
        (STABLE, "none", "truncated", "fail"): 1,
    }


async def test_first_request_of_a_pair_creates_all_series_at_zero(pod: CheckedPod) -> None:
    pod.status = 500
    await pod.ask(stamped(9))
    assert pod.checks() == {
        (STABLE, "9", check, result): 0 for check in ("empty", "truncated") for result in ("pass", "fail", "skipped")
    }


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, JSON, b"{}"),
        (400, JSON, b"{}"),
        (404, JSON, b"{}"),
        (200, JSON, b'{"choices":[{"finish_reason":"abort"}]}'),
        (200, SSE, b'data: {"error": {"code": 500}}\n\n'),
    ],
)
async def test_answer_that_is_not_ok_is_not_checked(pod: CheckedPod, status: int, headers: Any, body: bytes) -> None:
    pod.status, pod.headers, pod.body = status, headers, body
    await pod.ask(stamped())
    assert pod.counted() == {}
    assert pod.recorder.checker.held.now == 0


async def test_answer_that_the_client_left_is_not_checked(pod: CheckedPod) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        event = json.dumps({"choices": [{"index": 0, "delta": {"content": "abc"}}]}).encode()
        await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n", "more_body": True})
        raise asyncio.CancelledError

    pod.app = app
    with pytest.raises(asyncio.CancelledError):
        await pod.ask(stamped())
    assert pod.counted() == {}
    assert pod.recorder.checker.held.now == 0


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/transcriptions"])
async def test_paths_without_text_are_not_checked(pod: CheckedPod, path: str) -> None:
    await pod.ask(stamped(), path=path)
    assert pod.counted() == {}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, completion("x" * (10 << 20))),
        (JSON, b'{"choices": ' + b"[" * 100_000),
        (JSON, b"{"),
        ([(b"content-encoding", b"gzip"), *JSON], b"{}"),
    ],
)
async def test_answer_that_cannot_be_read_is_skipped(pod: CheckedPod, headers: Any, body: bytes) -> None:
    pod.headers, pod.body = headers, body
    sent = await pod.ask(stamped())

    assert b"".join(message.get("body", b"") for message in sent) == body
    assert pod.counted() == {(STABLE, "7", "empty", "skipped"): 1, (STABLE, "7", "truncated", "skipped"): 1}
    assert pod.failures() == 0


async def test_ten_mebibytes_in_a_stream_are_skipped_and_not_kept(tmp_path: Path) -> None:
    pod = CheckedPod(tmp_path, raw(checks=[EMPTY, {"name": "x", "kind": "Contains", "texts": ["never"]}]))
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 10_000}}]}).encode()
    pod.headers, pod.body = SSE, (b"data: " + event + b"\n\n") * 1049
    await pod.ask(stamped())

    assert pod.counted() == {(STABLE, "7", "empty", "pass"): 1, (STABLE, "7", "x", "skipped"): 1}
    assert pod.recorder.checker.held.now == 0


async def test_answer_fails_if_one_choice_does(pod: CheckedPod) -> None:
    pod.body = completion("a", "")
    await pod.ask(stamped())
    assert pod.counted()[STABLE, "7", "empty", "fail"] == 1


async def test_schema_of_the_revision_that_answered_is_used(tmp_path: Path) -> None:
    pod = CheckedPod(tmp_path, raw(epoch=3, revisions=prompted(OBJECT, {"type": "string"}), checks=[SCHEMA]))
    pod.body = completion('{"queue": "mail"}')
    await pod.ask()
    assert await pod.wait_for(1) == {(STABLE, "3", "schema", "pass"): 1}
    pod.deliver(raw(epoch=4, revisions=prompted(OBJECT, {"type": "string"}, 10_000), checks=[SCHEMA]))
    await pod.ask()
    found = await pod.wait_for(2)
    assert found[CANARY, "4", "schema", "fail"] == 1
    pod.end()


async def test_catastrophic_pattern_delays_no_request(tmp_path: Path) -> None:
    slow = {"pattern": "^(a+)+$"}
    pod = CheckedPod(tmp_path, raw(epoch=3, revisions=prompted(slow), checks=[SCHEMA, EMPTY]))
    pod.body = completion(json.dumps("a" * 40 + "b"))
    longest = 0.0
    for _ in range(20):
        begun = time.process_time()
        await pod.ask()
        longest = max(longest, time.process_time() - begun)
    found = await pod.wait_for(40)

    # One search takes hours; this process does none of it. By its own processor time, because machines are busy.
    assert longest < 0.5
    assert found == {(STABLE, "3", "schema", "skipped"): 20, (STABLE, "3", "empty", "pass"): 20}
    pod.end()


async def test_sample_checks_a_share_of_the_answers(tmp_path: Path) -> None:
    draws = iter([0.1, 0.3, 0.25, 0.0])
    pod = CheckedPod(tmp_path, raw(checks=[{**EMPTY, "sample": 0.25}, TRUNCATED]))
    pod.recorder.checker = Checker(pod.recorder.metrics.checks, draw=lambda: next(draws))
    for _ in range(4):
        await pod.ask(stamped())
    assert pod.counted() == {(STABLE, "7", "empty", "pass"): 2, (STABLE, "7", "truncated", "pass"): 4}


async def test_text_beyond_the_bound_of_the_process_is_skipped(tmp_path: Path) -> None:
    pod = CheckedPod(tmp_path, raw(checks=[EMPTY, {"name": "x", "kind": "Contains", "texts": ["x"]}]))
    pod.recorder.checker = Checker(pod.recorder.metrics.checks, held=Held(0))
    await pod.ask(stamped())
    assert pod.counted() == {(STABLE, "7", "empty", "skipped"): 1, (STABLE, "7", "x", "skipped"): 1}


async def test_names_come_and_go_with_the_document(pod: CheckedPod) -> None:
    await pod.ask(stamped())
    pod.deliver(raw(checks=[EMPTY, {"name": "truncated", "kind": "MaxChars", "maxChars": 5}]))
    await pod.ask(stamped(8))

    # `truncated` asks something else now, so its counts began anew; `empty` asks the same.
    assert pod.counted() == {
        (STABLE, "7", "empty", "pass"): 1,
        (STABLE, "8", "empty", "pass"): 1,
        (STABLE, "8", "truncated", "pass"): 1,
    }
    pod.deliver(raw())
    await pod.ask(stamped())
    assert pod.checks() == {}
    assert pod.failures() == 0


async def test_answer_of_an_older_document_is_not_counted_under_another_question(pod: CheckedPod) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pod.deliver(raw(checks=[{"name": "truncated", "kind": "Empty"}, EMPTY]))
        inside, pod.app = pod.app, pod.answer
        await pod.ask(stamped())
        pod.app = inside
        await pod.answer(scope, receive, send)

    pod.app = app
    await pod.ask(stamped())
    assert pod.counted() == {(STABLE, "7", "empty", "pass"): 2, (STABLE, "7", "truncated", "pass"): 1}


async def test_series_are_bounded_by_pairs_and_names(tmp_path: Path) -> None:
    entries = [{"name": f"c{n}", "kind": "Empty"} for n in range(16)]
    pod = CheckedPod(tmp_path, raw(), max_pairs=4)
    for epoch in range(12):
        pod.deliver(shared(10_000 * (epoch % 2), epoch=epoch, checks=entries))
        await pod.ask()
    assert len(pod.checks()) == 3 * 16 * 3
    assert len(pod.recorder.metrics.checks) == 3 * 16


async def test_failure_of_a_check_fails_no_request(pod: CheckedPod, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(pod.recorder.checker, "_finish", fail)
    assert (await pod.ask(stamped()))[1]["body"] == pod.body
    assert pod.failures() == 1
    assert pod.recorder.checker.held.now == 0


async def test_no_process_is_started_without_a_check_that_needs_it(pod: CheckedPod) -> None:
    await pod.ask(stamped(), path=CHAT)
    assert pod.recorder.checker._process.starts == 0
    assert pod.recorder.checker._process._thread is None
