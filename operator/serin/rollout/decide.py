"""The decision: from one frozen snapshot to the wanted world. Called by the reconciler on every tick; pure.

    command -> roles -> install | settled | rejected | on trial -> next split -> what may be deleted

A rollback is a decision like any other. Whatever was remembered is in the records; everything else is looked at anew.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from serin.rollout import roles, withdrawal
from serin.rollout.commands import CommandResult, carry_out, ignored, out_of_place, was_handled
from serin.rollout.conditions import REFUSAL_LASTS, lasting_refusal
from serin.rollout.decision import Decision, EvidenceWindow
from serin.rollout.guards import Candidate, Finding, blind_at_entry, carried, carries, first_finding, no_node_for
from serin.rollout.phases import Phase
from serin.rollout.ramp import pin, pods_for
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.snapshot import FULL_WEIGHT, EngineView, Snapshot
from serin.rollout.split import is_settled, next_split
from serin.rollout.trial import Trial
from serin.rollout.verdict import Judgement, judge


def decide(snapshot: Snapshot) -> Decision:
    """What is to be done now.

    Returns:
        The whole wanted world; a second call on a world that already is so asks for no write.
    """
    stable = roles.find_stable(snapshot)
    target, command = _obey(snapshot, stable)
    if unrecorded := roles.unrecorded(snapshot, stable):
        return _complete(snapshot, _orphaned(snapshot, unrecorded))
    if target is None:
        decision = _blocked(snapshot, stable)
    elif stable is None:
        decision = _install(snapshot, target)
    elif target.engine_revision == stable.engine_revision:
        decision = _settled(snapshot, stable, target)
    elif target.rejection:
        decision = _rejected(snapshot, stable, target)
    else:
        decision = _on_trial(snapshot, stable, target)
    return _complete(snapshot, replace(decision, command=command))


def _obey(snapshot: Snapshot, stable: Record | None) -> tuple[Record | None, CommandResult | None]:
    if not snapshot.command or was_handled(snapshot.command, snapshot.records):
        return snapshot.target, None
    if snapshot.target is None:
        return None, ignored(snapshot.command, "The spec cannot be carried out; correct it first.")
    return carry_out(snapshot.command, snapshot.target, stable, snapshot.now)


def _blocked(snapshot: Snapshot, stable: Record | None) -> Decision:
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


def _orphaned(snapshot: Snapshot, unrecorded: tuple[str, ...]) -> Decision:
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


def _install(snapshot: Snapshot, target: Record) -> Decision:
    """No stable yet: the target gets everything once it is Ready."""
    engine = _engine(snapshot, target)
    needed = max(1, snapshot.spec.replicas)
    common = Decision(
        phase=Phase.INSTALLING,
        reason=Reason.INSTALLING,
        message=f"{Reason.INSTALLING.explanation} {engine.ready} of {needed} pods Ready.",
        target=target,
        engines={target.engine_revision: needed},
        capacity=no_node_for(engine),
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
        return replace(_settled(snapshot, promoted, promoted), reason=Reason.PROMOTED)
    return replace(common, **_what_keeps(snapshot, engine, common.message))


def _what_keeps(snapshot: Snapshot, engine: EngineView, message: str) -> dict[str, Any]:
    """Why a first install is not Ready yet, as changes to its decision; it is never given up."""
    if no_node := no_node_for(engine):
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


def _settled(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
    """The stable's pods are what the spec asks for; anything else that still runs is being withdrawn."""
    engine = _engine(snapshot, stable)
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
        capacity=no_node_for(engine),
    )


def _rejected(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
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


def _on_trial(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
    """The target is the canary: ask the guards, move the ramp on if none objects."""
    trial = target.trial and target.trial.with_deadline(snapshot.now, frozen=snapshot.spec.paused)
    if trial is None or trial.against != stable.revision:
        trial = Trial(
            attempt=1 + (trial.attempt if trial else 0),
            against=stable.revision,
            steps=pin(snapshot.spec.rollout.ramp),
            started_at=snapshot.now,
        )
    candidate = Candidate(snapshot, stable, target, trial, _judgement(snapshot, stable, target, trial))
    if _is_current(snapshot, trial):  # counters that began anew must not hold the step until they have caught up
        trial = replace(trial, counted=min(trial.counted, candidate.counted))
        candidate = replace(candidate, trial=trial)
    finding = first_finding(candidate)
    if finding and finding.rejects:
        rejection = Rejection(finding.reason, finding.message, snapshot.now)
        decision = _rejected(snapshot, stable, replace(target, trial=trial, rejection=rejection))
        return replace(decision, judgement=candidate.judgement)
    if finding is None and candidate.is_last:
        promoted = replace(target, trial=None, promotion=roles.next_promotion(snapshot.records))
        decision = _settled(snapshot, promoted, promoted)
        return replace(decision, reason=Reason.PROMOTED, judgement=candidate.judgement)
    if finding is None:
        trial = trial.at_step(trial.step + 1, snapshot.now, candidate.counted if _is_current(snapshot, trial) else None)
        candidate = replace(candidate, trial=trial)
        finding = first_finding(candidate)
    return _trial_decision(candidate, finding)


def _trial_decision(candidate: Candidate, finding: Finding | None) -> Decision:
    snapshot, weight = candidate.snapshot, _weight_now(candidate)
    running = candidate.in_force and not snapshot.spec.paused and carries(candidate, candidate.weight)
    trial = candidate.trial.with_clock(snapshot.now, running=running)
    if weight and trial.traffic_since is None and candidate.in_route:
        trial = replace(trial, traffic_since=snapshot.now)
    if finding is None:  # all steps done and the pods are there already: the next tick promotes
        finding = Finding(Phase.PROMOTING, Reason.PROMOTING, Reason.PROMOTING.explanation, due_in=timedelta(seconds=0))
    canary = replace(candidate.record, trial=trial)
    return Decision(
        phase=Phase.PROMOTING if candidate.is_last and finding.phase is Phase.PREPARING else finding.phase,
        reason=finding.reason,
        message=finding.message,
        stable=candidate.stable,
        canary=canary,
        target=canary,
        weights={candidate.stable.revision: FULL_WEIGHT - weight} | _canary_share(candidate, weight),
        engines={
            candidate.stable.engine_revision: snapshot.spec.replicas,
            canary.engine_revision: max(candidate.pods_needed, pods_for(snapshot.spec.replicas, _routed(candidate))),
        },
        judgement=candidate.judgement,
        stalled=finding.reason if finding.stalls else None,
        capacity=no_node_for(candidate.engine),
        due_in=finding.due_in,
    )


def _routed(candidate: Candidate) -> int:
    """What the route gives the canary's pods now, under whichever revision; pods go after weight, not before."""
    weights, engine = candidate.snapshot.route.weights, candidate.record.engine_revision
    records = {r.revision: r for r in (*candidate.snapshot.records, candidate.record)}
    return sum(weights.get(r.revision, 0) for r in records.values() if r.engine_revision == engine)


def _weight_now(candidate: Candidate) -> int:
    """The step's weight if its pods are there, else what the route gives now, as far as the pods carry that."""
    frozen = candidate.snapshot.spec.paused or candidate.snapshot.route.refused or blind_at_entry(candidate)
    if carries(candidate, candidate.weight) and not frozen:
        return candidate.weight
    return min(candidate.weight_on_route, candidate.weight, carried(candidate))


def _canary_share(candidate: Candidate, weight: int) -> dict[str, int]:
    """The canary's backend; one that is in the route already stays there at 0 rather than leave and enter again."""
    present = candidate.record.revision in candidate.snapshot.route.weights
    return {candidate.record.revision: weight} if weight or present else {}


def _judgement(snapshot: Snapshot, stable: Record, target: Record, trial: Trial) -> Judgement:
    """The verdict over the trial's own window; evidence of an earlier window counts as none."""
    counts = snapshot.evidence.counts if _is_current(snapshot, trial) else {}
    return judge(counts.get(target.revision), counts.get(stable.revision))


def _is_current(snapshot: Snapshot, trial: Trial) -> bool:
    evidence = snapshot.evidence
    return trial.traffic_since is not None and evidence.since == trial.traffic_since and evidence.error is None


def _engine(snapshot: Snapshot, record: Record) -> EngineView:
    return snapshot.engines.get(record.engine_revision) or EngineView(record.engine_revision, replicas=0)


def _complete(snapshot: Snapshot, decision: Decision) -> Decision:
    """Add what every decision needs: the next safe split, what still drains, what is remembered and forgotten."""
    settled = is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds)
    weights = next_split(snapshot.route.weights, decision.weights, settled=settled) if decision.weights else {}
    leaving = withdrawal.leaving_engines(snapshot, decision)
    drained = frozenset(e for e in leaving if withdrawal.is_drained(snapshot, e, settled=settled))
    draining = {e: snapshot.engines[e].replicas for e in sorted(leaving - drained)}
    if draining or set(weights) != set(decision.weights):
        decision = withdrawal.describe(snapshot, decision, leaving)
    return replace(
        decision,
        weights=weights,
        engines={**decision.engines, **draining},
        retired=drained,
        records=_changed_records(snapshot, decision),
        forgotten=roles.prunable(
            snapshot, {r.revision for r in (decision.stable, decision.canary, decision.target) if r}
        ),
        window=_window(decision, frozenset(draining)),
        due_in=_due(snapshot, decision, settled=settled, draining=bool(draining)),
    )


def _changed_records(snapshot: Snapshot, decision: Decision) -> tuple[Record, ...]:
    stored = {r.revision: r for r in snapshot.records}
    wanted = roles.closed_trials(snapshot, decision.canary.revision if decision.canary else None)
    changed = {r.revision: r for r in wanted}
    for named in out_of_place(snapshot.command, snapshot.records, decision.target):
        changed[named.revision] = replace(changed.get(named.revision, named), handled=named.handled)
    for r in (decision.stable, decision.target):
        if r:  # one revision may be both: then the stable knows of its promotion, the target of its commands
            promotion = r.promotion or (changed[r.revision].promotion if r.revision in changed else None)
            handled = changed[r.revision].handled if r.revision in changed else r.handled
            changed[r.revision] = replace(r, promotion=promotion, handled=max(handled, r.handled, key=len))
    return tuple(replace(r, recorded=True) for r in changed.values() if not r.recorded or r != stored.get(r.revision))


def _window(decision: Decision, draining: frozenset[str]) -> EvidenceWindow | None:
    trial = decision.canary.trial if decision.canary else None
    if trial and decision.stable and decision.canary:
        # Before it has traffic, too: a canary that could not be watched must not get any.
        revisions = (decision.canary.revision, decision.stable.revision)
        return EvidenceWindow(trial.traffic_since, revisions, tuple(sorted(draining)))
    return EvidenceWindow(None, (), tuple(sorted(draining))) if draining else None


def _due(snapshot: Snapshot, decision: Decision, *, settled: bool, draining: bool) -> timedelta | None:
    """The earliest moment at which the clock alone may change the decision."""
    due = [decision.due_in] if decision.due_in is not None else []
    if snapshot.route.refused and snapshot.route.changed_at and not lasting_refusal(snapshot):
        due.append(snapshot.route.changed_at + REFUSAL_LASTS - snapshot.now)
    if snapshot.route.programmed and not settled:
        due.append(timedelta(seconds=snapshot.policy.settle_seconds + 1))
    if draining:
        due.append(timedelta(seconds=withdrawal.LOOK_AGAIN_SECONDS))
    return min(due) if due else None
