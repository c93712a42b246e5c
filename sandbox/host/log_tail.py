"""The end of a log file, for messages about a component that did not start.

Callers: both tiers. Not here: writing logs (the components do) and printing them (the verb `logs`).
"""

from __future__ import annotations

from pathlib import Path


def last_lines(log: Path, size: int = 4000) -> str:
    """Return the last `size` bytes of a log, empty when there is none."""
    try:
        with log.open("rb") as content:
            content.seek(max(0, log.stat().st_size - size))
            return content.read().decode(errors="replace")
    except OSError:
        return ""


def last_line(log: Path) -> str:
    """Return the last line of a log, shortened."""
    lines = [line for line in last_lines(log).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "its log is empty"
