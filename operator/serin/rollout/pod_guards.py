"""Guards about the canary's own pods. Their order is in `serin.rollout.guards`."""

from __future__ import annotations

from datetime import timedelta

from serin.api.duration import format_duration
from serin.rollout.candidate import Candidate
from serin.rollout.finding import Finding, if_positive, rejection
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import ADD_CAPACITY, ready_of

KEEPS_EXITING = 3
"""So many ends of one pod's engine in a trial are a crash, also if hours lie between them: then nothing backs off."""


def canary_pod_crashed(c: Candidate) -> Finding | None:
    """Rejects a canary with a pod that crash-loops, keeps exiting or ran out of memory.

    Only ends of this attempt count, and they are told apart by their number: the clocks of operator, API server and
    nodes may differ.
    """
    for pod in c.engine.pods:
        exits = pod.exits - (c.trial.exits_before or {}).get(pod.name, 0)
        if pod.deleting or exits <= 0:
            continue
        if pod.crash:
            return rejection(Reason.CANARY_CRASHED, f"Pod {pod.name} failed: {pod.crash}.", pod.log)
        if exits >= KEEPS_EXITING:
            why = f"Pod {pod.name} failed: the engine exited {exits} times since the trial began."
            return rejection(Reason.CANARY_CRASHED, why, pod.log)
    return None


def too_few_pods_are_ready(c: Candidate) -> Finding | None:
    """Holds the canary until its pods carry the step; rejects it when pods with a node miss the progress deadline.

    Only a revision of which no pod was ever Ready is rejected. Later a pod that does not start says more about its
    node than about the revision, so the canary stalls.
    """
    if c.engine.ready >= c.pods_needed:
        return None
    ready, trouble = ready_of(c.engine.ready, c.pods_needed), c.engine.trouble
    left = c.progress_left
    late = left <= timedelta() and not c.snapshot.spec.paused
    if no_node := c.engine.no_node or (c.engine.unassigned if late else None):
        message = f"{ready}, because a pod cannot start; {ADD_CAPACITY}: {no_node}"
        return Finding(Reason.WAITING_FOR_CAPACITY, message, stalls=late, due_in=if_positive(left))
    if late:
        cause, log = (f": {trouble.cause}", trouble.log) if trouble else ("", ())
        deadline = format_duration(c.snapshot.spec.rollout.progress_deadline)
        message = f"{ready} after rollout.progressDeadline ({deadline}){cause}; see the pods' logs and events."
        if not c.was_ready:
            return rejection(Reason.PROGRESS_DEADLINE_EXCEEDED, message, log)
        revision = c.record.revision
        hint = f"Repair or delete the pod, or annotate with serin.dev/do=abort@{revision}#<token>."
        return Finding(Reason.PROGRESS_DEADLINE_EXCEEDED, f"{message} {hint}", stalls=True)
    if c.trial.traffic_since is None:
        reason = Reason.CANARY_LOADING
    else:
        reason = Reason.CANARY_SCALING if c.carries(c.weight_on_route) else Reason.CANARY_NOT_READY
    why = trouble.sentence if trouble else ""
    return Finding(reason, f"{reason.explanation} {ready}.{why}", due_in=if_positive(left))
