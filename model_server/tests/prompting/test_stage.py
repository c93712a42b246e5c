"""The stage inside of the middleware: no request of a revision with a prompt reaches the application without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from model_server.serin_model_server import middleware as middlewares
from model_server.serin_model_server.asgi import Message
from model_server.serin_model_server.channel import Channel
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.middleware import INFERENCE_PATHS, Middleware
from model_server.serin_model_server.prompting import paths, stage
from model_server.serin_model_server.prompting.stage import Prompting, of_environment
from model_server.serin_model_server.recorder import Recorder
from model_server.tests.prompting.prompts import SYSTEM, content, user
from model_server.tests.split_documents import CANARY, STABLE, raw

ASKED = {"messages": [user("a")]}
PROMPTED = [SYSTEM, user("a")]
PROMPTS = {"triage": content()}
OTHER = {"triage": content(version="2.0.0", messages=[{"role": "system", "content": "Be long."}])}
REFUSED_PATHS = (
    "/v1/completions",
    "/v1/chat/completions/batch",
    "/v1/chat/completions/render",
    "/v1/completions/render",
    "/v1/responses/render",
    "/v1/messages/render",
    "/v1/chat/completions/",
    "/v1/chat/completions/derender",
    "/invocations",
    "/v1/systemone",
    "/generative_scoring",
    "/cohere/v2/chat",
    "/inference/v1/generate",
    "/abort_requests",
    "/v1/a_path_of_a_later_vllm",
    "/v1/responses/a/b/cancel",
)


def splitting(canary: int = 0, stable: Any = PROMPTS, other: Any = OTHER, **more: Any) -> bytes:
    """A document in which the pod splits between two revisions with prompts."""
    revisions = [
        {"revision": STABLE, "weight": 10_000 - canary, "prompts": stable},
        {"revision": CANARY, "weight": canary, "prompts": other},
    ]
    return raw(epoch=7, revisions=revisions, **more)


class Pod:
    """A middleware that applies prompts, around an application that records what it gets."""

    def __init__(self, folder: Path, document: bytes | None, *, enabled: bool = True, limit: int = 1 << 20) -> None:
        self.registry = CollectorRegistry()
        path = folder / "split.json"
        if document is not None:
            path.write_bytes(document)
        channel = Channel(path, folder / "copy", self.registry)
        channel.start()
        self.recorder = Recorder(Metrics(self.registry))
        prompting = Prompting(limit) if enabled else None
        self.middleware = Middleware(self.run, self.recorder, channel, prompting)
        self.bodies: list[bytes] = []
        self.scopes: list[Any] = []
        self.app: Any = self.answer

    async def run(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.app(scope, receive, send)

    async def answer(self, _scope: Any, receive: Any, send: Any) -> None:
        """Answer as FastAPI does: an exception while the body is read becomes a 400."""
        try:
            body = b""
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            self.bodies.append(body)
            status = 200
        except Exception:  # noqa: BLE001 - as FastAPI
            status = 400
        headers = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"of":"the application"}'})

    async def ask(
        self,
        body: Any = ASKED,
        path: str = paths.CHAT,
        headers: Sequence[tuple[bytes, bytes]] = (),
        chunks: Sequence[bytes] | None = None,
        ending: Message | None = None,
        **more: Any,
    ) -> list[Message]:
        """Send a request; returns the messages of its response."""
        sent: list[Message] = []
        whole = body if isinstance(body, bytes) else json.dumps(body).encode()
        parts = [whole] if chunks is None else list(chunks)
        incoming = iter(
            [{"type": "http.request", "body": part, "more_body": n < len(parts)} for n, part in enumerate(parts, 1)]
        )

        async def receive() -> Message:
            return next(incoming, ending or {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            sent.append(message)

        length = (b"content-length", str(len(whole)).encode())
        scope = {"type": "http", "method": "POST", "path": path, "headers": [*headers, length]} | more
        await self.middleware(scope, receive, send)
        return sent

    def outcomes(self) -> dict[tuple[str, str], float]:
        """Finished requests by revision and outcome, without zeros."""
        return {
            (sample.labels["revision"], sample.labels["outcome"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_requests_total" and sample.value
        }

    def messages(self) -> list[Any]:
        """What the application got as messages, by request."""
        return [json.loads(body)["messages"] for body in self.bodies]


def error(sent: list[Message]) -> tuple[int, Any]:
    """Status and code of a refusal, which is a whole response."""
    start, body = sent
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert [name for name, _ in start["headers"]].count(b"content-type") == 1
    return start["status"], json.loads(body["body"])["error"].get("code")


async def test_application_gets_the_prompt(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    sent = await pod.ask(headers=[(b"host", b"x")])

    assert sent[1]["body"] == b'{"of":"the application"}'
    assert pod.messages() == [PROMPTED]
    assert pod.outcomes() == {(STABLE, "ok"): 1}
    # The length is another one now.
    assert [name for name, _ in pod.scopes[0]["headers"]] == [b"host"]


async def test_each_revision_gets_its_own_prompt(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting(5_000, key={"header": "x-session-id"}, reveal=True))
    for number in range(40):
        sent = await pod.ask(headers=[(b"x-session-id", str(number).encode())])
        revealed = dict(sent[0]["headers"])
        text = pod.messages()[-1][0]["content"]
        expected = {STABLE: ("Be brief.", b"triage@1.4.0"), CANARY: ("Be long.", b"triage@2.0.0")}
        assert (text, revealed[b"x-serin-prompt"]) == expected[revealed[b"x-serin-revision"].decode()]
    assert set(pod.outcomes()) == {(STABLE, "ok"), (CANARY, "ok")}


async def test_prompt_applies_where_the_gateway_splits(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw(revisions=[{"revision": STABLE, "weight": 10_000, "prompts": PROMPTS}]))
    await pod.ask()

    assert pod.messages() == [PROMPTED]


async def test_header_names_the_prompt_only_if_the_document_says_so(tmp_path: Path) -> None:
    assert b"x-serin-prompt" not in dict((await Pod(tmp_path, splitting()).ask())[0]["headers"])


async def test_revision_without_prompt_is_served_as_the_client_asks(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting(stable=None))
    for path in (paths.CHAT, "/v1/completions", "/v1/chat/completions/batch"):
        await pod.ask(b"not JSON", path)

    assert pod.bodies == [b"not JSON"] * 3


async def test_prompts_are_ignored_where_they_are_not_turned_on(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting(), enabled=False)
    await pod.ask(b"not JSON")

    assert pod.bodies == [b"not JSON"]


@pytest.mark.parametrize(("value", "enabled"), [("1", True), ("", False), ("0", False), ("true", False), (None, False)])
def test_variable_turns_prompts_on(value: str | None, *, enabled: bool) -> None:
    found = of_environment({} if value is None else {stage.PROMPTS_VARIABLE: value})
    assert (found is not None) is enabled


@pytest.mark.parametrize(("value", "limit"), [("1000", 1_000), ("", 32 << 20), ("0", 32 << 20), ("1 GB", 32 << 20)])
def test_limit_of_a_body_is_a_setting(value: str, limit: int) -> None:
    found = of_environment({stage.PROMPTS_VARIABLE: "1", stage.LIMIT_VARIABLE: value})
    assert found is not None
    assert found.limit == limit


async def test_body_is_not_read_without_a_prompt(tmp_path: Path) -> None:
    pod = Pod(tmp_path, raw())
    seen: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append(await receive())

    pod.app = app
    await pod.ask(chunks=[b"a", b"b"])
    assert seen == [{"type": "http.request", "body": b"a", "more_body": True}]


@pytest.mark.parametrize("path", REFUSED_PATHS)
async def test_path_that_would_answer_unprompted_is_refused(tmp_path: Path, path: str) -> None:
    pod = Pod(tmp_path, splitting())
    assert error(await pod.ask({"prompt": "a"}, path))[0] == 404

    assert pod.scopes == []
    assert pod.outcomes() == ({(STABLE, "excluded"): 1} if path in INFERENCE_PATHS else {})


@pytest.mark.parametrize("path", [*sorted(paths.PASSED), "/v1/responses/resp_1/cancel"])
async def test_path_that_needs_no_prompt_passes(tmp_path: Path, path: str) -> None:
    pod = Pod(tmp_path, splitting())
    await pod.ask(b"anything", path)

    assert pod.bodies == [b"anything"]


def test_no_inference_path_is_forgotten() -> None:
    assert paths.PROMPTED | paths.PASSED | {"/v1/completions"} >= INFERENCE_PATHS


async def test_root_path_is_not_part_of_the_path(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    await pod.ask(path=f"/team{paths.CHAT}", root_path="/team")
    assert error(await pod.ask(path="/team/v1/completions", root_path="/team"))[0] == 404

    assert pod.messages() == [PROMPTED]


async def test_request_without_a_key_gets_the_401_of_vllm_unread(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"who?"})

    pod.app = app
    sent = await pod.ask(b"not JSON")
    assert (sent[0]["status"], sent[1]["body"]) == (401, b"who?")
    assert pod.outcomes() == {(STABLE, "excluded"): 1}


async def test_answer_without_reading_the_body_is_not_passed(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"unprompted"})

    pod.app = app
    assert error(await pod.ask()) == (500, "prompt_failed")
    assert pod.outcomes() == {(STABLE, "server_error"): 1}


REFUSALS: dict[str, tuple[Any, int, str, str]] = {
    "not JSON": (b"{", 400, "invalid_json", "excluded"),
    "bypass": ({"kv_transfer_params": {"a": 1}}, 400, "field_not_accepted", "excluded"),
    "size": (b" " * (1 << 20) + b"{}", 413, "body_too_large", "excluded"),
    "variable": ({"messages": []}, 400, "missing_prompt_variable", "rejected"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusal_replaces_the_answer_of_vllm(tmp_path: Path, name: str) -> None:
    body, status, code, outcome = REFUSALS[name]
    needs = {"triage": content(variables=[{"name": "a", "required": True}])}
    pod = Pod(tmp_path, splitting(stable=needs if name == "variable" else PROMPTS, reveal=True))
    sent = await pod.ask(body)

    assert error(sent) == (status, code)
    # What a browser needs to read the answer stays.
    assert dict(sent[0]["headers"])[b"access-control-allow-origin"] == b"*"
    assert dict(sent[0]["headers"])[b"x-serin-prompt"] == b"triage@1.4.0"
    assert pod.bodies == []
    assert pod.outcomes() == {(STABLE, outcome): 1}


@pytest.mark.parametrize("behaviour", ["raises", "silent", "ignores"])
async def test_refusal_is_answered_whatever_vllm_makes_of_it(tmp_path: Path, behaviour: str) -> None:
    pod = Pod(tmp_path, splitting())

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        if behaviour == "raises":
            await receive()
        try:
            await receive()
        except Exception:  # noqa: BLE001 - an application that swallows it
            if behaviour == "ignores":
                with pytest.raises(Exception, match="JSON"):
                    await receive()
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"unprompted"})

    pod.app = app
    assert error(await pod.ask(b"{")) == (400, "invalid_json")


async def test_exception_in_the_stage_is_a_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise RuntimeError("broken on purpose")

    pod = Pod(tmp_path, splitting())
    monkeypatch.setattr(stage, "apply", fail)

    assert error(await pod.ask()) == (500, "prompt_failed")
    assert pod.bodies == []
    assert pod.outcomes() == {(STABLE, "server_error"): 1}


async def test_failed_selection_is_a_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    pod = Pod(tmp_path, splitting())
    monkeypatch.setattr(middlewares, "select", fail)

    assert error(await pod.ask()) == (500, "prompt_failed")
    assert pod.scopes == []


async def test_prompt_applies_where_measuring_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = Pod(tmp_path, splitting())
    monkeypatch.setattr(pod.recorder, "begin", lambda *_: None)
    await pod.ask()

    assert pod.messages() == [PROMPTED]
    assert error(await pod.ask(b"{")) == (400, "invalid_json")


@pytest.mark.parametrize("path", [paths.CHAT, "/v1/completions", "/invocations"])
async def test_pod_without_a_document_knows_no_prompt(tmp_path: Path, path: str) -> None:
    pod = Pod(tmp_path, None)
    assert error(await pod.ask(path=path)) == (503, "no_split_document")

    assert pod.scopes == []


async def test_body_in_chunks_is_one(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    whole = json.dumps(ASKED).encode()
    await pod.ask(chunks=[whole[n : n + 3] for n in range(0, len(whole), 3)])

    assert pod.messages() == [PROMPTED]


async def test_client_that_leaves_in_its_body_is_gone_for_vllm(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    seen: list[Message] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append(await receive())

    pod.app = app

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        """The client is gone."""

    scope = {"type": "http", "method": "POST", "path": paths.CHAT, "headers": []}
    await pod.middleware(scope, receive, send)
    assert seen == [{"type": "http.disconnect"}]
    assert pod.outcomes() == {(STABLE, "left"): 1}


async def test_vllm_sees_the_disconnect_after_the_body(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    seen: list[Message] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.extend([await receive(), await receive()])

    pod.app = app
    await pod.ask()
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]
    assert pod.outcomes() == {(STABLE, "left"): 1}


async def test_cancelled_request_stays_cancelled(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise asyncio.CancelledError

    pod.app = app
    with pytest.raises(asyncio.CancelledError):
        await pod.ask()


async def test_exception_of_vllm_is_its_own(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        raise RuntimeError("of vLLM")

    pod.app = app
    with pytest.raises(RuntimeError, match="of vLLM"):
        await pod.ask()
    assert pod.outcomes() == {(STABLE, "server_error"): 1}


async def test_conversation_chooses_before_the_body_reaches_vllm(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting(5_000, key={"conversation": {}}))
    for number in range(20):
        whole = json.dumps({"messages": [user(str(number))]}).encode()
        before = len(pod.bodies)
        for _ in range(3):
            await pod.ask(chunks=[whole[:10], whole[10:]])
        assert len({json.dumps(each) for each in pod.messages()[before:]}) == 1
    assert set(pod.outcomes()) == {(STABLE, "ok"), (CANARY, "ok")}


@pytest.mark.parametrize("body", [b"", b"{", b"x" * (2 << 20)], ids=lambda body: str(len(body)))
async def test_body_without_a_conversation_is_refused_as_any_other(tmp_path: Path, body: bytes) -> None:
    pod = Pod(tmp_path, splitting(5_000, key={"conversation": {}}))
    status, _ = error(await pod.ask(chunks=[body[:1], body[1:]]))
    assert status == (413 if len(body) > 1 << 20 else 400)


async def test_tokens_are_counted_with_the_prompt_of_the_stable(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting(9_999))
    for _ in range(10):
        await pod.ask(path=paths.COUNT_TOKENS)

    assert {json.loads(body)["system"][0]["text"] for body in pod.bodies} == {"Be brief."}


async def test_websockets_and_other_methods_are_untouched(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    for scope in (
        {"type": "websocket", "path": "/v1/realtime"},
        {"type": "http", "method": "GET", "path": "/v1/models"},
    ):
        pod.scopes.clear()

        async def app(*_: Any) -> None:
            """Do nothing."""

        pod.app = app
        await pod.middleware(scope, print, print)  # type: ignore[arg-type] # never called
        assert pod.scopes == [scope]


async def test_headers_of_serin_from_a_client_choose_nothing(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    sent = [(b"x-serin-revision", CANARY.encode()), (b"x-serin-epoch", b"9"), (b"x-serin-prompt", b"triage@2.0.0")]
    await pod.ask(headers=[*sent, *sent, (b"x-serin-pin", CANARY.encode())])

    assert pod.messages() == [PROMPTED]
    assert pod.outcomes() == {(STABLE, "ok"): 1}


async def test_errors_have_the_shape_of_the_api(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    openai = json.loads((await pod.ask(b"{"))[1]["body"])
    anthropic = json.loads((await pod.ask(b"{", paths.MESSAGES))[1]["body"])

    assert openai["error"].keys() == {"message", "type", "param", "code"}
    assert anthropic.keys() == {"type", "error"}
    assert anthropic["error"].keys() == {"type", "message"}
