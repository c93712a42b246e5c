"""When a canary takes over without proof: no pod of the stable is Ready, so there is nothing to compare it with.

Called by `serin.rollout.canary` after the guards, whose rejection comes first. As in a first install, neither ramp nor
metrics are waited for; `spec.paused` and an unread API server hold.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from serin.api.duration import format_duration
from serin.rollout.candidate import Candidate
from serin.rollout.finding import Finding, if_positive
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import ready_of

TAKE_OVER_AFTER = timedelta(minutes=5)
"""For so long no pod of the stable must have been Ready: one that only restarts comes back first."""


def since_no_stable(c: Candidate) -> datetime | None:
    """Since when no pod of the stable has been Ready; as before while pods are not read."""
    if not c.snapshot.pods_are_known:
        return c.trial.no_stable_since
    engine = c.snapshot.engines.get(c.stable.engine_revision)
    if c.shared or not c.snapshot.spec.replicas or (engine and engine.ready):
        return None
    return c.trial.no_stable_since or c.snapshot.now


def can_take_over(c: Candidate) -> bool:
    """Whether the canary becomes the stable now: it has the pods for all traffic, or for its step and no node for more.

    The pods of the stable may hold the nodes that the canary's wait for.
    """
    if not _may_take_over(c):
        return False
    enough = c.pods_needed if c.engine.no_node else max(c.pods_needed, c.snapshot.spec.replicas)
    return c.engine.ready >= enough


def scaling_for_take_over(c: Candidate) -> Finding | None:
    """Why the canary does not take over yet although the stable is dead; None if the stable is not."""
    if not _may_take_over(c):
        return None
    needed = c.snapshot.spec.replicas
    message = (
        f"No pod of the stable, revision {c.stable.revision}, has been Ready for "
        f"{format_duration(TAKE_OVER_AFTER)}; see its pods and their logs. The canary gets all traffic when its pods "
        f"are Ready: {ready_of(c.engine.ready, needed)}."
    )
    return Finding(Reason.TAKING_OVER, message, stalls=c.progress_left <= timedelta())


def take_over_due(c: Candidate) -> timedelta | None:
    """Time until the stable counts as dead; None if it serves, or is dead already."""
    since = c.trial.no_stable_since
    return if_positive(since + TAKE_OVER_AFTER - c.snapshot.now) if since else None


def _may_take_over(c: Candidate) -> bool:
    since, snapshot = c.trial.no_stable_since, c.snapshot
    held = snapshot.unread or snapshot.spec.paused or snapshot.route.refused or c.trial.withdrawn_because
    return since is not None and not held and snapshot.now - since >= TAKE_OVER_AFTER
