"""One line of JSON per measured request in the engine's log, where the split document says so.

It answers, from the id of a request or of an answer, which revision and which prompt produced it. It has no text of the
request or the answer. Called by the middleware when the request has ended.
"""

from __future__ import annotations

import json
import sys

from .identity import Stamp
from .recorder import Measured

MAX_ID = 128
"""Characters of a client's request id."""


def line(
    stamp: Stamp,
    measured: Measured,
    path: str,
    *,
    status: int | None,
    outcome: str,
    seconds: float,
    answer_id: str | None = None,
) -> str:
    """The line of a request, without a line end.

    Args:
        stamp: what was known at its headers.
        measured: its measurement, which has ended.
        path: as in vLLM's routes.
        status: HTTP status of the answer; None if there was none.
        outcome: what it was counted as.
        seconds: from its headers to its end.
        answer_id: the id that the answer has instead of the request's.
    """
    document, identity = stamp.document, stamp.identity
    prompt = None if document is None else document.prompts.get(identity.revision)
    sent = measured.request_id or stamp.request_id
    times = None if measured.tracked is None else measured.tracked.times
    return json.dumps(
        {
            "serin": "request",
            "request_id": None if sent is None else sent.decode("ascii", "backslashreplace")[:MAX_ID],
            "answer_id": answer_id,
            "path": path,
            "revision": identity.revision,
            "epoch": identity.epoch,
            "prompt": None if prompt is None else prompt.label,
            "prompt_hash": None if prompt is None else prompt.content_hash,
            "status": status,
            "outcome": outcome,
            "prompt_tokens": None if times is None else times.prompt_tokens,
            "output_tokens": None if times is None else times.output_tokens,
            "seconds": round(seconds, 3),
        }
    )


def to_stdout(text: str) -> None:
    """Write a line to the engine's log."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
