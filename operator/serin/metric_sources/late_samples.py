"""How late the samples of a server can be queried, measured by process, and up to where all samples are known. Pure.

Remote write, an agent or a receiver makes samples visible only some time after their own time. Each read asks for the
newest sample of each process. When it advances, its age says how late it came; the largest such age is what a read
waits for. Held by `serin.metric_sources.prometheus`, one for each server; lost when the operator restarts, and then
measured again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

ADVANCES_WITHIN = 3
"""Scrape intervals without a newer sample, while others have one, after which a process counts as gone."""
PERIOD = 0.98
"""Share of the scrape interval that passes between two scrapes at the least: they are not exactly periodic."""
MOST = timedelta(minutes=4)
"""The longest that is waited for late samples: Prometheus shows a newest sample for five minutes."""
FORGOTTEN_AFTER = timedelta(minutes=10)
"""Longer than Prometheus shows the newest sample of a process that is gone."""
MOST_PROCESSES = 20_000
"""The most processes of which it remembers the newest sample; the others are taken to be in time."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[str, ...]
"""What identifies a process here: the values of the labels that were asked for."""


@dataclass
class _Newest:
    at: datetime
    """Time of the newest sample."""
    advanced: datetime
    """When a read first found it."""
    late: timedelta
    """Its age then."""
    measured: bool
    """Whether an older sample was known before. If not, the age may also be that of a sample that came in time."""


@dataclass
class LateSamples:
    """The newest sample of each process of one server."""

    newest: dict[Place, _Newest] = field(default_factory=dict)
    gone_before: datetime = _NEVER
    """A process whose newest sample was found before this is gone."""

    def note(self, found: Mapping[Place, datetime], now: datetime, scrape: timedelta) -> None:
        """Take the newest samples of a read.

        Args:
            found: by process, the time of its newest sample.
            now: the server's time.
            scrape: time between two scrapes.
        """
        for place, at in found.items():
            known = self.newest.get(place)
            if known is None and len(self.newest) >= MOST_PROCESSES:
                continue
            if known is None or at > known.at:
                self.newest[place] = _Newest(at, now, max(timedelta(), now - at), known is not None)
        # While no process advances, the samples of all are late: their way is interrupted, and they come in a burst.
        newest = max((each.advanced for each in self.newest.values()), default=now)
        self.gone_before = newest - ADVANCES_WITHIN * scrape
        for place in [place for place, each in self.newest.items() if now - each.advanced > FORGOTTEN_AFTER]:
            del self.newest[place]

    @property
    def most(self) -> timedelta:
        """How late samples may be, at most `MOST`: by the latest process, and by the age of what is new."""
        return min(MOST, max((each.late for each in self._running()), default=timedelta()))

    @property
    def measured(self) -> timedelta:
        """How late the samples of the latest process are known to be, at most `MOST`."""
        return min(MOST, max((each.late for each in self._running() if each.measured), default=timedelta()))

    def known_until(self, place: Place, scrape: timedelta) -> datetime | None:
        """The time until which no sample of a process can be missing; None if that is not known."""
        known = self.newest.get(place)
        return known.at + PERIOD * scrape if known and known.advanced >= self.gone_before else None

    def _running(self) -> Iterator[_Newest]:
        return (each for each in self.newest.values() if each.advanced >= self.gone_before)
