"""Guards about the canary's own pods. Their order is in `serin.rollout.guards`."""

from __future__ import annotations

from datetime import timedelta

from serin.api.duration import format_duration
from serin.rollout.candidate import Candidate
from serin.rollout.finding import Finding, if_positive, rejection
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import ADD_CAPACITY, ready_of

_WHOLE_SECOND = timedelta(seconds=1)
"""Kubernetes writes times in whole seconds, cut off."""


def canary_pod_crashed(c: Candidate) -> Finding | None:
    """Rejects a canary with a pod that crash-loops or ran out of memory."""
    for pod in c.engine.pods:
        # A pod of an earlier attempt may have crashed before this attempt began.
        earlier = pod.created_at is not None and pod.created_at < c.trial.started_at - _WHOLE_SECOND
        if pod.crash and not pod.deleting and not earlier:
            return rejection(Reason.CANARY_CRASHED, f"Pod {pod.name} failed: {pod.crash}.")
    return None


def too_few_pods_are_ready(c: Candidate) -> Finding | None:
    """Holds the canary until its pods carry the step; rejects it when pods with a node miss the progress deadline."""
    if c.engine.ready >= c.pods_needed:
        return None
    ready = ready_of(c.engine.ready, c.pods_needed)
    left = c.progress_left
    late = left <= timedelta() and not c.snapshot.spec.paused
    if no_node := c.engine.no_node:
        message = f"{ready}, because a pod cannot start; {ADD_CAPACITY}: {no_node}"
        return Finding(Reason.WAITING_FOR_CAPACITY, message, stalls=late, due_in=if_positive(left))
    if late:
        waiting = next((f": {pod.waiting}" for pod in c.engine.pods if pod.waiting), "")
        deadline = format_duration(c.snapshot.spec.rollout.progress_deadline)
        return rejection(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"{ready} after rollout.progressDeadline ({deadline}){waiting}; see the pods' logs and events.",
        )
    if c.trial.traffic_since is None:
        reason = Reason.CANARY_LOADING
    else:
        reason = Reason.CANARY_SCALING if c.carries(c.weight_on_route) else Reason.CANARY_NOT_READY
    return Finding(reason, f"{reason.explanation} {ready}.", due_in=if_positive(left))
