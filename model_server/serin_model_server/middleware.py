"""The ASGI shell around vLLM's application: it observes every message of a measured request.

Loaded by `vllm serve --middleware=serin_model_server.Middleware`; only the server's own error page is outside of it.
POST requests to the inference paths are measured. Probes, metrics, websockets and the lifespan are passed through
unread. The shell sets headers: X-Request-Id of the request, if the engine's report could not be joined otherwise, and
x-serin-revision and x-serin-prompt of the response, if the split document says so. It answers one request itself: the
readiness probe `/health?split`, as long as the pod has no split document.

Where prompts are applied (SERIN_PROMPTS=1), a request whose revision has one goes through `prompting.stage`, which lies
between `_Exchange` and the application, so that its time and its refusals are measured, too. It runs also where
measuring failed, and no request passes it unprompted. Without a prompt the body is not read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import access_log
from . import channel as channels
from . import outcome as outcomes
from .channel import Channel
from .document import Document
from .identity import PROMPT_HEADER, REQUEST_ID_HEADER, REVISION_HEADER, Stamp, read_stamp
from .prompting import conversation, stage
from .prompting.paths import COUNT_TOKENS, is_passed
from .prompting.refusal import Refusal, failed
from .prompting.stage import Prompting, Stage
from .recorder import Measured, Recorder, shared
from .selection import select

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

INFERENCE_PATHS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
    }
)
"""The paths of serin.routers.gateway_api.SERVED_PATHS that a model answers. Paths below them are not measured: they
count tokens, cancel a request, or render a prompt."""


HEALTH_PATH = "/health"
SPLIT_QUERY = b"split"
_NO_DOCUMENT = (
    b"This pod has loaded no split document, so it cannot tell which revision it serves. "
    b"Read the reason in the engine's log, and look at the ConfigMap in the volume of SERIN_SPLIT.\n"
)


class Middleware:
    """An ASGI application that measures the requests it passes to `app`."""

    def __init__(
        self,
        app: Application,
        recorder: Recorder | None = None,
        channel: Channel | None = None,
        prompting: Prompting | None = None,
    ) -> None:
        """Without a recorder, use what the process has: its recorder, its channel and its prompts, if there are any."""
        of_process = recorder is None and channel is None
        self._app = app
        self._channel = channels.shared() if of_process else channel
        self._prompting = stage.of_environment(os.environ) if of_process else prompting
        """None in a pod that ignores prompts."""
        self._recorder = recorder or shared()
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop in which the timers run."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        # The first call is the lifespan's: a pod without requests must follow the document, too.
        if asyncio.get_running_loop() is not self._loop:
            self._start_timers()
        if scope["type"] != "http" or scope["method"] != "POST":
            if self._is_unready(scope):
                await _answer_unready(send)
            else:
                await self._app(scope, receive, send)
            return
        path = _path(scope)
        if path in INFERENCE_PATHS or self._prompting is not None:
            await self._handle(path, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _handle(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request that is measured, or that a prompt may concern."""
        # The only place that reads the document in force: everything else about this request uses the stamp's.
        document = None if self._channel is None else self._channel.document
        body = None
        if document is not None and document.needs_body and path in conversation.PATHS:
            body, receive = await stage.peek(
                receive, stage.DEFAULT_LIMIT if self._prompting is None else self._prompting.limit
            )
        stamp = self._stamp(path, scope, document, body)
        measured = None if stamp is None or path not in INFERENCE_PATHS else self._begin(path, scope, stamp)
        exchange = (
            None if stamp is None or measured is None else _Exchange(self._recorder, measured, stamp, receive, send)
        )
        app = self._app if self._prompting is None else self._prompted(self._prompting, path, document, stamp, exchange)
        if exchange is None:
            await app(scope, receive, send)
        else:
            await exchange.run(app, scope, path)

    def _prompted(
        self,
        prompting: Prompting,
        path: str,
        document: Document | None,
        stamp: Stamp | None,
        exchange: _Exchange | None,
    ) -> Application:
        """The application for a request: the stage, if the request's revision has a prompt."""
        if is_passed(path) or (document is not None and not document.prompts):
            return self._app
        on_refusal = _ignore if exchange is None else exchange.refuse
        if document is None or stamp is None:
            return _refusing(stage.unavailable() if document is None else failed(), path, on_refusal)
        # Tokens are counted for the stable: a count must not change from call to call.
        revision = document.revisions[0] if path == COUNT_TOKENS else stamp.identity.revision
        prompt = document.prompts.get(revision)
        return self._app if prompt is None else Stage(self._app, prompting, prompt, path, on_refusal)

    def _start_timers(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self._recorder.ensure_sweeping()
            if self._channel is not None:
                self._channel.ensure_polling()
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._recorder.count_failure()

    def _is_unready(self, scope: Scope) -> bool:
        """Whether this is the readiness probe of a pod without a split document."""
        return (
            self._channel is not None
            and self._channel.document is None
            and scope["type"] == "http"
            and _path(scope) == HEALTH_PATH
            and any(part.partition(b"=")[0] == SPLIT_QUERY for part in scope.get("query_string", b"").split(b"&"))
        )

    def _stamp(self, path: str, scope: Scope, document: Document | None, body: bytes | None) -> Stamp | None:
        headers = scope["headers"]
        try:
            return read_stamp(headers) if self._channel is None else select(headers, document, path, body)
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._recorder.count_failure()
            return None

    def _begin(self, path: str, scope: Scope, stamp: Stamp) -> Measured | None:
        measured = self._recorder.begin(path, stamp)
        if measured is not None and measured.request_id not in (None, stamp.request_id):
            others = [header for header in scope["headers"] if header[0] != REQUEST_ID_HEADER]
            scope["headers"] = [*others, (REQUEST_ID_HEADER, measured.request_id)]
        return measured


class _Exchange:
    """One measured request and its response."""

    __slots__ = (
        *("_clock", "_ended", "_measured", "_path", "_receive", "_recorder", "_refused", "_revealed", "_scanner"),
        *("_send", "_silence", "_stamp", "_status"),
    )

    def __init__(self, recorder: Recorder, measured: Measured, stamp: Stamp, receive: Receive, send: Send) -> None:
        self._recorder = recorder
        self._clock = recorder.clock
        self._measured = measured
        self._stamp = stamp
        self._silence = measured.silence
        self._path = ""
        self._receive = receive
        self._send = send
        self._refused: str | None = None
        """The outcome, if the prompt's stage refuses the request."""
        self._revealed = _revealed(stamp)
        """The headers by which the response names its revision and prompt."""
        self._status: int | None = None
        self._scanner: outcomes.Scanner | None = None
        self._ended = False

    async def run(self, app: Application, scope: Scope, path: str) -> None:
        """Run the application; afterwards the request is counted as finished, whatever happened."""
        self._path = path
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            # A server that shuts down cancels the requests in flight.
            self._end(self._failure() or outcomes.ABORTED)
            raise
        except BaseException:
            self._end(outcomes.SERVER_ERROR)
            raise
        # If the request has not ended by now, the application sent an incomplete response or none.
        incomplete = outcomes.SERVER_ERROR if self._status is None else outcomes.STREAM_ERROR
        self._end(self._failure() or incomplete)

    def refuse(self, outcome: str) -> None:
        """Let the request count as refused by the prompt's stage."""
        self._refused = outcome

    async def receive(self) -> Message:
        """ASGI receive: returns the client's messages unchanged."""
        message = await self._receive()
        if not self._ended:
            if message["type"] == "http.disconnect":
                self._leave()
            elif message.get("body"):
                self._byte()
        return message

    async def send(self, message: Message) -> None:
        """ASGI send: passes the application's messages on unchanged, but for the headers that name the revision."""
        kind = message["type"]
        if not self._ended:
            self._observe(kind, message)
        if self._revealed and kind == "http.response.start":
            message = _revealing(message, self._revealed)
        try:
            await self._send(message)
        except Exception:
            # The connection failed, not the application, although the application sees the exception first.
            self._leave()
            raise
        if kind == "http.response.body" and not message.get("more_body", False):
            self._end(self._failure() or (outcomes.OK if self._status else outcomes.SERVER_ERROR))

    def _observe(self, kind: str, message: Message) -> None:
        try:
            if kind == "http.response.body":
                body = message.get("body")
                if body:
                    self._silence.byte(self._clock())
                    if self._scanner is not None:
                        self._scanner.feed(body)
            elif kind == "http.response.start":
                self._status = message["status"]
                if 200 <= self._status < 300:
                    self._scanner = outcomes.scanner(self._path, message.get("headers", ()))
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._scanner = None
            self._recorder.count_failure()

    def _byte(self) -> None:
        try:
            self._silence.byte(self._clock())
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._recorder.count_failure()

    def _failure(self) -> str | None:
        """The outcome, if it is known already and is not `ok`."""
        if self._refused is not None:
            return self._refused
        if self._scanner is not None and self._scanner.found is not None:
            return self._scanner.found
        outcome = outcomes.OK if self._status is None else outcomes.of_status(self._status)
        return None if outcome == outcomes.OK else outcome

    def _leave(self) -> None:
        """The client or a gateway is gone, so the request has ended for it, whatever the application does further.

        After a complete response this has no effect: it then means that the connection was closed.
        """
        silence = self._clock() - self._silence.last_byte
        self._end(self._failure() or outcomes.of_disconnect(silence))

    def _end(self, outcome: str) -> None:
        if not self._ended:
            self._ended = True
            counted = self._recorder.end(self._measured, outcome)
            document = self._stamp.document
            if document is not None and document.access_log:
                self._log(counted)

    def _log(self, outcome: str) -> None:
        try:
            seconds = self._clock() - self._measured.began
            access_log.to_stdout(
                access_log.line(
                    *(self._stamp, self._measured, self._path), status=self._status, outcome=outcome, seconds=seconds
                )
            )
        except Exception:  # noqa: BLE001 - an error of logging must not fail the request
            self._recorder.count_failure()


async def _answer_unready(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_NO_DOCUMENT)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _NO_DOCUMENT})


def _revealed(stamp: Stamp) -> list[tuple[bytes, bytes]]:
    document = stamp.document
    if document is None or not document.reveal:
        return []
    prompt = document.prompts.get(stamp.identity.revision)
    named = [] if prompt is None else [(PROMPT_HEADER, prompt.label.encode())]
    return [(REVISION_HEADER, stamp.identity.revision.encode()), *named]


def _revealing(message: Message, revealed: list[tuple[bytes, bytes]]) -> Message:
    """The first message of a response, with these headers instead of any that the application set."""
    headers = [each for each in message.get("headers", ()) if each[0].lower() not in {REVISION_HEADER, PROMPT_HEADER}]
    return {**message, "headers": [*headers, *revealed]}


def _refusing(refusal: Refusal, path: str, on_refusal: Callable[[str], None]) -> Application:
    """An application that refuses every request."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        on_refusal(refusal.outcome)
        await stage.answer(send, refusal, path)

    return app


def _ignore(_outcome: str) -> None:
    """Do nothing: the request is not measured."""


def _path(scope: Scope) -> str:
    """The path as in vLLM's routes, without the prefix of `--root-path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
