"""Whether a revision's caches are still cold, so that the times of its requests are dropped. Called by the recorder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

COLD_SECONDS = 60.0
COLD_REQUESTS = 20
MAX_REVISIONS = 64


class Warmup:
    """Tracks which revisions are cold: for the first 20 requests of a revision, but at most 60 seconds.

    Per process and per revision, because a new revision (a new prompt) has cold caches on old pods, too. Stable and
    canary lose equally few samples. Errors count from the first request on. A revision that has left the pod is cold
    again when it comes back.
    """

    def __init__(self, seconds: float = COLD_SECONDS, requests: int = COLD_REQUESTS) -> None:
        self._seconds = seconds
        self._requests = requests
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def is_cold(self, revision: str, now: float) -> bool:
        """Count a request that arrives at `now`; returns whether its times must be dropped."""
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

    def keep_only(self, revisions: Iterable[str]) -> None:
        """Forget the revisions that the pod serves no more."""
        for revision in self._seen.keys() - set(revisions):
            del self._seen[revision]
