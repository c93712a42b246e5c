"""The Events of a transition: one if phase, reason or step changed, and one for a handled command.

Computed from the status before and after, so a reconcile that changes neither emits none. Called by the reconciler
after the status was written. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serin.api.status import LLMDeploymentStatus
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason

_BAD_REASONS = frozenset({Reason.NO_TRAFFIC, Reason.REQUESTS_MISSING, Reason.METRICS_UNAVAILABLE, Reason.BLIND})
"""Reasons for a Warning although the rollout has not stalled."""
_BAD_PHASES = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.BLOCKED})


@dataclass(frozen=True)
class TransitionEvent:
    """One Event; its reason is that of the conditions, its action the phase, or `Command`."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"]
    action: str


def transition_events(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> tuple[TransitionEvent, ...]:
    """The Events between two statuses."""
    events = []
    # Every reason of the rollout is also the reason of Stalled, whatever its status.
    stalled, reason = _status_and_reason(after, "Stalled")
    _, reason_before = _status_and_reason(before, "Stalled")
    if (before.phase, reason_before, before.step) != (after.phase, reason, after.step):
        bad = stalled == "True" or after.phase in _BAD_PHASES or reason in _BAD_REASONS
        step = {None: "", "adaptive": " The ramp is adaptive.", "holdback": ""}.get(after.step, f" Step {after.step}.")
        message = f"{after.message}{step}{_revision(after)}"
        events.append(TransitionEvent(reason, message, "Warning" if bad else "Normal", after.phase or ""))
    command = after.last_handled_command
    if command and command != before.last_handled_command:
        kind: Literal["Normal", "Warning"] = "Normal" if command.outcome == "CommandDone" else "Warning"
        message = command.message or ""
        if command.command and command.command not in message:
            message = f"{command.command}: {message}"
        if command.by:
            message += f" Signed by {command.by}."
        events.append(TransitionEvent(command.outcome or "", message, kind, "Command"))
    return tuple(events)


def _revision(after: LLMDeploymentStatus) -> str:
    """Which revision an Event is about: the canary, else the stable; empty if its message names it."""
    side, name = (after.canary, "Canary") if after.canary else (after.stable, "Stable")
    revision = side.revision if side else None
    return "" if revision is None or revision in (after.message or "") else f" {name}: {revision}."


def _status_and_reason(status: LLMDeploymentStatus, type_: str) -> tuple[str, str]:
    found = next((c for c in status.conditions if c.type == type_), None)
    return (found.status, found.reason) if found else ("", "")
