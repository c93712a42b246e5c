"""Why a request is not answered: status, message and code, in the shape of the API that was called.

The outcome says whether another revision would have refused the request as well: `excluded` if so, because it proves
nothing about a revision, and `rejected` if the prompt is the reason.
"""

from __future__ import annotations

import json

from ..outcome import EXCLUDED, REJECTED, SERVER_ERROR

ANTHROPIC_PREFIX = "/v1/messages"
_ANTHROPIC_TYPES = {404: "not_found_error", 413: "request_too_large"}
MAX_NAME = 64
"""Characters of a name from a request that a message quotes."""


class Refusal(Exception):  # noqa: N818 - not an error of the program
    """The request is not passed to vLLM."""

    def __init__(
        self, message: str, *, code: str, param: str | None = None, status: int = 400, outcome: str = EXCLUDED
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status
        self.outcome = outcome

    def body(self, path: str) -> bytes:
        """The response's body, in the shape of the API at this path."""
        if path.startswith(ANTHROPIC_PREFIX):
            kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
            return json.dumps({"type": "error", "error": {"type": kind, "message": self.message}}).encode()
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def rejected(message: str, *, code: str, param: str | None = None) -> Refusal:
    """A refusal because of the prompt that this revision has."""
    return Refusal(message, code=code, param=param, outcome=REJECTED)


def failed() -> Refusal:
    """The refusal of a request during which the stage itself failed."""
    return Refusal(
        "The prompt could not be applied because of an internal error, so the request was not answered. "
        "Retry it; the reason is in the engine's log.",
        code="prompt_failed",
        status=500,
        outcome=SERVER_ERROR,
    )


def quoted(name: str) -> str:
    """A name from a request, for a message: ASCII, in quotation marks, at most 64 characters."""
    text = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."
    return ascii(text)
