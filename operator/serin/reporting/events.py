"""What people are told as Events: one per transition, read off the difference between two statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serin.api.status import LLMDeploymentStatus
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason

_BAD_REASONS = frozenset({Reason.NO_TRAFFIC, Reason.REQUESTS_MISSING, Reason.METRICS_UNAVAILABLE, Reason.BLIND})
"""What a person should look at although nothing has stalled."""
_BAD_PHASES = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.BLOCKED})


@dataclass(frozen=True)
class TransitionEvent:
    """One Event: reason as in the conditions, action is what Serin was at."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"]
    action: str


def transition_events(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> tuple[TransitionEvent, ...]:
    """The Events between two statuses; none if neither phase, reason, step nor command changed."""
    told = []
    stalled = _of(after, "Stalled")
    reason = stalled[1]
    if (before.phase, _of(before, "Stalled")[1], before.step) != (after.phase, reason, after.step):
        bad = stalled[0] == "True" or after.phase in _BAD_PHASES or reason in _BAD_REASONS
        step = f" Step {after.step}." if after.step else ""
        told.append(
            TransitionEvent(reason, f"{after.message}{step}", "Warning" if bad else "Normal", after.phase or "")
        )
    command = after.last_handled_command
    if command and command != before.last_handled_command:
        kind: Literal["Normal", "Warning"] = "Normal" if command.outcome == "CommandDone" else "Warning"
        told.append(TransitionEvent(command.outcome or "", command.message or "", kind, "Command"))
    return tuple(told)


def _of(status: LLMDeploymentStatus, type_: str) -> tuple[str, str]:
    found = next((c for c in status.conditions if c.type == type_), None)
    return (found.status, found.reason) if found else ("", "")
