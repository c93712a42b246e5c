"""The ASGI shell: stands around vLLM's application, sees every message of a measured request, and changes none of them.

Loaded by `vllm serve --middleware=serin_model_server.Middleware`, outermost but for the server's own error page.
Measured are POSTs to the paths of inference; probes, metrics, websockets and the lifespan pass without a look. The one
thing that is set is the request's header X-Request-Id, where the engine's report would not find the request otherwise.

A later stage that rewrites bodies belongs between `_Exchange` and the application: it gets the same identity, and what
it does is measured like everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import outcome as outcomes
from .identity import REQUEST_ID_HEADER, read_stamp
from .recorder import Measured, Recorder, shared

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
"""What the route serves (serin.routers.gateway_api.SERVED_PATHS) and a model answers. Exactly: what lies below these
paths counts tokens, cancels, or renders a prompt."""


class Middleware:
    """Measures the requests that pass through to `app`."""

    def __init__(self, app: Application, recorder: Recorder | None = None) -> None:
        self._app = app
        self._recorder = recorder or shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path = _path(scope)
        measured = self._begin(path, scope) if path in INFERENCE_PATHS else None
        if measured is None:
            await self._app(scope, receive, send)
            return
        await _Exchange(self._recorder, measured, path, receive, send).run(self._app, scope)

    def _begin(self, path: str, scope: Scope) -> Measured | None:
        headers = scope["headers"]
        try:
            stamp = read_stamp(headers)
        except Exception:  # noqa: BLE001 - measuring never breaks a request
            self._recorder.failed()
            return None
        measured = self._recorder.begin(path, stamp)
        if measured is not None and measured.request_id not in (None, stamp.request_id):
            others = [header for header in headers if header[0] != REQUEST_ID_HEADER]
            scope["headers"] = [*others, (REQUEST_ID_HEADER, measured.request_id)]
        return measured


class _Exchange:
    """One measured request and its answer."""

    __slots__ = (
        "_answered",
        "_began",
        "_ended",
        "_gone",
        "_measured",
        "_path",
        "_receive",
        "_recorder",
        "_scanner",
        "_send",
        "_status",
    )

    def __init__(self, recorder: Recorder, measured: Measured, path: str, receive: Receive, send: Send) -> None:
        self._recorder = recorder
        self._measured = measured
        self._path = path
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._scanner: outcomes.Scanner | None = None
        self._gone = False
        """Whether the client went away before its answer was over."""
        self._answered = False
        """Whether a byte of the answer was sent."""
        self._began = time.monotonic()
        self._ended = False

    async def run(self, app: Application, scope: Scope) -> None:
        """Let the application answer; afterwards the request is counted as ended, whatever happened."""
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            # The server gives up what still runs when it is told to end.
            self._end(outcomes.ABORTED)
            raise
        except BaseException:
            self._end(outcomes.SERVER_ERROR)
            raise
        # Not ended yet: the application left an answer unfinished, or gave none.
        verdict = outcomes.SERVER_ERROR if self._status is None else outcomes.of_status(self._status)
        self._end(outcomes.STREAM_ERROR if verdict == outcomes.OK else verdict)

    async def receive(self) -> Message:
        """What the client sends, untouched."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            # After the end it only means that the connection was closed.
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        """What the application answers, untouched."""
        kind = message["type"]
        try:
            if kind == "http.response.body":
                self._answered = self._answered or (not self._gone and bool(message.get("body")))
                if self._scanner is not None and (body := message.get("body")):
                    self._scanner.feed(body)
            elif kind == "http.response.start":
                self._status = message["status"]
                if 200 <= self._status < 300:
                    self._scanner = outcomes.scanner(self._path, message.get("headers", ()))
        except Exception:  # noqa: BLE001 - measuring never breaks a request
            self._scanner = None
            self._recorder.failed()
        try:
            await self._send(message)
        except BaseException:
            # The connection failed, not the application, though the application sees the exception first.
            self._gone = True
            raise
        if kind == "http.response.body" and not message.get("more_body", False):
            self._end(self._verdict())

    def _verdict(self) -> str:
        found = self._scanner.found if self._scanner is not None else None
        return found or outcomes.of_status(self._status or 500)

    def _end(self, outcome: str) -> None:
        if not self._ended:
            self._ended = True
            if self._gone:
                waited = time.monotonic() - self._began
                outcome = outcomes.of_leaving(answered=self._answered, waited=waited)
            self._recorder.end(self._measured, outcome)


def _path(scope: Scope) -> str:
    """The path as vLLM's routes have it: without the prefix that `--root-path` names."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
