"""The outcome of a request: one of eight values of the label `outcome`.

Called by the middleware. Most outcomes follow from the status. A response with status 200 can still contain an error:
vLLM reports an error inside a stream as an event, and an aborted response as `finish_reason`. The scanner finds both by
searching the response's bytes for literal strings that generated text cannot contain: inside a JSON string, their quote
marks and line ends would be escaped. Nothing is parsed. Only the last 23 bytes are stored, for a literal that is split
between two chunks. Source: vLLM 0.32.

Every outcome but `ok` says why a request is not a good answer; which of them are bad, the operator decides.
"""

from __future__ import annotations

from collections.abc import Iterable

OK = "ok"
SERVER_ERROR = "server_error"
"""Status 5xx, or no response."""
REJECTED = "rejected"
"""Status 400, 413 or 422. Counts as bad: a canary that rejects what the stable accepts is worse."""
STREAM_ERROR = "stream_error"
"""Status 2xx, but the response contains an error or is incomplete."""
ABORTED = "aborted"
"""Status 2xx, but the server cut the response short."""
TIMED_OUT = "timed_out"
"""The client or a gateway disconnected after `SILENT` or more seconds without a byte, at the start or in mid-stream."""
EXCLUDED = "excluded"
"""Another status that is not the model's doing (401, 402, 403, 404, 405, 409, 415, 429, 3xx). A change can cause it."""
LEFT = "left"
"""Status 408 or 499, or the client disconnected while bytes were coming: its own decision, so it proves nothing."""
OUTCOMES = (OK, SERVER_ERROR, REJECTED, STREAM_ERROR, ABORTED, TIMED_OUT, EXCLUDED, LEFT)

SILENT = 10.0
"""Seconds. A client that disconnects after a shorter silence has left; after a longer one the request has timed out."""

_REJECTED = frozenset({400, 413, 422})
_LEFT = frozenset({408, 499})

_FINISHES = (
    (b'"finish_reason":"error"', STREAM_ERROR),
    (b'"finish_reason": "error"', STREAM_ERROR),
    (b'"finish_reason":"abort"', ABORTED),
    (b'"finish_reason": "abort"', ABORTED),
)
_EVENTS = (
    (b'data: {"error":', STREAM_ERROR),
    (b"event: error\n", STREAM_ERROR),
    (b"event: response.failed\n", STREAM_ERROR),
)
SEAM = max(len(literal) for literal, _ in _FINISHES + _EVENTS) - 1
_REPEATS_USER_JSON = frozenset({"/v1/responses"})
"""Paths whose responses repeat JSON from the user (`metadata`), with any keys: only events are searched for there."""


def of_status(status: int) -> str:
    """The outcome that follows from an HTTP status alone."""
    if status >= 500:
        return SERVER_ERROR
    if status in _REJECTED:
        return REJECTED
    if status in _LEFT:
        return LEFT
    return OK if 200 <= status < 300 else EXCLUDED


def of_disconnect(silence: float) -> str:
    """The outcome when the client or a gateway disconnects, and no failure was known before.

    Args:
        silence: seconds since the last byte passed, or since the request arrived.
    """
    return TIMED_OUT if silence >= SILENT else LEFT


def of_engine(finish_reason: str) -> str:
    """The outcome that follows from vLLM's finish reason."""
    return {"error": STREAM_ERROR, "abort": ABORTED}.get(finish_reason, OK)


def scanner(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Scanner | None:
    """A scanner for a response with these headers; None if the response cannot contain a sign of an error."""
    content_type = b""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-type":
            content_type = value
        elif lowered == b"content-encoding":
            return None
    finishes = () if path in _REPEATS_USER_JSON else _FINISHES
    if content_type.startswith(b"text/event-stream"):
        return Scanner(finishes + _EVENTS)
    # Responses with embeddings are megabytes large and have no finish reason.
    if content_type.startswith(b"application/json") and finishes and path != "/v1/embeddings":
        return Scanner(finishes)
    return None


class Scanner:
    """Searches the chunks of one response for the first sign of an error; `found` is its outcome, or None."""

    __slots__ = ("_carry", "_literals", "found")

    def __init__(self, literals: tuple[tuple[bytes, str], ...]) -> None:
        self._literals = literals
        self._carry = b""
        self.found: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Search the next chunk; costs a few searches of the chunk and copies at most 46 bytes."""
        if self.found is not None:
            return
        if self._carry:
            self._search(self._carry + chunk[:SEAM])
        if self.found is None:
            self._search(chunk)
        if chunk.endswith(b"\n\n"):
            # The chunk ends with an event, so no literal can be split here.
            self._carry = b""
        elif len(chunk) >= SEAM:
            self._carry = chunk[-SEAM:]
        else:
            self._carry = (self._carry + chunk)[-SEAM:]

    def _search(self, data: bytes) -> None:
        # Each literal contains one of these words, so most chunks cost three searches. A loop would cost more.
        if b"error" not in data and b"abort" not in data and b"failed" not in data:
            return
        for literal, outcome in self._literals:
            if literal in data:
                self.found = outcome
                return
