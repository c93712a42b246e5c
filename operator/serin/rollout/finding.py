"""What a guard answers: why the canary does not move on, and for how long.

Made by the guards (`serin.rollout.guards`), read by `serin.rollout.canary`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason


@dataclass(frozen=True)
class Finding:
    """Why the canary does not move on."""

    phase: Phase
    reason: Reason
    message: str
    rejects: bool = False
    """The canary is rolled back for good."""
    stalls: bool = False
    """A person or the world must act."""
    due_in: timedelta | None = None
    """When the clock alone may end this finding."""


def rejection(reason: Reason, message: str) -> Finding:
    """A finding that rolls the canary back."""
    return Finding(Phase.ROLLING_BACK, reason, message, rejects=True)


def if_positive(left: timedelta) -> timedelta | None:
    """The time that is left; None when it is over."""
    return left if left > timedelta() else None
