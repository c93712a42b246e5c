"""Prints lines that begin with the seconds since the start of the demo.

Called by all other modules. Not here: the table (report).
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO


class Teller:
    """Prints lines, from any thread."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since this object was created."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """Print a heading."""
        self.plain(f"\n[{self.elapsed:4.0f} s] == {title}")

    def say(self, sentence: str) -> None:
        """Print one line with the elapsed time."""
        self.plain(f"[{self.elapsed:4.0f} s] {sentence}")

    def plain(self, text: str) -> None:
        """Print text without the elapsed time."""
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()
