"""What readers are told when the API server did not carry out a write that a decision needs.

Called by the reconciler, which makes what of the decision can be made: weight is taken from a canary all the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.api.status import LLMDeploymentStatus
from serin.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot

PATIENCE = timedelta(minutes=1)
"""How long a write may fail for a reason that may pass (a timeout, a webhook that is down) before it stalls."""

_FOR_GOOD = (Invalid, Forbidden, NotFound, Conflict)
"""Answers that come again until a person changes something."""


def with_refusal(
    snapshot: Snapshot, decision: Decision, error: ClusterError, before: LLMDeploymentStatus
) -> tuple[Snapshot, Decision]:
    """Snapshot and decision as the status tells them: Blocked, and stalled once the refusal is there to stay.

    Args:
        snapshot: what the decision rests on.
        decision: what could not be carried out as a whole.
        error: the first refusal.
        before: the status so far; it tells whether, and since when, writes have been refused.
    """
    reason, message = Reason.CHILD_REFUSED, str(error)
    rejection = decision.target.rejection if decision.target else None
    if decision.target and rejection:
        message += (
            f" {decision.target.revision} gets no traffic: it was rejected ({rejection.reason}). {rejection.message}"
        )
    stays = isinstance(error, _FOR_GOOD) or _has_lasted(snapshot, before)
    if stays:
        snapshot = replace(snapshot, target=None, spec_reason=reason, spec_error=message)
    stalled = reason if stays else None
    return snapshot, replace(decision, phase=Phase.BLOCKED, reason=reason, message=message, stalled=stalled)


def _has_lasted(snapshot: Snapshot, before: LLMDeploymentStatus) -> bool:
    ready = next((c for c in before.conditions if c.type == "Ready" and c.reason == Reason.CHILD_REFUSED), None)
    since = ready.last_transition_time if ready else None
    return since is not None and snapshot.now - since >= PATIENCE
