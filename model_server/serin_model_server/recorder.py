"""Counts and times each measured request: begin, the engine's report, end (the report may arrive after the end).

Called by the middleware (begin, end), by vLLM's stat logger (report) and by its own timer (sweep), all in vLLM's event
loop. Times are observed only for requests with outcome ok: fast failures must not make a revision look fast. Nothing
here raises: an error while measuring is counted and logged once, and the request goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from . import outcome as outcomes
from .checks.checker import Checker, Reading
from .document import Document, Measure
from .identity import Stamp
from .join import Join, Tracked
from .load import LOW, RunningCount
from .metrics import Metrics, Pair
from .silence import Silence, Watch
from .ticker import Ticker
from .timings import Times
from .warmup import Warmup

log = logging.getLogger("serin_model_server")

SWEEP_SECONDS = 1.0
"""How late a silent request can be counted."""
# Outcomes that a failure replaces which the engine has reported before the end.
_BEFORE_ENGINE = frozenset({outcomes.OK, outcomes.LEFT, outcomes.TIMED_OUT})


class Measured:
    """A request in flight that is being measured."""

    __slots__ = ("began", "cold", "measure", "pair", "silence", "tracked")

    def __init__(
        self, pair: Pair, tracked: Tracked | None, began: float, *, cold: bool, measure: Measure | None = None
    ) -> None:
        self.pair = pair
        self.tracked = tracked
        self.began = began
        self.cold = cold
        self.measure = measure
        """What is counted of it by load, as the document at its arrival asks; None: nothing."""
        self.silence = Silence(pair, began)

    @property
    def request_id(self) -> bytes | None:
        """The value that X-Request-Id must have, or None if any value will do."""
        return self.tracked.request_id if self.tracked is not None else None


class Recorder:
    """Measures all requests of one process."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        join: Join | None = None,
        warmup: Warmup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics() if metrics is None else metrics
        self.checker = Checker(self.metrics.checks)
        self.join = Join() if join is None else join
        self._warmup = Warmup() if warmup is None else warmup
        self.clock = clock
        self._watch = Watch()
        self._ticker = Ticker(SWEEP_SECONDS, self.sweep, self.count_failure)
        self._failure_logged = False
        self._running = RunningCount()
        self._document: Document | None = None
        """The split document of the newest request."""
        self.engine_reports = False
        """Whether vLLM has loaded the stat logger; an allow list in VLLM_PLUGINS can prevent it."""

    def begin(self, path: str, stamp: Stamp) -> Measured | None:
        """Count a request that arrives; None if that fails."""
        try:
            now = self.clock()
            pair = self.metrics.pair(stamp.identity)
            tracked = self.join.enter(path, stamp.request_id, pair, now) if self.engine_reports else None
            document = stamp.document
            if document is not None and document is not self._document:
                self._document = document
                self._warmup.keep_only(document.revisions)
            self.metrics.checks.arrive(pair.identity, None if document is None else document.checks)
            measure = self.metrics.at_load.arrive(pair.identity, None if document is None else document.measure)
            if tracked is not None:
                tracked.measure = measure
            cold = self._warmup.is_cold(pair.identity.revision, now)
            measured = Measured(pair, tracked, now, cold=cold, measure=measure)
            pair.started.inc()
            self._watch.enter(measured.silence)
            # Last, because `end` is called only if this method succeeds, and must undo it.
            self._running.change(1, now)
            pair.in_flight += 1
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self.count_failure()
            return None
        return measured

    def end(self, measured: Measured, outcome: str) -> str:
        """Count a finished request and observe its times; to be called exactly once after each `begin`.

        Returns the outcome that is counted: the engine's report can say more than the response.
        """
        try:
            measured.pair.in_flight -= 1
            self._watch.leave(measured.silence)
            now = self.clock()
            self._running.change(-1, now)
            tracked = measured.tracked
            if outcome in _BEFORE_ENGINE and tracked is not None and tracked.times is not None:
                known = outcomes.of_engine(tracked.times.finish_reason)
                outcome = outcome if known == outcomes.OK else known
            measured.pair.outcomes[outcome].inc()
            measured.silence.end(now)
            if tracked is None:
                if outcome == outcomes.OK and not measured.cold:
                    # No report will come. The middleware's clock knows the total time only.
                    measured.pair.e2e.observe(now - measured.began)
                    if measured.measure is not None and self.metrics.is_current(measured.pair):
                        load = self._running.of_request(measured.began, now)
                        self.metrics.at_load.observe(
                            *(measured.pair.identity, measured.measure, "e2e", now - measured.began),
                            load=load,
                            cached=LOW,
                        )
                return outcome
            tracked.observed = outcome == outcomes.OK and not measured.cold
            if tracked.times is not None:
                self._settle(tracked)
            else:
                self.join.linger(tracked, now)
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self.count_failure()
        return outcome

    def check(self, measured: Measured, reading: Reading | None, outcome: str) -> None:
        """Check the answer of a finished request, if it has outcome ok and something is to be checked."""
        if reading is None:
            return
        try:
            if outcome == outcomes.OK:
                self.checker.finish(reading, measured.pair.identity)
            else:
                self.checker.drop(reading)
        except Exception:  # noqa: BLE001 - an error of measuring must not fail the request
            self.count_failure()

    def ensure_sweeping(self) -> None:
        """Sweep every second from now on, in the running event loop."""
        self._ticker.ensure()

    def sweep(self) -> None:
        """Count the requests that have become overdue."""
        now = self.clock()
        for silence in self._watch.due(now):
            try:
                silence.count(now)
                self._watch.enter(silence)
            except Exception:  # noqa: BLE001 - the others must be counted all the same
                self.count_failure()

    def report(self, sequences: Iterable[tuple[str, Times]]) -> None:
        """Take the engine's report on the sequences that finished in one of its steps."""
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
            # Only after all sequences are merged: one request can have several in this step.
            for tracked in late:
                self._settle(tracked)
        except Exception:  # noqa: BLE001 - an error of measuring must not end the engine's loop
            self.count_failure()

    def count_failure(self) -> None:
        """Count an error of measuring, and log the first one; to be called while the exception is handled."""
        self.metrics.failures.inc()
        if not self._failure_logged:
            self._failure_logged = True
            log.warning(
                "Measuring a request failed; the request itself is not affected. Further failures are not logged, "
                "only counted in serin_middleware_failures_total.",
                exc_info=True,
            )

    def _settle(self, tracked: Tracked) -> None:
        self.join.leave(tracked)
        # A removed pair must not get its series back: that would exceed the limit.
        if tracked.observed and tracked.times is not None and self.metrics.is_current(tracked.pair):
            tracked.pair.observe(tracked.times)
            if tracked.measure is not None:
                self._observe_at_load(tracked, tracked.times, tracked.measure)

    def _observe_at_load(self, tracked: Tracked, times: Times, measure: Measure) -> None:
        arrived = tracked.began
        first, last = arrived + times.ttft, arrived + times.e2e
        waiting = self._running.of_request(arrived, first)
        found = [("ttft", times.ttft, waiting), ("queue", times.queue, waiting)]
        found.append(("e2e", times.e2e, self._running.of_request(arrived, last)))
        if times.per_token is not None:
            found.append(("tpot", times.per_token, self._running.of_request(first, last)))
        for metric, value, load in found:
            self.metrics.at_load.observe(tracked.pair.identity, measure, metric, value, load=load, cached=times.cached)


@lru_cache(maxsize=1)
def shared() -> Recorder:
    """The recorder of this process, shared because vLLM creates the middleware and the stat logger separately."""
    return Recorder()
