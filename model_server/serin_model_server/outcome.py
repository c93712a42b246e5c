"""How a request ended, in one of seven words.

Called by the middleware. The status line tells most of it. An answer of status 200 may still hold an error: vLLM
reports one inside a stream as an event, and an aborted answer as `finish_reason`. Those are found by searching the
answer's bytes as they pass, for a few literal strings that cannot be part of a text: inside a JSON string, the quote
marks and line ends that they contain are escaped. Nothing is parsed, and nothing kept but the last 23 bytes, for what
lies on the seam of two chunks. Facts are from vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterable

OK = "ok"
SERVER_ERROR = "server_error"
"""5xx, or no answer at all."""
REJECTED = "rejected"
"""400, 413, 422: a canary that refuses what the stable takes is worse."""
STREAM_ERROR = "stream_error"
"""Status 200, and an error in the answer, or an answer that breaks off."""
ABORTED = "aborted"
"""Status 200, and cut short by the server."""
TIMED_OUT = "timed_out"
"""Given up by the client, or by a gateway, after `UNANSWERED` seconds without a byte of an answer."""
EXCLUDED = "excluded"
"""Counts on neither side: the client's doing, or nobody's (401, 403, 404, 408, 429, 499; a client that went away)."""
OUTCOMES = (OK, SERVER_ERROR, REJECTED, STREAM_ERROR, ABORTED, TIMED_OUT, EXCLUDED)

UNANSWERED = 10.0
"""Seconds. Who leaves sooner has changed his mind; who was waited for longer was not answered in time."""

_REJECTED = frozenset({400, 413, 422})

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
_SPOKEN_BY_USERS = frozenset({"/v1/responses"})
"""Paths whose answers repeat JSON of the user's (`metadata`), in which any key may stand: events count, keys do not."""


def of_status(status: int) -> str:
    """The outcome that a status alone tells."""
    if status >= 500:
        return SERVER_ERROR
    if status in _REJECTED:
        return REJECTED
    return OK if 200 <= status < 300 else EXCLUDED


def of_leaving(*, answered: bool, waited: float) -> str:
    """The outcome when the other side left: its own doing, unless it had waited long for the first byte."""
    return TIMED_OUT if not answered and waited >= UNANSWERED else EXCLUDED


def of_engine(finish_reason: str) -> str:
    """The outcome that vLLM's finish reason tells."""
    return {"error": STREAM_ERROR, "abort": ABORTED}.get(finish_reason, OK)


def scanner(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Scanner | None:
    """What looks through an answer with these headers; None where there is nothing to find."""
    content_type = b""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-type":
            content_type = value
        elif lowered == b"content-encoding":
            return None
    finishes = () if path in _SPOKEN_BY_USERS else _FINISHES
    if content_type.startswith(b"text/event-stream"):
        return Scanner(finishes + _EVENTS)
    # Embeddings are megabytes without a finish reason.
    if content_type.startswith(b"application/json") and finishes and path != "/v1/embeddings":
        return Scanner(finishes)
    return None


class Scanner:
    """Looks through the chunks of one answer for the first sign of an error."""

    __slots__ = ("_carry", "_literals", "found")

    def __init__(self, literals: tuple[tuple[bytes, str], ...]) -> None:
        self._literals = literals
        self._carry = b""
        self.found: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Look through the next chunk; costs a few searches of the chunk and copies at most 46 bytes."""
        if self.found is not None:
            return
        if self._carry:
            self._look(self._carry + chunk[:SEAM])
        if self.found is None:
            self._look(chunk)
        if chunk.endswith(b"\n\n"):
            # Between two events nothing is on the seam.
            self._carry = b""
        elif len(chunk) >= SEAM:
            self._carry = chunk[-SEAM:]
        else:
            self._carry = (self._carry + chunk)[-SEAM:]

    def _look(self, data: bytes) -> None:
        # One of these is in each literal, so most chunks cost three searches; a loop would cost more than they do.
        if b"error" not in data and b"abort" not in data and b"failed" not in data:
            return
        for literal, outcome in self._literals:
            if literal in data:
                self.found = outcome
                return
