"""The ASGI shell around vLLM's application: it observes every message of a measured request.

Loaded by `vllm serve --middleware=serin_model_server.Middleware`; only the server's own error page is outside of it.
POST requests to the inference paths are measured. Probes, metrics, websockets and the lifespan are passed through
unread. The shell sets two headers: X-Request-Id of the request, if the engine's report could not be joined otherwise,
and x-serin-revision of the response, if the split document says so. It answers one request itself: the readiness probe
`/health?split`, as long as the pod has no split document.

A stage that rewrites bodies belongs between `_Exchange` and the application: it gets the same identity, and its time
and its errors are measured, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import channel as channels
from . import outcome as outcomes
from .channel import Channel
from .identity import REQUEST_ID_HEADER, REVISION_HEADER, Stamp, read_stamp
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

    def __init__(self, app: Application, recorder: Recorder | None = None, channel: Channel | None = None) -> None:
        """Without a recorder, use those of the process: its recorder, and its channel if the pod has a document."""
        self._app = app
        self._channel = channels.shared() if recorder is None and channel is None else channel
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
        begun = self._begin(path, scope) if path in INFERENCE_PATHS else None
        if begun is None:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._recorder, *begun, receive, send)
        await exchange.run(self._app, scope, path)

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

    def _begin(self, path: str, scope: Scope) -> tuple[Measured, Stamp] | None:
        headers = scope["headers"]
        try:
            # The only place that reads the document in force: everything else about this request uses the stamp's.
            stamp = read_stamp(headers) if self._channel is None else select(headers, self._channel.document)
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self._recorder.count_failure()
            return None
        measured = self._recorder.begin(path, stamp)
        if measured is None:
            return None
        if measured.request_id not in (None, stamp.request_id):
            others = [header for header in headers if header[0] != REQUEST_ID_HEADER]
            scope["headers"] = [*others, (REQUEST_ID_HEADER, measured.request_id)]
        return measured, stamp


class _Exchange:
    """One measured request and its response."""

    __slots__ = (
        *("_clock", "_ended", "_measured", "_path", "_receive", "_recorder", "_revealed", "_scanner", "_send"),
        *("_silence", "_status"),
    )

    def __init__(self, recorder: Recorder, measured: Measured, stamp: Stamp, receive: Receive, send: Send) -> None:
        self._recorder = recorder
        self._clock = recorder.clock
        self._measured = measured
        self._silence = measured.silence
        self._path = ""
        self._receive = receive
        self._send = send
        document = stamp.document
        self._revealed = stamp.identity.revision if document is not None and document.reveal else None
        """The revision that the response's headers name, or None."""
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
        """ASGI send: passes the application's messages on unchanged, but for one header."""
        kind = message["type"]
        if not self._ended:
            self._observe(kind, message)
        if self._revealed is not None and kind == "http.response.start":
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
            self._recorder.end(self._measured, outcome)


async def _answer_unready(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_NO_DOCUMENT)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _NO_DOCUMENT})


def _revealing(message: Message, revision: str) -> Message:
    """The first message of a response, with the revision's header instead of any that the application set."""
    headers = [header for header in message.get("headers", ()) if header[0].lower() != REVISION_HEADER]
    return {**message, "headers": [*headers, (REVISION_HEADER, revision.encode())]}


def _path(scope: Scope) -> str:
    """The path as in vLLM's routes, without the prefix of `--root-path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
