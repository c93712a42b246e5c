"""The life of a measured request: it begins, the engine reports on it, it ends; the report may come last.

Called by the middleware (begin, end) and by vLLM's stat logger (report), all in vLLM's event loop. Times are observed
for requests that ended well: a failure that is fast must not make a revision look fast. Nothing here raises: what goes
wrong while measuring is counted, logged once, and never the request's problem.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from . import outcome as outcomes
from .identity import Stamp
from .metrics import Metrics, Pair
from .timings import Join, Times, Tracked, Warmup

log = logging.getLogger("serin_model_server")


class Measured:
    """A request that is being measured."""

    __slots__ = ("began", "cold", "pair", "tracked")

    def __init__(self, pair: Pair, tracked: Tracked | None, began: float, *, cold: bool) -> None:
        self.pair = pair
        self.tracked = tracked
        self.began = began
        self.cold = cold

    @property
    def request_id(self) -> bytes | None:
        """What X-Request-Id has to be, or None where it may be anything."""
        return self.tracked.request_id if self.tracked is not None else None


class Recorder:
    """Everything that is measured in one process."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        join: Join | None = None,
        warmup: Warmup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics() if metrics is None else metrics
        self.join = Join() if join is None else join
        self._warmup = Warmup() if warmup is None else warmup
        self._clock = clock
        self._failed = False
        self.engine_reports = False
        """Whether vLLM has loaded our stat logger; an allow list in VLLM_PLUGINS can prevent it."""

    def begin(self, path: str, stamp: Stamp) -> Measured | None:
        """A request arrives; None where measuring fails."""
        try:
            now = self._clock()
            pair = self.metrics.pair(stamp.identity)
            tracked = self.join.enter(path, stamp.request_id, pair, now) if self.engine_reports else None
            measured = Measured(pair, tracked, now, cold=self._warmup.is_cold(pair.identity.revision, now))
            pair.started.inc()
            # The last step: whoever is counted as in flight is sure to be counted out again.
            pair.in_flight += 1
        except Exception:  # noqa: BLE001 - measuring never breaks a request
            self.failed()
            return None
        return measured

    def end(self, measured: Measured, outcome: str) -> None:
        """The answer is over. The one call per request that `begin` asks for."""
        try:
            measured.pair.in_flight -= 1
            tracked = measured.tracked
            if outcome == outcomes.OK and tracked is not None and tracked.times is not None:
                outcome = outcomes.of_engine(tracked.times.finish_reason)
            measured.pair.outcomes[outcome].inc()
            if tracked is None:
                if outcome == outcomes.OK and not measured.cold:
                    # No report to wait for. Our clock sees the whole request, but not when a token came.
                    measured.pair.e2e.observe(self._clock() - measured.began)
                return
            tracked.owed = outcome == outcomes.OK and not measured.cold
            if tracked.times is not None:
                self._settle(tracked)
            else:
                self.join.linger(tracked, self._clock())
        except Exception:  # noqa: BLE001 - measuring never breaks a request
            self.failed()

    def report(self, sequences: Iterable[tuple[str, Times]]) -> None:
        """What the engine says about sequences that ended in one of its steps."""
        try:
            late: list[Tracked] = []
            for engine_id, times in sequences:
                tracked = self.join.find(engine_id)
                if tracked is None:
                    continue
                if tracked.times is None:
                    tracked.times = times
                else:
                    tracked.times.merge(times)
                if self.join.is_lingering(tracked) and tracked not in late:
                    late.append(tracked)
            # After all of them: one request may have several sequences in this step.
            for tracked in late:
                self._settle(tracked)
        except Exception:  # noqa: BLE001 - measuring never breaks the engine's loop
            self.failed()

    def failed(self) -> None:
        """Note that measuring went wrong; to be called where the exception is handled."""
        self.metrics.failures.inc()
        if not self._failed:
            self._failed = True
            log.warning("measuring failed; this is logged once and counted from here on", exc_info=True)

    def _settle(self, tracked: Tracked) -> None:
        self.join.leave(tracked)
        # A pair without series must not get them back behind the bound.
        if tracked.owed and tracked.times is not None and self.metrics.is_current(tracked.pair):
            tracked.pair.observe(tracked.times)


@lru_cache(maxsize=1)
def shared() -> Recorder:
    """The recorder of this process: vLLM makes the middleware and the stat logger, each by itself."""
    return Recorder()
