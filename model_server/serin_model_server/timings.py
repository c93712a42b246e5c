"""Which request the engine's numbers belong to, and which numbers are worth keeping.

Called by the recorder. vLLM's engine reports each sequence that ended, with the id that the API server made from the
header X-Request-Id: `chatcmpl-ID`, `cmpl-ID-0`, … So the id has to be known, and be nobody else's while the request
runs: a client's id is kept when that is so (logs stay traceable), else it gets another. Facts are from vLLM 0.32.

One request can be several sequences (`n`, a list of prompts). It stays one observation, of the shortest time to first
token and the longest of everything else: what its client waited for, and independent of the other observations.

Deliberately not here: the series (`metrics`), and reading vLLM's objects (`stat_logger`).
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .metrics import Pair

MAX_TRACKED = 16_384
"""Requests whose times can be told at once; beyond that a request is counted, but not timed."""
LINGER_SECONDS = 10.0
"""How long an ended request waits for the engine's report: with more than 128 sequences in a step it can come late."""
COLD_SECONDS = 60.0
COLD_REQUESTS = 20
MAX_REVISIONS = 64

_KEPT_ID = re.compile(rb"[A-Za-z0-9._:~+/=-]{1,128}")
_PART = re.compile(r"[-_][0-9]+\Z")
# By path: how the engine's id begins, and whether a number always follows, never, or only where there are parts.
_ALWAYS, _NEVER, _SOMETIMES = "always", "never", "sometimes"
_ENGINE_IDS = {
    "/v1/chat/completions": ("chatcmpl-", _NEVER),
    "/v1/messages": ("chatcmpl-", _NEVER),
    "/v1/completions": ("cmpl-", _ALWAYS),
    "/v1/embeddings": ("embd-", _ALWAYS),
    "/v1/audio/transcriptions": ("transcribe-", _SOMETIMES),
    "/v1/audio/translations": ("translate-", _SOMETIMES),
}
"""`/v1/responses` is missing: vLLM takes that id from the body, so its requests are timed by our own clock."""


class Times:
    """What the engine said about one request. Seconds; None where it said nothing."""

    __slots__ = ("e2e", "finish_reason", "per_token", "queue", "ttft")

    def __init__(
        self, *, ttft: float, e2e: float, queue: float, per_token: float | None, finish_reason: str = "stop"
    ) -> None:
        self.ttft = ttft
        self.e2e = e2e
        self.queue = queue
        self.per_token = per_token
        """None for an answer of a single token."""
        self.finish_reason = finish_reason

    def merge(self, other: Times) -> None:
        """Take in another sequence of the same request."""
        self.ttft = min(self.ttft, other.ttft)
        self.e2e = max(self.e2e, other.e2e)
        self.queue = max(self.queue, other.queue)
        if other.per_token is not None:
            self.per_token = max(self.per_token or 0.0, other.per_token)
        if other.finish_reason in {"error", "abort"}:
            self.finish_reason = other.finish_reason


class Tracked:
    """A request that the engine's report can be joined with."""

    __slots__ = ("key", "owed", "pair", "request_id", "suffix", "times")

    def __init__(self, key: str, suffix: str, request_id: bytes, pair: Pair) -> None:
        self.key = key
        self.suffix = suffix
        self.request_id = request_id
        """What X-Request-Id has to be."""
        self.pair = pair
        self.times: Times | None = None
        self.owed = False
        """Whether the request has ended and its observation waits for the report."""


class Join:
    """Requests by the ids that the engine gives them; at most MAX_TRACKED, running or ended a moment ago."""

    def __init__(self, max_tracked: int = MAX_TRACKED, linger: float = LINGER_SECONDS) -> None:
        self._max = max_tracked
        self._linger = linger
        self._by_key: dict[str, Tracked] = {}
        self._lingering: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def enter(self, path: str, client_id: bytes | None, pair: Pair, now: float) -> Tracked | None:
        """Track a request; None where nothing can be joined, or too much is tracked already."""
        rule = _ENGINE_IDS.get(path)
        if rule is None:
            return None
        self._sweep(now)
        if len(self._by_key) >= self._max:
            return None
        prefix, suffix = rule
        request_id = client_id if client_id is not None and _KEPT_ID.fullmatch(client_id) else None
        if request_id is not None:
            text = request_id.decode("ascii")
            if prefix + text in self._by_key or (suffix is _SOMETIMES and _PART.search(text)):
                request_id = None
        if request_id is None:
            text = secrets.token_hex(16)
            request_id = text.encode("ascii")
        tracked = Tracked(prefix + text, suffix, request_id, pair)
        self._by_key[tracked.key] = tracked
        return tracked

    def find(self, engine_id: str) -> Tracked | None:
        """The request of a sequence. By the rule of its path, so that no id can be read as another one's part."""
        whole = self._by_key.get(engine_id)
        if whole is not None and whole.suffix is not _ALWAYS:
            return whole
        part = _PART.search(engine_id)
        if part is None:
            return None
        found = self._by_key.get(engine_id[: part.start()])
        return found if found is not None and found.suffix is not _NEVER else None

    def leave(self, tracked: Tracked) -> None:
        """Forget a request: its report has come."""
        self._by_key.pop(tracked.key, None)
        self._lingering.pop(tracked.key, None)

    def is_lingering(self, tracked: Tracked) -> bool:
        """Whether the request has ended."""
        return tracked.key in self._lingering

    def linger(self, tracked: Tracked, now: float) -> None:
        """Keep an ended request for a moment, for its report. Until then its id is not given to another request."""
        self._lingering[tracked.key] = now + self._linger

    def _sweep(self, now: float) -> None:
        """Forget those whose report is not coming; when it is crowded, the oldest of them at once."""
        while self._lingering:
            key, until = next(iter(self._lingering.items()))
            if until > now and len(self._by_key) < self._max:
                return
            del self._lingering[key]
            self._by_key.pop(key, None)


class Warmup:
    """Whether a revision is still cold: of its first 20 requests, those of its first 60 seconds are not timed.

    By process and by revision: a new revision on pods that run for hours (a new prompt) has cold caches, too. Both
    sides lose the same few samples, and errors are counted from the first request on.
    """

    def __init__(self, seconds: float = COLD_SECONDS, requests: int = COLD_REQUESTS) -> None:
        self._seconds = seconds
        self._requests = requests
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def is_cold(self, revision: str, now: float) -> bool:
        """Count a request that arrives now; whether its times are to be dropped."""
        first, count = self._seen.get(revision, (now, 0))
        if count > self._requests:
            self._seen.move_to_end(revision)
            return False
        cold = count < self._requests and now - first < self._seconds
        self._seen[revision] = (first, count + 1 if cold else self._requests + 1)
        self._seen.move_to_end(revision)
        if len(self._seen) > MAX_REVISIONS:
            self._seen.popitem(last=False)
        return cold
