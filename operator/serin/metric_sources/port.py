"""The interfaces of metric sources: what the reconciler asks of the collector, and the collector of a source.

`serin.metric_sources.collector` implements the first; `serin.metric_sources.prometheus` and a table in tests implement
the second. What the counts mean for a canary is decided in `serin.analysis` and `serin.rollout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from serin.analysis.counts import MetricReadings, Wanted
from serin.errors import MetricsError
from serin.kube_types import Key

LONGEST = timedelta(minutes=10)
"""Longest interval of one read; after an outage the missing time is read in several intervals."""
SHORTEST = timedelta(minutes=1)
"""While reads fail, the longest interval is halved down to this; while only an optional tally is refused, down to a
quarter of LONGEST."""


class RefusedError(MetricsError):
    """The server refused this query, or the query cannot be made; others may still be answered."""


class TooLargeAnswerError(RefusedError):
    """The answer is larger than what is read; one to a narrower query may not be."""


@dataclass(frozen=True)
class Server:
    """A Prometheus server with its credentials, which are not part of the repr."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request, such as the header that names the tenant."""
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)
    """PEM of the certificate authorities that it is verified against; None: those of the system."""


@dataclass(frozen=True, kw_only=True)
class Watch(Wanted):
    """What to read for one LLMDeployment, and from which server."""

    namespace: str
    name: str
    longest: timedelta = LONGEST
    """Longest interval that one read may return."""
    server: Server | None = None
    """The server to query; None: the one of the operator's settings."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class MetricSource(Protocol):
    """A source of readings."""

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, MetricReadings]:
        """The readings of every watch as of now.

        Never raises: if the source is down, slow or sends an invalid answer, the readings of each watch that it cannot
        serve are `MetricReadings(error=…)`.
        """


class ReadingsSource(Protocol):
    """What was read for each LLMDeployment: the collector, as the reconciler uses it."""

    def set_watch(self, watch: Watch) -> None:
        """Start to read what this watch asks for, instead of what was asked for before."""

    def acknowledge(self, key: Key, until: datetime, epochs: tuple[int, ...]) -> None:
        """Drop the intervals up to `until`, which are persisted; from now on read only these epochs."""

    def drop(self, key: Key) -> None:
        """Stop to read for this LLMDeployment."""

    def watched(self, key: Key) -> Watch | None:
        """What is read now; None: nothing."""

    def readings(self, key: Key) -> MetricReadings:
        """What was read and not acknowledged."""
