"""What the demo prints: every line with the seconds since it began.

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
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """Begin a part."""
        self.plain(f"\n[{self.elapsed:4.0f} s] == {title}")

    def say(self, sentence: str) -> None:
        """Tell what happens."""
        self.plain(f"[{self.elapsed:4.0f} s] {sentence}")

    def plain(self, text: str) -> None:
        """Print as it is."""
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()
