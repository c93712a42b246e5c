"""Decisions without a canary: blocked, orphaned, first install, settled, rolled back.

Called by `serin.rollout.decide` and, for what a trial ends in, by `serin.rollout.canary`. They say what is wanted in
the end; the next safe split and what still drains are added by `decide`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from serin.api.names import FULL_WEIGHT
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import EngineView, Snapshot


def blocked(snapshot: Snapshot, stable: Record | None) -> Decision:
    """The spec cannot be carried out: the stable serves on, a canary that nobody asks for any more leaves."""
    return Decision(
        phase=Phase.BLOCKED,
        reason=snapshot.spec_reason,
        message=snapshot.spec_error or snapshot.spec_reason.explanation,
        stable=stable,
        # A route that is not ours is not touched, whoever serves.
        weights={stable.revision: FULL_WEIGHT} if stable and not snapshot.route.foreign else {},
        engines={stable.engine_revision: snapshot.spec.replicas} if stable else {},
        stalled=snapshot.spec_reason,
    )


def orphaned(snapshot: Snapshot, unrecorded: tuple[str, ...]) -> Decision:
    """The route serves revisions without a record: touch nothing, an untested revision must not replace them.

    Nor is a new target recorded meanwhile: it may be one of them, and nothing would seem to be missing any more.
    """
    message = (
        f"The route serves {', '.join(unrecorded)}, whose ControllerRevision is gone; restore it from a backup, or "
        "delete the HTTPRoute to install the spec's revision from scratch."
    )
    reason = Reason.STABLE_RECORD_MISSING
    target = snapshot.target if snapshot.target and snapshot.target.recorded else None
    return Decision(phase=Phase.BLOCKED, reason=reason, message=message, target=target, stalled=reason)


def install(snapshot: Snapshot, target: Record) -> Decision:
    """No stable yet: the target gets everything once it is Ready."""
    engine = engine_of(snapshot, target)
    needed = max(1, snapshot.spec.replicas)
    common = Decision(
        phase=Phase.INSTALLING,
        reason=Reason.INSTALLING,
        message=f"{Reason.INSTALLING.explanation} {engine.ready} of {needed} pods Ready.",
        target=target,
        engines={target.engine_revision: needed},
        capacity=engine.no_node,
    )
    if target.rejection:
        message = (
            f"{target.revision} was rolled back before and there is no stable; change the spec, or annotate with "
            f"serin.dev/do=retry@{target.revision}#<token>."
        )
        reason = Reason.ROLLED_BACK
        return replace(common, phase=Phase.BLOCKED, reason=reason, message=message, stalled=reason)
    if engine.ready >= needed:
        promoted = replace(target, promotion=1, trial=None)
        return replace(settled(snapshot, promoted, promoted), reason=Reason.PROMOTED)
    return replace(common, **_what_keeps(snapshot, engine, common.message))


def _what_keeps(snapshot: Snapshot, engine: EngineView, message: str) -> dict[str, Any]:
    """Why a first install is not Ready yet, as changes to its decision; it is never given up."""
    if no_node := engine.no_node:
        return {"message": f"{message} {no_node}", "reason": Reason.WAITING_FOR_CAPACITY}
    if crash := next((p for p in engine.pods if p.crash), None):
        told = f"Pod {crash.name}: {crash.crash}; correct spec.engine or spec.model."
        return {"message": told, "reason": Reason.CANARY_CRASHED, "stalled": Reason.CANARY_CRASHED}
    waiting = next((f" {p.name}: {p.waiting}." for p in engine.pods if p.waiting), "")
    since = min((p.not_ready_since for p in engine.pods if p.not_ready_since and not p.deleting), default=None)
    if since is None:
        return {}
    left = snapshot.spec.rollout.progress_deadline - (snapshot.now - since)
    if left > timedelta():
        return {"message": f"{message}{waiting}", "due_in": left}
    overdue = Reason.PROGRESS_DEADLINE_EXCEEDED
    told = f"{message} The progress deadline is over; see the pods' logs and events.{waiting}"
    return {"message": told, "reason": overdue, "stalled": overdue}


def settled(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
    """The stable's pods are what the spec asks for; anything else that still runs is being withdrawn."""
    engine = engine_of(snapshot, stable)
    wanted = snapshot.spec.replicas
    if engine.ready == 0 and wanted > 0:
        phase, reason = Phase.STABLE, Reason.STABLE_UNAVAILABLE
    elif engine.ready < wanted:
        phase, reason = Phase.STABLE, Reason.SCALING
    else:
        phase, reason = Phase.STABLE, Reason.SERVING
    return Decision(
        phase=phase,
        reason=reason,
        message=f"{reason.explanation} {engine.ready} of {wanted} pods Ready.",
        stable=stable,
        target=target,
        weights={stable.revision: FULL_WEIGHT},
        engines={stable.engine_revision: wanted},
        capacity=engine.no_node,
    )


def rejected(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
    """The spec's revision was rolled back: every request to the stable, and it is not tried again."""
    rejection = target.rejection
    why = f" ({rejection.reason}): {rejection.message}" if rejection else "."
    return Decision(
        phase=Phase.ROLLED_BACK,
        reason=Reason.ROLLED_BACK,
        message=(
            f"{target.revision} was rolled back{why} Change the spec, or annotate "
            f"with serin.dev/do=retry@{target.revision}#<token> to try it again."
        ),
        stable=stable,
        target=target,
        weights={stable.revision: FULL_WEIGHT},
        engines={stable.engine_revision: snapshot.spec.replicas},
        stalled=Reason.ROLLED_BACK,
    )


def engine_of(snapshot: Snapshot, record: Record) -> EngineView:
    """The pods of a revision; empty before its Deployment exists."""
    return snapshot.engines.get(record.engine_revision) or EngineView(record.engine_revision, replicas=0)
