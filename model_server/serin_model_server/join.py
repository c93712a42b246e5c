"""Finds the request that an engine's report belongs to.

Called by the recorder. For each finished sequence vLLM's engine reports times and the id that the API server made from
the header X-Request-Id: `chatcmpl-ID`, `cmpl-ID-0`, ... The id must therefore be known, and unique while the request
runs. A client's id is used if it is unique, so logs stay traceable; otherwise the request gets a new one.
Source: vLLM 0.32.

Not here: the times themselves (`timings`), the series (`metrics`), and reading vLLM's objects (`stat_logger`).
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict

from .document import Measure
from .metrics import Pair
from .timings import Times

MAX_TRACKED = 16_384
"""Requests tracked at a time; beyond that a request is counted but not timed."""
LINGER_SECONDS = 10.0
"""How long a finished request waits for the engine's report. With over 128 sequences in a step it can be late."""

_SAFE_ID = re.compile(rb"[A-Za-z0-9._:~+/=-]{1,128}")
_PART = re.compile(r"[-_][0-9]+\Z")
# By path: the prefix of the engine's id, and whether a part number follows always, never, or only for several parts.
_ALWAYS, _NEVER, _SOMETIMES = "always", "never", "sometimes"
_ENGINE_IDS = {
    "/v1/chat/completions": ("chatcmpl-", _NEVER),
    "/v1/messages": ("chatcmpl-", _NEVER),
    "/v1/completions": ("cmpl-", _ALWAYS),
    "/v1/embeddings": ("embd-", _ALWAYS),
    "/v1/audio/transcriptions": ("transcribe-", _SOMETIMES),
    "/v1/audio/translations": ("translate-", _SOMETIMES),
}
"""`/v1/responses` is missing: vLLM takes its id from the body, so the middleware measures its total time itself."""


class Tracked:
    """A request that waits for the engine's report."""

    __slots__ = ("began", "key", "measure", "observed", "pair", "request_id", "suffix", "times")

    def __init__(self, key: str, suffix: str, request_id: bytes, pair: Pair, began: float) -> None:
        self.key = key
        self.suffix = suffix
        self.request_id = request_id
        """The value that X-Request-Id must have when the request reaches vLLM."""
        self.pair = pair
        self.began = began
        self.measure: Measure | None = None
        """What is counted of it by load; None: nothing."""
        self.times: Times | None = None
        self.observed = False
        """Whether the request's times are observed: it ended with outcome ok and its revision was warm."""


class Join:
    """Requests by the ids that the engine gives them: at most MAX_TRACKED, running or recently finished."""

    def __init__(self, max_tracked: int = MAX_TRACKED, linger: float = LINGER_SECONDS) -> None:
        self._max = max_tracked
        self._linger = linger
        self._by_key: dict[str, Tracked] = {}
        self._lingering: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def enter(self, path: str, client_id: bytes | None, pair: Pair, now: float) -> Tracked | None:
        """Track a request; None if the engine's id is not known for the path, or MAX_TRACKED is reached."""
        rule = _ENGINE_IDS.get(path)
        if rule is None:
            return None
        self._sweep(now)
        if len(self._by_key) >= self._max:
            return None
        prefix, suffix = rule
        request_id = client_id if client_id is not None and _SAFE_ID.fullmatch(client_id) else None
        if request_id is not None:
            text = request_id.decode("ascii")
            if prefix + text in self._by_key or (suffix is _SOMETIMES and _PART.search(text)):
                request_id = None
        if request_id is None:
            text = secrets.token_hex(16)
            request_id = text.encode("ascii")
        tracked = Tracked(prefix + text, suffix, request_id, pair, now)
        self._by_key[tracked.key] = tracked
        return tracked

    def find(self, engine_id: str) -> Tracked | None:
        """The request that a sequence belongs to, or None.

        Whether a number at the end of an id is a part number depends on the path, so two ids are never confused.
        """
        whole = self._by_key.get(engine_id)
        if whole is not None and whole.suffix is not _ALWAYS:
            return whole
        part = _PART.search(engine_id)
        if part is None:
            return None
        found = self._by_key.get(engine_id[: part.start()])
        return found if found is not None and found.suffix is not _NEVER else None

    def leave(self, tracked: Tracked) -> None:
        """Remove a request whose report has arrived."""
        self._by_key.pop(tracked.key, None)
        self._lingering.pop(tracked.key, None)

    def is_lingering(self, tracked: Tracked) -> bool:
        """Whether the request has finished and waits for its report."""
        return tracked.key in self._lingering

    def linger(self, tracked: Tracked, now: float) -> None:
        """Let a finished request wait for its report; meanwhile no other request gets its id."""
        self._lingering[tracked.key] = now + self._linger

    def _sweep(self, now: float) -> None:
        """Remove finished requests whose time is over; if MAX_TRACKED is reached, the oldest ones at once."""
        while self._lingering:
            key, until = next(iter(self._lingering.items()))
            if until > now and len(self._by_key) < self._max:
                return
            del self._lingering[key]
            self._by_key.pop(key, None)
