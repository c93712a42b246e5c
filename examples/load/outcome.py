"""The outcome of one request, and counts over many. Pure.

Called by the generator, which writes outcomes, and by the report, which counts them. Not here: sending.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One request as its sender saw it. Times are in seconds; `sent_at` is since 1970."""

    sent_at: float
    latency: float
    status: int | None
    """HTTP status; None without a response."""
    error: str | None
    """The client's error message; None if the model answered."""
    revision: str | None
    """The revision that answered, from the header `x-serin-revision`; None without it (`routing.revealRevision`)."""
    good: bool | None
    """Whether the model's answer was right; None without an answer."""
    long: bool = False
    """Whether the ticket had a long thread."""
    obeyed: bool | None = None
    """Whether the answer, right or wrong, was the JSON object that clients parse; None without an answer."""
    prompt: str | None = None
    """The prompt that answered, from the header `x-serin-prompt`; None without it."""

    @property
    def failed(self) -> bool:
        """Whether the user got an error instead of an answer."""
        return self.error is not None

    @property
    def ended_at(self) -> float:
        """When the answer or the error arrived."""
        return self.sent_at + self.latency


@dataclass(frozen=True)
class Counts:
    """Counts over many outcomes."""

    sent: int
    failed: int
    """Requests with an error instead of an answer."""
    wrong: int
    """Requests with a wrong answer."""
    latency: float
    """Median latency of the answers in seconds; 0 without any."""


def count(outcomes: Iterable[Outcome]) -> Counts:
    """Count outcomes."""
    every = list(outcomes)
    latencies = sorted(o.latency for o in every if not o.failed)
    return Counts(
        sent=len(every),
        failed=sum(o.failed for o in every),
        wrong=sum(o.good is False for o in every),
        latency=latencies[len(latencies) // 2] if latencies else 0.0,
    )
