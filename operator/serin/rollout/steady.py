"""Outcomes without a canary: blocked, orphaned, first install, settled, rejected.

Called by `serin.rollout.decide` and, at the end of a trial, by `serin.rollout.canary`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.analysis.trial_state import TrialState
from serin.analysis.verdict import Judgement
from serin.api.duration import format_duration
from serin.api.names import FULL_WEIGHT
from serin.rollout.finding import Finding, if_positive
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.roles import next_promotion
from serin.rollout.snapshot import ADD_CAPACITY, EngineView, Snapshot, ready_of

CHECK_AGAIN = timedelta(minutes=1)
"""How often a blocked spec is tried again: what it waits for (a prompt, a ConfigMap of others) may not be watched."""


def blocked(snapshot: Snapshot, stable: Record | None) -> Outcome:
    """The spec cannot be carried out: the stable keeps serving, and a canary leaves."""
    return Outcome(
        Situation.BLOCKED,
        snapshot.spec_reason,
        snapshot.spec_error or snapshot.spec_reason.explanation,
        stable=stable,
        # A route that is not ours is not touched.
        weights={stable.revision: FULL_WEIGHT} if stable and not snapshot.route.foreign else {},
        engines={stable.engine_revision: snapshot.spec.replicas} if stable else _as_they_are(snapshot),
        stalled=snapshot.spec_reason,
        due_in=CHECK_AGAIN,
    )


def _as_they_are(snapshot: Snapshot) -> dict[str, int]:
    """All pods that run: without a stable it is not known which of them are needed."""
    return {name: engine.replicas for name, engine in snapshot.engines.items()}


def orphaned(snapshot: Snapshot, unrecorded: tuple[str, ...]) -> Outcome:
    """Revisions without a record serve: nothing is touched, so that no untested revision replaces them.

    A new target is not recorded either: it may be one of them, and then nothing would seem to be missing.
    """
    reason = Reason.STABLE_RECORD_MISSING
    recorded = {record.revision for record in snapshot.records}
    message = _unpromoted(unrecorded) if recorded.issuperset(unrecorded) else _without_record(unrecorded)
    target = snapshot.target if snapshot.target and snapshot.target.recorded else None
    return Outcome(
        Situation.BLOCKED,
        reason,
        message,
        target=target,
        engines=_as_they_are(snapshot),
        stalled=reason,
        due_in=CHECK_AGAIN,
    )


def _without_record(revisions: tuple[str, ...]) -> str:
    one = len(revisions) == 1
    subject = f"Revision {revisions[0]} runs" if one else f"Revisions {' and '.join(revisions)} run"
    return (
        f"{subject} without a ControllerRevision. Serin rebuilds one from Deployment, split document and "
        "PromptVersion, and one of these is missing. Restore the ControllerRevision from a backup, without its "
        "ownerReferences, or create the PromptVersion again."
    )


def _unpromoted(revisions: tuple[str, ...]) -> str:
    return (
        f"Revisions {' and '.join(revisions)} run, and no ControllerRevision says which of them was promoted. Restore "
        "the annotations of the ControllerRevisions from a backup, or change the spec to the revision that is not the "
        "stable."
    )


def install(snapshot: Snapshot, target: Record) -> Outcome:
    """There is no stable yet: the target gets all traffic when a pod is Ready, because nothing else can serve."""
    engine = engine_of(snapshot, target)
    needed = max(1, snapshot.spec.replicas)
    if not target.rejection and engine.ready:
        promoted = replace(target, promotion=next_promotion(snapshot.records), trial=None)
        return settled(snapshot, promoted, promoted, promotes=True)
    wait = _rejected_before(target) if target.rejection else _wait_for_install(snapshot, engine, needed)
    return Outcome(
        Situation.BLOCKED if target.rejection else Situation.INSTALLING,
        wait.reason,
        wait.message,
        target=target,
        engines={target.engine_revision: needed},
        stalled=wait.reason if wait.stalls else None,
        due_in=wait.due_in,
    )


def _rejected_before(target: Record) -> Finding:
    message = (
        f"Revision {target.revision} was rolled back before, and there is no stable; change the spec, or annotate "
        f"with serin.dev/do=retry@{target.revision}#<token> to try it again."
    )
    return Finding(Reason.ROLLED_BACK, message, stalls=True)


def _wait_for_install(snapshot: Snapshot, engine: EngineView, needed: int) -> Finding:
    """Why the first revision is not Ready yet; Serin never gives it up."""
    reason, limit = Reason.INSTALLING, snapshot.spec.rollout.progress_deadline
    message = f"{reason.explanation} {ready_of(engine.ready, needed)}."
    since, trouble = engine.not_ready_since(snapshot.now, limit), engine.trouble
    left = limit if since is None else limit - (snapshot.now - since)
    late, due_in = left <= timedelta(), if_positive(left) if since else None
    if crash := next((p for p in engine.pods if p.crash and not p.deleting), None):
        crashed = f"Pod {crash.name} failed: {crash.crash}. Correct spec.engine or spec.model."
        return Finding(Reason.CANARY_CRASHED, crashed, stalls=True)
    if no_node := engine.no_node or (engine.unassigned if late else None):
        waits = f"{message} A pod cannot start; {ADD_CAPACITY}: {no_node}"
        return Finding(Reason.WAITING_FOR_CAPACITY, waits, stalls=late, due_in=due_in)
    why = trouble.sentence if trouble else ""
    if not late:
        return Finding(reason, f"{message}{why}", due_in=due_in)
    missed = (
        f"{message} They missed rollout.progressDeadline ({format_duration(limit)}); see their logs and events.{why}"
    )
    return Finding(Reason.PROGRESS_DEADLINE_EXCEEDED, missed, stalls=True)


def settled(
    snapshot: Snapshot,
    stable: Record,
    target: Record,
    *,
    promotes: bool = False,
    judgement: Judgement | None = None,
    state: TrialState | None = None,
) -> Outcome:
    """The stable's pods are what the spec asks for; anything else that still runs leaves.

    `promotes` says that the stable is promoted by this very decision.
    """
    engine = engine_of(snapshot, stable)
    wanted = snapshot.spec.replicas
    if engine.ready == 0 and wanted > 0:
        reason = Reason.STABLE_UNAVAILABLE
    elif engine.ready < wanted:
        reason = Reason.SCALING
    else:
        reason = Reason.SERVING
    trouble = engine.trouble if engine.ready < wanted else None
    return Outcome(
        Situation.SETTLED,
        Reason.PROMOTED if promotes else reason,
        f"{reason.explanation} {ready_of(engine.ready, wanted)}.{trouble.sentence if trouble else ''}",
        stable=stable,
        target=target,
        weights={stable.revision: FULL_WEIGHT},
        engines={stable.engine_revision: wanted},
        judgement=judgement,
        trial_state=state,
    )


def rejected(
    snapshot: Snapshot,
    stable: Record,
    target: Record,
    *,
    judgement: Judgement | None = None,
    state: TrialState | None = None,
) -> Outcome:
    """The spec's revision was rolled back: the stable gets all traffic, and the revision is not tried again."""
    rejection = target.rejection
    why = f" ({rejection.reason}): {rejection.message}" if rejection else "."
    return Outcome(
        Situation.REJECTED,
        Reason.ROLLED_BACK,
        (
            f"Revision {target.revision} was rolled back{why} Change the spec, or annotate "
            f"with serin.dev/do=retry@{target.revision}#<token> to try it again."
        ),
        stable=stable,
        target=target,
        weights={stable.revision: FULL_WEIGHT},
        engines={stable.engine_revision: snapshot.spec.replicas},
        judgement=judgement,
        trial_state=state,
        stalled=Reason.ROLLED_BACK,
    )


def engine_of(snapshot: Snapshot, record: Record) -> EngineView:
    """The pods of a revision; empty before its Deployment exists."""
    return snapshot.engines.get(record.engine_revision) or EngineView(record.engine_revision, replicas=0)
