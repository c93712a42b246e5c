"""What the collector asks of a metric source: exact counts for several rollouts, read at once.

Implemented by `serin.metric_sources.prometheus`; tests use a table. What the counts mean for a canary is not judged
here but in `serin.rollout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from serin.analysis.counts import MetricReadings, Wanted
from serin.kube_types import Key

LONGEST = timedelta(minutes=10)
"""No interval is longer: what was missed during an outage is read piece by piece."""
SHORTEST = timedelta(minutes=1)
"""Pieces are halved while reading them fails, but no further; twice while something that decides nothing is refused."""


@dataclass(frozen=True)
class Server:
    """A Prometheus, and how one gets in. Secrets are never shown."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request, such as the tenant's."""
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)
    """PEM of the authorities that its certificate is checked against; None: the system's."""


@dataclass(frozen=True, kw_only=True)
class Watch(Wanted):
    """What is wanted, of whom, and who is asked."""

    namespace: str
    name: str
    longest: timedelta = LONGEST
    """How much time one interval may span at most."""
    server: Server | None = None
    """Which Prometheus; None: the operator's own setting."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class MetricSource(Protocol):
    """One way to evidence."""

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, MetricReadings]:
        """The evidence of every watch as of now.

        Never raises: a source that is down, slow or talks nonsense gives `Evidence(error=…)` to every watch it fails.
        """
