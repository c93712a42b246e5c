"""One measured request and its response: passes every message on and observes it.

Created by the middleware. It sees what the client sees, so the refusals of the prompt's stage are measured, too.
"""

from __future__ import annotations

import asyncio
import re

from . import access_log
from . import outcome as outcomes
from .asgi import Application, Message, Receive, Scope, Send
from .checks.checker import Reading
from .identity import PROMPT_HEADER, REVISION_HEADER, Stamp
from .recorder import Measured, Recorder

# vLLM takes the id of an answer from the body there, so it is read off the answer.
_ANSWER_ID = re.compile(rb'"id": ?"(resp_[A-Za-z0-9_-]{1,80})"')


class Exchange:
    """One measured request and its response."""

    __slots__ = (
        *("_answer_id", "_clock", "_ended", "_measured", "_path", "_receive", "_recorder", "_refused", "_revealed"),
        *("_reading", "_scanner", "_send", "_silence", "_stamp", "_status"),
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
        self._reading: Reading | None = None
        """What the checks will read of the response; None: nothing."""
        self._ended = False
        document = stamp.document
        self._answer_id: str | None = None if document is not None and document.access_log else ""
        """For the log: the id of an answer of the Responses API; empty if it need not be read."""

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
                    if self._reading is not None:
                        self._reading.reader.feed(body)
                    if self._answer_id is None:
                        found = _ANSWER_ID.search(body)
                        self._answer_id = found.group(1).decode() if found else ""
            elif kind == "http.response.start":
                self._status = message["status"]
                if 200 <= self._status < 300:
                    headers = list(message.get("headers", ()))
                    self._scanner = outcomes.scanner(self._path, headers)
                    if self._stamp.document is not None:
                        checks, revision = self._stamp.document.checks, self._stamp.identity.revision
                        self._reading = self._recorder.checker.begin(self._path, revision, checks, headers)
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
            self._recorder.check(self._measured, self._reading, counted)
            document = self._stamp.document
            if document is not None and document.access_log:
                self._log(counted)

    def _log(self, outcome: str) -> None:
        try:
            seconds = self._clock() - self._measured.began
            found = access_log.line(
                *(self._stamp, self._measured, self._path),
                status=self._status,
                outcome=outcome,
                seconds=seconds,
                answer_id=self._answer_id or None,
            )
            access_log.to_stdout(found)
        except Exception:  # noqa: BLE001 - an error of logging must not fail the request
            self._recorder.count_failure()


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
