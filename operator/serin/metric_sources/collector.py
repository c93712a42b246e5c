"""One reader of evidence for all active rollouts, so that a hundred rollouts cost one query per metric.

The reconciler sets and drops watches and reads the latest evidence; `serin.__main__` runs the loop. A reconcile never
waits for Prometheus. While nobody watches, nothing is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from serin.metric_sources.port import Key, MetricSource, Watch
from serin.rollout.snapshot import NO_EVIDENCE, Evidence

log = structlog.get_logger(__name__)


class Observed(Protocol):
    """Told how long a read took."""

    def __call__(self, seconds: float, *, failed: bool) -> None:
        """A read took this long, and failed for somebody or not."""


def _unobserved(seconds: float, *, failed: bool) -> None:
    """Nobody wants to know."""


class Collector:
    """Watches and their latest evidence.

    Args:
        source: where evidence comes from.
        interval: seconds between two reads.
        woke: told the key whose evidence has changed.
        observed: told how many seconds a read took, and whether it failed for anybody.
    """

    def __init__(
        self,
        source: MetricSource,
        *,
        interval: float,
        woke: Callable[[Key], None] = lambda _key: None,
        observed: Observed = _unobserved,
    ) -> None:
        self._source = source
        self._interval = interval
        self.woke = woke
        self._observed = observed
        self._watches: dict[Key, Watch] = {}
        self._evidence: dict[Key, Evidence] = {}
        self._changed = asyncio.Event()

    def set_watch(self, watch: Watch) -> None:
        """Watch this from now on, instead of what was watched for the same LLMDeployment; read at once if it is new."""
        key = watch.key
        if self._watches.get(key) == watch:
            return
        if key not in self._watches or self._watches[key].since != watch.since:
            # Counts of another window must not be taken for counts of this one.
            self._evidence.pop(key, None)
        self._watches[key] = watch
        self._changed.set()

    def drop(self, key: Key) -> None:
        """Watch the key no longer."""
        self._watches.pop(key, None)
        self._evidence.pop(key, None)

    def evidence(self, key: Key) -> Evidence:
        """What was last read for the key; NO_EVIDENCE before the first read."""
        return self._evidence.get(key, NO_EVIDENCE)

    async def run(self) -> None:
        """Read until cancelled: every interval, and at once when a watch changes."""
        while True:
            self._changed.clear()
            if self._watches:
                await self.collect()
            # A new watch is read at once; without any there is nothing to wait for but one.
            with_deadline = self._interval if self._watches else None
            try:
                async with asyncio.timeout(with_deadline):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def collect(self) -> None:
        """Read once for every watch."""
        watches = dict(self._watches)
        start = time.monotonic()
        try:
            read: Mapping[Key, Evidence] = await self._source.read(list(watches.values()))
        except Exception as error:  # a bug must not leave old evidence standing as if it were fresh
            log.exception("evidence not read")
            sentence = f"Evidence could not be read ({error}); see the operator's log."
            read = {key: Evidence(error=sentence, since=watch.since) for key, watch in watches.items()}
        self._observed(time.monotonic() - start, failed=any(evidence.error for evidence in read.values()))
        for key, watch in watches.items():
            # The watch may have been changed or dropped while the source was asked.
            if self._watches.get(key) == watch:
                self._put(key, read.get(key, NO_EVIDENCE))

    def _put(self, key: Key, new: Evidence) -> None:
        old = self._evidence.get(key)
        if new.error is not None and old is not None:
            # What was seen last stays visible, with its time; the error says that it is old.
            new = replace(old, error=new.error)
        if new != old:
            self._evidence[key] = new
            self.woke(key)
