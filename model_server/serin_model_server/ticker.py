"""Calls a function at an interval in the event loop of the process, for as long as the loop runs.

Used by the recorder (silent requests) and by the channel (the split document). A timer instead of a task, so that
nothing has to be cancelled when the server shuts down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Ticker:
    """Calls `action` every `seconds`. An exception in it goes to `failed` and does not stop the ticker."""

    __slots__ = ("_action", "_failed", "_loop", "_seconds")

    def __init__(self, seconds: float, action: Callable[[], None], failed: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._failed = failed
        """Called while the exception is handled."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def ensure(self) -> None:
        """Start it in the running event loop, unless it runs there already."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(self._seconds, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            # Started again in another loop meanwhile.
            return
        try:
            self._action()
        except Exception:  # noqa: BLE001 - the next call may succeed
            self._failed()
        finally:
            loop.call_later(self._seconds, self._tick, loop)
