"""The decision while a canary is on trial: ask the guards, move the ramp on if none objects, end it if one rejects.

Called by `serin.rollout.decide`. What the guards ask about is in `serin.rollout.guards`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.rollout import roles
from serin.rollout.decision import Decision
from serin.rollout.guards import Candidate, Finding, blind_at_entry, carried, carries, first_finding, no_node_for
from serin.rollout.phases import Phase
from serin.rollout.ramp import pin, pods_for
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.snapshot import FULL_WEIGHT, Snapshot
from serin.rollout.standing import rejected, settled
from serin.rollout.trial import Trial
from serin.rollout.verdict import Judgement, judge


def on_trial(snapshot: Snapshot, stable: Record, target: Record) -> Decision:
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
        decision = rejected(snapshot, stable, replace(target, trial=trial, rejection=rejection))
        return replace(decision, judgement=candidate.judgement)
    if finding is None and candidate.is_last:
        promoted = replace(target, trial=None, promotion=roles.next_promotion(snapshot.records))
        decision = settled(snapshot, promoted, promoted)
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
