"""Runs the checks of one answer: the cheap ones at once, the others in the child process.

Created by the recorder, used by the middleware in vLLM's event loop, after the last byte of a response has been sent.
Only answers with outcome ok are checked; another outcome is counted already.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Counter

from ..labels import Identity
from .answer import NOT_ASKED, SKIPPED, overall
from .document import Check, Checks
from .process import CheckProcess, Job
from .series import CheckCounters
from .texts import PATHS, Held, Reader


class Reading(NamedTuple):
    """A response that is read, and the checks that it will get."""

    reader: Reader
    checks: tuple[Check, ...]


class Checker:
    """The checks of one API server.

    Args:
        counters: what the results are counted in.
        process: what judges the answers that are not judged here.
        draw: a random number from 0 to 1, by which a sample is taken.
    """

    def __init__(
        self,
        counters: CheckCounters,
        process: CheckProcess | None = None,
        draw: Callable[[], float] = random.random,
        held: Held | None = None,
    ) -> None:
        self._counters = counters
        self._process = CheckProcess() if process is None else process
        self._draw = draw
        self.held = Held() if held is None else held

    def begin(
        self, path: str, revision: str, checks: Checks | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> Reading | None:
        """Begin to read a response with status 2xx and these headers; None if nothing is to be checked."""
        if checks is None or path not in PATHS:
            return None
        drawn = tuple(
            check for check in checks.of_revision.get(revision, ()) if check.sample >= 1 or self._draw() < check.sample
        )
        return Reading(Reader(path, headers, self.held), drawn) if drawn else None

    def finish(self, reading: Reading, identity: Identity) -> None:
        """Check a response that is complete, and count the results."""
        try:
            self._finish(reading, identity)
        finally:
            self.drop(reading)

    def _finish(self, reading: Reading, identity: Identity) -> None:
        counters = ((check, self._counters.of(identity, check)) for check in reading.checks)
        wanted = [(check, counted) for check, counted in counters if counted is not None]
        choices = reading.reader.choices()
        slow = []
        for check, counted in wanted:
            if choices is None:
                counted[SKIPPED].inc()
            elif check.judge is not None:
                _count(counted, overall(map(check.judge, choices)))
            else:
                slow.append((check, counted))
        if not slow or choices is None:
            return
        kept, reading.reader.texts.kept = reading.reader.texts.kept, 0

        def done(results: Sequence[str]) -> None:
            self.held.give_back(kept)
            for (_, counted), result in zip(slow, results, strict=True):
                _count(counted, result)

        job = Job(tuple(check.task for check, _ in slow), tuple(choices), done)
        if not self._process.submit(job):
            done([SKIPPED] * len(slow))

    def drop(self, reading: Reading) -> None:
        """Forget a response that is not to be checked; to be called if `finish` is not."""
        kept, reading.reader.texts.kept = reading.reader.texts.kept, 0
        self.held.give_back(kept)


def _count(counted: Mapping[str, Counter], result: str) -> None:
    if result != NOT_ASKED:
        counted[result].inc()
