"""What the collector asks of a metric source: the evidence of several rollouts, read at once.

Implemented by `serin.metric_sources.prometheus`; tests use a table. What the counts mean for a canary is not judged
here but in `serin.rollout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from serin.rollout.snapshot import Evidence

Key = tuple[str, str]
"""Namespace and name of an LLMDeployment."""


@dataclass(frozen=True)
class Watch:
    """What one LLMDeployment wants to know."""

    namespace: str
    name: str
    since: datetime | None = None
    """Start of the window that requests are counted over; None: no counts wanted."""
    revisions: tuple[str, ...] = ()
    """Revisions whose finished requests are counted."""
    engine_revisions: tuple[str, ...] = ()
    """Engine revisions whose requests in flight are wanted."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class MetricSource(Protocol):
    """One way to evidence."""

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, Evidence]:
        """The evidence of every watch as of now.

        Never raises: a source that is down, slow or talks nonsense gives `Evidence(error=…)` to every watch.
        """
