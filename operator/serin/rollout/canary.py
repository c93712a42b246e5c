"""The decision while a canary is on trial: take in the evidence, ask the guards, move the ramp on if none objects.

    evidence so far + what was counted since -> judgement -> first finding of the guards -> hold, next step, or the end

Called by `serin.rollout.decide`. What the guards ask about is in `serin.rollout.guards`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.analysis import presets, trial_state, update
from serin.analysis.counts import Baseline
from serin.analysis.missing import missing
from serin.analysis.trial_state import MetricState, ThroughputState, TrialState
from serin.analysis.verdict import judge
from serin.api.names import FULL_WEIGHT
from serin.rollout import roles
from serin.rollout.candidate import Candidate
from serin.rollout.evidence_guards import canary_cannot_be_measured_yet
from serin.rollout.finding import Finding
from serin.rollout.guards import clock_due, deadline_promotes, first_finding
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.ramp import first_weight, pin, pin_budget, pin_holdback, pods_for, with_adaptive_weight
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.snapshot import Snapshot
from serin.rollout.steady import rejected, settled
from serin.rollout.trial import Trial

SAVE_EVERY = timedelta(seconds=30)
"""How often the state of the evidence is written while nothing was counted."""


def on_trial(snapshot: Snapshot, stable: Record, target: Record) -> Outcome:
    """The target is the canary: ask the guards, move the ramp on if none objects."""
    trial, state = _begun(snapshot, stable, target)
    candidate = _candidate(snapshot, stable, target, trial, state)
    finding = first_finding(candidate)
    if deadline_promotes(candidate, finding):
        ended = candidate.trial.at_step(len(candidate.trial.steps), snapshot.now, candidate.counted)
        # The old stable keeps its part also where the policy promotes, not a person.
        kept = replace(ended, in_holdback=True) if ended.holdback else replace(ended, forced=True)
        candidate = replace(candidate, trial=kept)
        finding = first_finding(candidate)
    ends = finding is None and candidate.is_last and _no_holdback_left(candidate.trial)
    if finding is None and not ends:
        candidate = _moved_on(candidate)
        finding = first_finding(candidate)
    if finding and finding.rejects:
        rejection = Rejection(finding.reason, finding.message, snapshot.now)
        refused = replace(target, trial=candidate.trial, rejection=rejection)
        return rejected(snapshot, stable, refused, judgement=candidate.judgement, state=state)
    if ends:
        promoted = replace(target, trial=None, promotion=roles.next_promotion(snapshot.records))
        return settled(snapshot, promoted, promoted, promotes=True, judgement=candidate.judgement, state=state)
    return _goes_on(candidate, finding)


def _begun(snapshot: Snapshot, stable: Record, target: Record) -> tuple[Trial, TrialState | None]:
    """The trial and its evidence; a new attempt where there is none against this stable, or its evidence is lost."""
    trial = target.trial and target.trial.with_deadline(snapshot.now, frozen=snapshot.spec.paused)
    state = _remembered(snapshot, target, trial) if trial else None
    if trial is not None and trial.against == stable.revision and (state or trial.traffic_since is None):
        taken = state and update.advance(
            state, snapshot.readings.intervals, canary=target.revision, stable=stable.revision
        )
        return trial, taken
    rollout = snapshot.spec.rollout
    new = Trial(
        attempt=1 + (trial.attempt if trial else 0),
        against=stable.revision,
        steps=pin(rollout.ramp),
        budget=pin_budget(rollout.ramp),
        holdback=pin_holdback(rollout.holdback),
        started_at=snapshot.now,
    )
    return new, None


def _remembered(snapshot: Snapshot, target: Record, trial: Trial) -> TrialState | None:
    """What is kept of this very trial, of nobody else's."""
    memory = snapshot.saved_state
    ours = memory is not None and memory.trial == trial_state.name_of(target.revision, trial.attempt)
    return memory if ours and trial.traffic_since is not None else None


def _candidate(snapshot: Snapshot, stable: Record, target: Record, trial: Trial, state: TrialState | None) -> Candidate:
    """The canary with the weight of an adaptive ramp as it is due, and sight taken into account."""
    candidate = Candidate(snapshot, stable, target, trial, judge(state), state)
    if _commanded(snapshot, trial):  # a command does not know what was counted
        trial = replace(trial, counted=candidate.counted)
    if trial.blinded and _has_seen(snapshot, state):
        # Sight has returned: what was learnt stays, the weight begins anew.
        trial = replace(trial.at_step(0, snapshot.now, candidate.counted), blinded=False, weight=0, in_holdback=False)
    waits = trial.weight == 0 or trial.traffic_since is None  # while it loads, traffic may change
    if trial.budget and waits and (rate := _rate_before(snapshot, state)) is not None:
        trial = replace(trial, weight=first_weight(trial.budget, rate, snapshot.policy))
    elif state and candidate.metrics_answer and not snapshot.spec.paused and replace(candidate, trial=trial).in_force:
        due = with_adaptive_weight(trial, state, snapshot.policy, snapshot.now)
        # Requests that are missing are in no count: what was counted must not give more weight meanwhile.
        trial = trial if due.weight > trial.weight and missing(state) else due
    if candidate.blind_too_long:
        trial = replace(trial, blinded=True)
    return replace(candidate, trial=trial)


def _commanded(snapshot: Snapshot, trial: Trial) -> bool:
    """Whether a person has just moved the trial to another step."""
    before = snapshot.target.trial if snapshot.target else None
    return before is not None and before.attempt == trial.attempt and before.step != trial.step


def _has_seen(snapshot: Snapshot, state: TrialState | None) -> bool:
    """Whether something was read just now: a source that has not been asked yet has not failed, either."""
    memory = snapshot.saved_state
    if snapshot.readings.error or state is None or memory is None:
        return False
    return state.until > memory.until


def _rate_before(snapshot: Snapshot, state: TrialState | None) -> float | None:
    if state:
        return state.requests_per_second
    return snapshot.readings.baseline.requests_per_second if snapshot.readings.baseline else None


def _no_holdback_left(trial: Trial) -> bool:
    return trial.holdback is None or trial.in_holdback or trial.forced


def _moved_on(candidate: Candidate) -> Candidate:
    """The same canary one step further; the holdback follows the ramp."""
    trial, now = candidate.trial, candidate.snapshot.now
    if candidate.is_last:
        return replace(candidate, trial=replace(trial.at_step(trial.step, now, candidate.counted), in_holdback=True))
    return replace(candidate, trial=trial.at_step(trial.step + 1, now, candidate.counted))


def _goes_on(candidate: Candidate, finding: Finding | None) -> Outcome:
    snapshot, weight = candidate.snapshot, _weight_now(candidate)
    running = candidate.in_force and not snapshot.spec.paused and candidate.carries(candidate.weight)
    trial = candidate.trial.with_clock(snapshot.now, running=running)
    trial = trial.with_exposure(snapshot.now, running=candidate.weight_on_route > 0 and not snapshot.spec.paused)
    state = candidate.state
    if weight and trial.traffic_since is None and candidate.in_route:
        trial = replace(trial, traffic_since=snapshot.now)
        state = _first_evidence(candidate)
    if finding is None:  # all steps done and the pods are there already: the next tick promotes
        finding = Finding(Reason.PROMOTING, Reason.PROMOTING.explanation, due_in=timedelta(seconds=0))
    canary = replace(candidate.record, trial=trial)
    return Outcome(
        Situation.ON_TRIAL,
        finding.reason,
        finding.message,
        stable=candidate.stable,
        canary=canary,
        target=canary,
        weights={candidate.stable.revision: FULL_WEIGHT - weight} | _canary_share(candidate, weight),
        engines={
            candidate.stable.engine_revision: snapshot.spec.replicas,
            canary.engine_revision: max(candidate.pods_needed, pods_for(snapshot.spec.replicas, _routed(candidate))),
        },
        judgement=candidate.judgement,
        trial_state=_to_be_kept(snapshot, state),
        had_traffic=candidate.trial.traffic_since is not None,
        stalled=finding.reason if finding.stalls else None,
        capacity=candidate.engine.no_node,
        due_in=_earliest(finding.due_in, clock_due(replace(candidate, trial=trial, state=state))),
    )


def _earliest(*times: timedelta | None) -> timedelta | None:
    return min((time for time in times if time is not None), default=None)


def _first_evidence(candidate: Candidate) -> TrialState:
    """Pin what is measured, by what the stable has shown; counting begins now."""
    snapshot, analysis = candidate.snapshot, candidate.snapshot.spec.analysis
    series, measured = snapshot.policy.series, candidate.measured
    baseline = snapshot.readings.baseline or Baseline(snapshot.now, 0.0)
    measurements = presets.measurements(analysis, series, baseline, measured=measured)
    throughputs = presets.throughputs(analysis, series)
    answers = presets.durations(series, measured=measured)
    return TrialState(
        trial=trial_state.name_of(candidate.record.revision, candidate.trial.attempt),
        against=candidate.stable.revision,
        since=snapshot.now,
        until=snapshot.now,
        metrics=tuple(map(MetricState.begin, measurements)),
        epochs={},
        requests_per_second=baseline.requests_per_second,
        settle_seconds=(
            max(presets.SETTLE_AT_LEAST, presets.answer_seconds(baseline, answers, 0.999))
            if analysis.settle_time is None
            else analysis.settle_time.total_seconds()
        ),
        blank_seconds=presets.blank_seconds(baseline, answers, snapshot.policy.slice_seconds),
        young_seconds=presets.young_seconds(baseline, answers, snapshot.policy.slice_seconds),
        arrivals=presets.arrivals(series, measured=measured),
        ended=presets.requests(series, measured=True) if measured else None,
        slice_seconds=snapshot.policy.slice_seconds,
        throughputs=tuple(map(ThroughputState, throughputs)),
    )


def _to_be_kept(snapshot: Snapshot, state: TrialState | None) -> TrialState | None:
    """The state, or what is kept already where nothing was counted: empty time is read again rather than written."""
    memory = snapshot.saved_state
    if state is None or memory is None or state.until - memory.until >= SAVE_EVERY:
        return state
    return memory if replace(state, until=memory.until) == memory else state


def _routed(candidate: Candidate) -> int:
    """What the route gives the canary's pods now, under whichever revision; pods go after weight, not before."""
    weights, engine = candidate.snapshot.route.weights, candidate.record.engine_revision
    records = {r.revision: r for r in (*candidate.snapshot.records, candidate.record)}
    return sum(weights.get(r.revision, 0) for r in records.values() if r.engine_revision == engine)


def _weight_now(candidate: Candidate) -> int:
    """The step's weight if its pods are there, else what the route gives now, as far as the pods carry that.

    Nothing while it could not be watched: also what it has from a trial whose evidence was lost.
    """
    if canary_cannot_be_measured_yet(candidate):
        return 0
    frozen = candidate.snapshot.spec.paused or candidate.snapshot.route.refused
    if candidate.carries(candidate.weight) and not frozen:
        return candidate.weight
    return min(candidate.weight_on_route, candidate.weight, candidate.weight_of_ready_pods)


def _canary_share(candidate: Candidate, weight: int) -> dict[str, int]:
    """The canary's backend; one that is in the route already stays there at 0 rather than leave and enter again."""
    present = candidate.record.revision in candidate.snapshot.route.weights
    return {candidate.record.revision: weight} if weight or present else {}
