"""The ASGI stage between the middleware's shell and vLLM: it puts the prompt into a request, or refuses the request.

The middleware is outside of vLLM's authentication, so the body is read and rewritten only when vLLM asks for it: a
request without a valid key gets vLLM's 401, unread. A refusal is raised into vLLM, which then answers something; that
answer is replaced by ours. Any other exception here is a 500: a request that cannot be prompted is never passed on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..asgi import Application, Message, Receive, Scope, Send
from . import paths
from .apply import apply
from .prompt import Prompt
from .refusal import Refusal, failed
from .special import SpecialTokens, of_application

log = logging.getLogger("serin_model_server")

PROMPTS_VARIABLE = "SERIN_PROMPTS"
"""Environment variable that is 1 where prompts in the split document are applied; elsewhere they are ignored."""
LIMIT_VARIABLE = "SERIN_BODY_LIMIT"
DEFAULT_LIMIT = 32 << 20
"""Bytes of a body; pictures are sent inside of bodies."""
_BODY_HEADERS = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


class Prompting:
    """What the stage needs besides the request; one per process."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._specials: SpecialTokens | None = None

    def specials(self, scope: Scope) -> SpecialTokens:
        """The special tokens of the model that vLLM serves."""
        if self._specials is None:
            self._specials = of_application(scope.get("app"))
        return self._specials


def of_environment(environ: Mapping[str, str]) -> Prompting | None:
    """What the stage needs in this process; None in a pod that ignores prompts."""
    if environ.get(PROMPTS_VARIABLE) != "1":
        return None
    limit = environ.get(LIMIT_VARIABLE, "")
    return Prompting(int(limit)) if limit.isascii() and limit.isdigit() and int(limit) else Prompting()


class Stage:
    """An ASGI application for one request of a revision that has a prompt."""

    def __init__(
        self,
        app: Application,
        prompting: Prompting,
        prompt: Prompt,
        path: str,
        on_refusal: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        """`on_refusal` gets the outcome of a request that the stage refuses."""
        self._app = app
        self._prompting = prompting
        self._prompt = prompt
        self._path = path
        self._on_refusal = on_refusal
        self._refusal: Refusal | None = None
        self._prompted = False
        self._started = False
        self._answered = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request."""
        if self._path not in paths.PROMPTED:
            if paths.is_passed(self._path):
                await self._app(scope, receive, send)
            else:
                self._refuse(paths.refused(self._path))
                await self._answer(send, [])
            return
        # The length will be another one.
        scope["headers"] = [each for each in scope["headers"] if each[0] != b"content-length"]
        try:
            await self._app(scope, self._receiving(scope, receive), self._sending(send))
        except asyncio.CancelledError:
            raise
        except BaseException:
            # What vLLM makes of a refusal does not matter; if it has not answered, we do.
            if self._refusal is None or self._started:
                raise
        if self._refusal is not None and not self._answered and not self._started:
            await self._answer(send, [])

    def _receiving(self, scope: Scope, receive: Receive) -> Receive:
        async def receiving() -> Message:
            if self._refusal is not None:
                raise self._refusal
            # After the body, vLLM waits for the client's disconnect.
            if self._prompted:
                return await receive()
            try:
                body, gone = await read_body(receive, self._prompting.limit)
                if gone is not None:
                    return gone
                changed = apply(self._path, body, self._prompt, self._prompting.specials(scope))
            except asyncio.CancelledError:
                raise
            except Refusal as refusal:
                self._refuse(refusal)
                raise
            except Exception as error:
                log.exception("Applying the prompt %s failed; the request gets a 500.", self._prompt.label)
                raise self._refuse(failed()) from error
            self._prompted = True
            return {"type": "http.request", "body": changed, "more_body": False}

        return receiving

    def _sending(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._prompted and message["status"] < 400:
                # vLLM answers without having read the body; whatever that is, the prompt is not in it.
                self._refusal = self._refusal or self._refuse(failed())
            if self._refusal is None or self._started:
                self._started = True
                await send(message)
            elif not self._answered:
                await self._answer(send, message.get("headers", ()))

        return sending

    def _refuse(self, refusal: Refusal) -> Refusal:
        self._refusal = refusal
        self._on_refusal(refusal.outcome)
        return refusal

    async def _answer(self, send: Send, headers: Any) -> None:
        """Send our refusal, with those headers of vLLM's answer that are not about its body (CORS)."""
        self._answered = True
        others = [(name, value) for name, value in headers if name.lower() not in _BODY_HEADERS]
        await answer(send, self._refusal or failed(), self._path, others)


async def read_body(receive: Receive, limit: int) -> tuple[bytes, Message | None]:
    """The whole body; if the client leaves before its end, also the message that says so.

    Raises:
        Refusal: it has more bytes than the limit.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", message
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise Refusal(
                f"The body has more than {limit:,} bytes, which is the limit while a prompt is in force. "
                f"Send less, or raise {LIMIT_VARIABLE} of the engine.",
                code="body_too_large",
                status=413,
            )
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks), None


async def peek(receive: Receive, limit: int) -> tuple[bytes | None, Receive]:
    """The body, and a `receive` that gives its messages once more; None if it is above the limit or has no end."""
    messages: list[Message] = []
    size = 0
    complete = False
    while size <= limit and not complete:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            break
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)
    body = b"".join(message.get("body", b"") for message in messages) if complete and size <= limit else None
    again = iter(messages)

    async def receiving() -> Message:
        message = next(again, None)
        return await receive() if message is None else message

    return body, receiving


def unavailable() -> Refusal:
    """The refusal of a request in a pod that has loaded no split document, so that its prompt is not known."""
    return Refusal(
        "This pod has loaded no split document, so it does not know the prompt. Retry the request; "
        "the reason is in the engine's log.",
        code="no_split_document",
        status=503,
    )


async def answer(send: Send, refusal: Refusal, path: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send a refusal, with more headers."""
    body = refusal.body(path)
    ours = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*headers, *ours]})
    await send({"type": "http.response.body", "body": body})
