"""A finding: why a revision does not move on, and for how long.

Guards answer with one (`serin.rollout.guards`), as does the first install (`serin.rollout.steady`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from serin.rollout.reasons import Reason


@dataclass(frozen=True)
class Finding:
    """Why a revision does not move on."""

    reason: Reason
    message: str
    rejects: bool = False
    """The canary is rolled back for good."""
    stalls: bool = False
    """A person or the world must act."""
    due_in: timedelta | None = None
    """When the clock alone may end this finding."""
    log: tuple[str, ...] = ()
    """The last lines of the log that show why, to be recorded with a rejection."""


def rejection(reason: Reason, message: str, log: tuple[str, ...] = ()) -> Finding:
    """A finding that rolls the canary back."""
    return Finding(reason, message, rejects=True, log=log)


def if_positive(left: timedelta) -> timedelta | None:
    """The time that is left; None when it is over."""
    return left if left > timedelta() else None
