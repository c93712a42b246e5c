"""What is known of one request, and what many of them add up to. Pure.

Called by the generator, which writes outcomes, and by the report, which counts them. Not here: sending.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One request as its sender saw it. Times are seconds; `sent_at` counts from the epoch."""

    sent_at: float
    latency: float
    status: int | None
    """HTTP status; None if no answer came."""
    error: str | None
    """Why there is no answer to judge, in the client's words; None for an answer."""
    revision: str | None
    """Who answered, from the header `x-serin-revision`; None if the answer does not say."""
    good: bool | None
    """Whether the model's answer was the right one; None if there is none to judge."""
    long: bool = False
    """Whether the ticket carried a long thread."""

    @property
    def failed(self) -> bool:
        """Whether the user got an error instead of an answer."""
        return self.error is not None

    @property
    def ended_at(self) -> float:
        """When the answer, or the error, was there."""
        return self.sent_at + self.latency


@dataclass(frozen=True)
class Counts:
    """Many outcomes in numbers."""

    sent: int
    failed: int
    """Users saw an error."""
    wrong: int
    """Users saw an answer, and it was not the right one."""
    latency: float
    """Median over the answers, in seconds; 0 without any."""


def count(outcomes: Iterable[Outcome]) -> Counts:
    """Add up."""
    every = list(outcomes)
    latencies = sorted(o.latency for o in every if not o.failed)
    return Counts(
        sent=len(every),
        failed=sum(o.failed for o in every),
        wrong=sum(o.good is False for o in every),
        latency=latencies[len(latencies) // 2] if latencies else 0.0,
    )
