"""What the status says if the API server did not carry out a write that the decision needs.

Called by the reconciler after `serin.plan_execution`, which has taken weight from the canary all the same if that was
decided. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from serin.api.status import LLMDeploymentStatus
from serin.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot

TEMPORARY = timedelta(minutes=1)
"""How long writes may fail for a temporary reason (a timeout, a webhook that is down) before the rollout stalls."""

_FINAL = (Invalid, Forbidden, NotFound, Conflict)
"""Answers that stay the same until somebody changes something."""


def with_refusal(
    snapshot: Snapshot, decision: Decision, error: ClusterError, before: LLMDeploymentStatus
) -> tuple[Snapshot, Decision]:
    """Snapshot and decision for the status: Blocked, and stalled if the refusal is final or has lasted.

    Args:
        snapshot: the input of the decision.
        decision: what could not be carried out completely.
        error: the first refusal.
        before: the status so far, which says since when writes have been refused.
    """
    reason, message = Reason.CHILD_REFUSED, str(error)
    rejection = decision.target.rejection if decision.target else None
    if decision.target and rejection:
        message += (
            f" Revision {decision.target.revision} gets no traffic, because it was rejected ({rejection.reason}): "
            f"{rejection.message}"
        )
    final = isinstance(error, _FINAL) or _has_lasted(snapshot, before)
    if final:
        snapshot = replace(snapshot, target=None, spec_reason=reason, spec_error=message)
    stalled = reason if final else None
    return snapshot, replace(decision, phase=Phase.BLOCKED, reason=reason, message=message, stalled=stalled)


def unread_since(before: LLMDeploymentStatus) -> datetime | None:
    """Since when reads have failed, as the status so far says; None: they did not."""
    ready = next((c for c in before.conditions if c.type == "Ready" and c.reason == Reason.READ_FAILED), None)
    return ready.last_transition_time if ready else None


def _has_lasted(snapshot: Snapshot, before: LLMDeploymentStatus) -> bool:
    ready = next((c for c in before.conditions if c.type == "Ready" and c.reason == Reason.CHILD_REFUSED), None)
    since = ready.last_transition_time if ready else None
    return since is not None and snapshot.now - since >= TEMPORARY
