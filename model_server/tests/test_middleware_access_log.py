"""The line of a request in the engine's log: what it says, and what it never has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_server.serin_model_server.timings import Times
from model_server.tests.prompting.prompts import content
from model_server.tests.prompting.test_stage import ASKED, Pod
from model_server.tests.split_documents import STABLE, raw

TEXT = "do not log me"


def document(**changes: Any) -> bytes:
    prompts = {"triage": content(messages=[{"role": "system", "content": TEXT}])}
    revisions = [{"revision": STABLE, "weight": 10_000, "prompts": prompts}]
    return raw(**{"epoch": 7, "revisions": revisions, "accessLog": True} | changes)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out = capsys.readouterr().out
    assert TEXT not in out
    return [json.loads(line) for line in out.splitlines()]


async def test_line_names_revision_prompt_and_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod = Pod(tmp_path, document())
    await pod.ask(headers=[(b"x-request-id", b"of-the-client")])
    await pod.ask(b"{")

    first, second = lines(capsys)
    assert first.pop("seconds") >= 0
    assert first == {
        "serin": "request",
        "request_id": "of-the-client",
        "answer_id": None,
        "path": "/v1/chat/completions",
        "revision": STABLE,
        "epoch": "7",
        "prompt": "triage@1.4.0",
        "prompt_hash": "0123456789ab",
        "status": 200,
        "outcome": "ok",
        "prompt_tokens": None,
        "output_tokens": None,
    }
    assert (second["status"], second["outcome"], second["request_id"]) == (400, "excluded", None)


async def test_line_has_the_id_and_the_tokens_of_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod = Pod(tmp_path, document())
    pod.recorder.engine_reports = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope["headers"])[b"x-request-id"].decode()
        times = Times(ttft=0.1, e2e=0.2, queue=0, per_token=None, prompt_tokens=30, output_tokens=5)
        pod.recorder.report([(f"chatcmpl-{name}", times)])
        await pod.answer(scope, receive, send)

    pod.app = app
    await pod.ask()
    (found,) = lines(capsys)
    assert found["request_id"] == dict(pod.scopes[0]["headers"])[b"x-request-id"].decode()
    assert (found["prompt_tokens"], found["output_tokens"]) == (30, 5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"resp_0a-B","output":[{"id":"msg_1"}]}', "resp_0a-B"),
        (b'event: response.created\ndata: {"response": {"id": "resp_1"}}', "resp_1"),
        (b'{"id":"resp_\\u0041"}', None),
        (b"", None),
    ],
    ids=str,
)
async def test_line_has_the_id_of_an_answer_of_the_responses_api(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes, expected: str | None
) -> None:
    pod = Pod(tmp_path, document())

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b'{"id":"resp_later"}'})

    pod.app = app
    await pod.ask({"input": "a"}, "/v1/responses")
    (found,) = lines(capsys)
    assert found["answer_id"] == (expected if body else "resp_later")


def test_tokens_of_several_sequences() -> None:
    times = Times(ttft=1, e2e=1, queue=0, per_token=None, prompt_tokens=30, output_tokens=5)
    times.merge(Times(ttft=1, e2e=1, queue=0, per_token=None, prompt_tokens=31, output_tokens=7))
    assert (times.prompt_tokens, times.output_tokens) == (31, 12)


@pytest.mark.parametrize("access_log", [False, ...], ids=str)
async def test_no_line_unless_the_document_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], access_log: Any
) -> None:
    await Pod(tmp_path, document(accessLog=access_log)).ask()
    assert lines(capsys) == []


@pytest.mark.parametrize("sent", [b'a"\n{"serin":"request"}', b"\xff\x00", b"x" * 10_000], ids=ascii)
async def test_id_of_a_client_stays_inside_of_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: bytes
) -> None:
    await Pod(tmp_path, document()).ask(headers=[(b"x-request-id", sent)])

    (found,) = lines(capsys)
    assert len(found["request_id"]) <= 128


async def test_failure_of_logging_does_not_fail_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_server.serin_model_server import access_log

    def fail(_: str) -> None:
        raise OSError("the log is full")

    pod = Pod(tmp_path, document())
    monkeypatch.setattr(access_log, "to_stdout", fail)
    assert (await pod.ask(ASKED))[0]["status"] == 200
    assert pod.registry.get_sample_value("serin_middleware_failures_total") == 1
