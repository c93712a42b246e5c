"""The ASGI shell around vLLM's application: it observes every message of a measured request and changes none.

Loaded by `vllm serve --middleware=serin_model_server.Middleware`; only the server's own error page is outside of it.
POST requests to the inference paths are measured. Probes, metrics, websockets and the lifespan are passed through
unread. The shell sets one thing, the request header X-Request-Id, if the engine's report could not be joined otherwise.

A stage that rewrites bodies belongs between `_Exchange` and the application: it gets the same identity, and its time
and its errors are measured, too.
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
"""The paths of serin.routers.gateway_api.SERVED_PATHS that a model answers. Paths below them are not measured: they
count tokens, cancel a request, or render a prompt."""


class Middleware:
    """An ASGI application that measures the requests it passes to `app`."""

    def __init__(self, app: Application, recorder: Recorder | None = None) -> None:
        self._app = app
        self._recorder = recorder or shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
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
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._recorder.count_failure()
            return None
        measured = self._recorder.begin(path, stamp)
        if measured is not None and measured.request_id not in (None, stamp.request_id):
            others = [header for header in headers if header[0] != REQUEST_ID_HEADER]
            scope["headers"] = [*others, (REQUEST_ID_HEADER, measured.request_id)]
        return measured


class _Exchange:
    """One measured request and its response."""

    __slots__ = (
        "_answered",
        "_began",
        "_disconnected",
        "_ended",
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
        self._disconnected = False
        """Whether the client disconnected before the response was complete."""
        self._answered = False
        """Whether a byte of the response body was sent."""
        self._began = time.monotonic()
        self._ended = False

    async def run(self, app: Application, scope: Scope) -> None:
        """Run the application; afterwards the request is counted as finished, whatever happened."""
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            # A server that shuts down cancels the requests in flight.
            self._end(outcomes.ABORTED)
            raise
        except BaseException:
            self._end(outcomes.SERVER_ERROR)
            raise
        # If the request has not ended by now, the application sent an incomplete response or none.
        outcome = outcomes.SERVER_ERROR if self._status is None else outcomes.of_status(self._status)
        self._end(outcomes.STREAM_ERROR if outcome == outcomes.OK else outcome)

    async def receive(self) -> Message:
        """ASGI receive: returns the client's messages unchanged."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            # Has no effect after the end of the response, when it means that the connection was closed.
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """ASGI send: passes the application's messages on unchanged."""
        kind = message["type"]
        try:
            if kind == "http.response.body":
                self._answered = self._answered or (not self._disconnected and bool(message.get("body")))
                if self._scanner is not None and (body := message.get("body")):
                    self._scanner.feed(body)
            elif kind == "http.response.start":
                self._status = message["status"]
                if 200 <= self._status < 300:
                    self._scanner = outcomes.scanner(self._path, message.get("headers", ()))
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._scanner = None
            self._recorder.count_failure()
        try:
            await self._send(message)
        except BaseException:
            # The connection failed, not the application, although the application sees the exception first.
            self._disconnected = True
            raise
        if kind == "http.response.body" and not message.get("more_body", False):
            self._end(self._outcome())

    def _outcome(self) -> str:
        found = self._scanner.found if self._scanner is not None else None
        return found or outcomes.of_status(self._status or 500)

    def _end(self, outcome: str) -> None:
        if not self._ended:
            self._ended = True
            if self._disconnected:
                waited = time.monotonic() - self._began
                outcome = outcomes.of_disconnect(answered=self._answered, waited=waited)
            self._recorder.end(self._measured, outcome)


def _path(scope: Scope) -> str:
    """The path as in vLLM's routes, without the prefix of `--root-path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
