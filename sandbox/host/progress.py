"""Progress for people: every step by name, with the share of the whole that is done and the seconds the step took.

On a terminal the running step is one line that counts; elsewhere it is plain lines with a heartbeat on long steps.
Callers: the cache, both tiers, the image builder. A step's share is its usual duration: percentages follow the clock.
Not here: what the steps do.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

_HEARTBEAT_SECONDS = 20.0


def share(done: float, total: float) -> int:
    """Return `done` seconds as whole percent of `total` seconds, at most 99."""
    return 0 if total <= 0 else min(99, int(100 * done / total))


class Progress:
    """The display of one run; `plan` maps each step's name to the seconds it usually takes."""

    def __init__(
        self, plan: Mapping[str, float], *, stream: TextIO = sys.stdout, heartbeat: float = _HEARTBEAT_SECONDS
    ) -> None:
        self._plan = dict(plan)
        self._total = sum(plan.values())
        self._done = 0.0
        self._stream = stream
        self._live = stream.isatty()
        self._heartbeat = heartbeat
        self._began = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print `name` while the body runs; steps that are not in the plan have no share."""
        usual = self._plan.get(name, 0.0)
        began = time.monotonic()
        over = threading.Event()
        announce = f"[{share(self._done, self._total):3d}%] {name}"
        if usual >= 2:
            announce += f" (about {usual:.0f} s)"
        self._print(announce, last=False)
        clock = threading.Thread(target=self._tick, args=(announce, name, usual, began, over), daemon=True)
        clock.start()
        try:
            yield
        finally:
            over.set()
            clock.join()
        self._done += usual
        took = time.monotonic() - began
        if self._live or took >= 1:
            self._print(f"[{share(self._done, self._total):3d}%] {name}: done in {took:.1f} s", last=True)

    def note(self, sentence: str) -> None:
        """Print a sentence that is not a step."""
        self._print(f"       {sentence}", last=True)

    def finish(self, sentence: str) -> None:
        """Print that everything is done."""
        self._print(f"[100%] {sentence} ({time.monotonic() - self._began:.1f} s)", last=True)

    def _tick(self, announce: str, name: str, usual: float, began: float, over: threading.Event) -> None:
        while not over.wait(1.0 if self._live else self._heartbeat):
            took = time.monotonic() - began
            if self._live:
                self._print(f"{announce} {took:.0f} s", last=False)
            else:
                expected = f" of about {usual:.0f} s" if usual else ""
                self._print(f"       … still {name}: {took:.0f} s{expected}", last=True)

    def _print(self, line: str, *, last: bool) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
