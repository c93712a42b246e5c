"""Finds the requests on whose connection no byte has passed for 30, 60, 120, 300 or 600 seconds.

Called by the recorder. A request that hangs must count without waiting for its end, which may never come. What counts
as a byte: one of the response's body, and before it one of the request's body, so that a slow upload is no slow model.

Each request in flight is in one slot, the second in which it reaches its next limit unless a byte passes. A byte only
sets a time; the request is moved when its slot is due, at most once in 30 seconds. So a request costs two set
operations, a byte one comparison, a sweep only the requests that are due, and nothing outlives its request.
"""

from __future__ import annotations

import math

from .metrics import SILENCE_LIMITS, Pair


class Silence:
    """The silence of one request. Times are on the recorder's clock, in seconds."""

    __slots__ = ("_pair", "_reached", "last_byte", "limit", "slot")

    def __init__(self, pair: Pair, now: float) -> None:
        self._pair = pair
        self._reached = 0
        self.last_byte = now
        """When the last byte passed; at first, when the request arrived."""
        self.limit = SILENCE_LIMITS[0]
        """The shortest silence that was not counted yet; infinite if there is none."""
        self.slot = 0

    def byte(self, now: float) -> None:
        """A byte passes, so the silence begins anew; the one before counts even if no sweep has seen it."""
        if now - self.last_byte >= self.limit:
            self.count(now)
        self.last_byte = now

    def count(self, now: float) -> None:
        """Count the limits that the silence has reached by now; each once in the request's life."""
        while now - self.last_byte >= self.limit:
            place = self._reached
            self._reached = place + 1
            self.limit = SILENCE_LIMITS[place + 1] if place + 1 < len(SILENCE_LIMITS) else math.inf
            self._pair.overdue[place].inc()
            self._pair.settled[place].inc()

    def end(self, now: float) -> None:
        """The request ends: it counts as settled for the limits that it has not reached."""
        self.count(now)
        for settled in self._pair.settled[self._reached :]:
            settled.inc()
        self._reached = len(SILENCE_LIMITS)
        self.limit = math.inf


class Watch:
    """The requests in flight that have not reached every limit."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Silence]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def enter(self, silence: Silence) -> None:
        """Watch a request, or watch it further; nothing happens if it has reached every limit."""
        if silence.limit == math.inf:
            return
        # Rounded down: a request may be looked at once more, but none is counted later than the sweep after its limit.
        silence.slot = math.floor(silence.last_byte + silence.limit)
        slot = self._slots.get(silence.slot)
        if slot is None:
            slot = self._slots[silence.slot] = set()
        slot.add(silence)

    def leave(self, silence: Silence) -> None:
        """Watch a request no longer; nothing happens if it is not watched."""
        slot = self._slots.get(silence.slot)
        if slot is not None:
            slot.discard(silence)
            if not slot:
                del self._slots[silence.slot]

    def due(self, now: float) -> list[Silence]:
        """Take out the requests whose slot has begun. There is at most one slot per second of the longest limit."""
        begun = [slot for slot in self._slots if slot <= now]
        return [silence for slot in begun for silence in self._slots.pop(slot)]
