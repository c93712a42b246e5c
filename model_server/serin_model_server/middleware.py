"""The ASGI shell around vLLM's application: it observes every message of a measured request.

Loaded by `vllm serve --middleware=serin_model_server.Middleware`; only the server's own error page is outside of it.
POST requests to the inference paths are measured. Probes, metrics, websockets and the lifespan are passed through
unread. The shell sets headers: X-Request-Id of the request, if the engine's report could not be joined otherwise, and
x-serin-revision and x-serin-prompt of the response, if the split document says so. It answers one request itself: the
readiness probe `/health?split`, as long as the pod has no split document.

Where prompts are applied (SERIN_PROMPTS=1), a request whose revision has one goes through `prompting.stage`, which lies
between `Exchange` and the application, so that its time and its refusals are measured, too. It runs also where
measuring failed, and no request passes it unprompted. Without a prompt the body is not read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from . import channel as channels
from .asgi import Application, Receive, Scope, Send
from .channel import Channel
from .document import Document
from .exchange import Exchange
from .identity import REQUEST_ID_HEADER, Stamp, read_stamp
from .prompting import conversation, stage
from .prompting.paths import COUNT_TOKENS, is_passed
from .prompting.refusal import Refusal, failed
from .prompting.stage import Prompting, Stage
from .recorder import Measured, Recorder, shared
from .selection import select

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
            None if stamp is None or measured is None else Exchange(self._recorder, measured, stamp, receive, send)
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
        exchange: Exchange | None,
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


async def _answer_unready(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_NO_DOCUMENT)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _NO_DOCUMENT})


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
