"""The outcome while a canary is on trial: count the new readings, ask the guards, move the ramp on if none objects.

    stored trial state + new readings -> judgement -> first finding of the guards -> hold, next step, or the end

Called by `serin.rollout.decide`. What the guards ask about is in `serin.rollout.guards`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.analysis import companions, presets, trial_state, update
from serin.analysis.counts import Baseline
from serin.analysis.missing import lost_beyond_doubt
from serin.analysis.scraped import StablePods
from serin.analysis.trial_state import MetricState, ThroughputState, TrialState, without_arrivals
from serin.analysis.verdict import against_more_weight, judge
from serin.api.names import FULL_WEIGHT
from serin.rollout import roles
from serin.rollout.candidate import Candidate
from serin.rollout.evidence_guards import canary_cannot_be_measured_yet, gateway_drops_epoch
from serin.rollout.finding import Finding
from serin.rollout.guards import clock_due, deadline_promotes, first_finding
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.ramp import first_weight, pin, pin_budget, pin_holdback, pods_for, with_adaptive_weight
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.snapshot import Fact, Snapshot
from serin.rollout.steady import rejected, settled
from serin.rollout.take_over import can_take_over, scaling_for_take_over, since_no_stable, take_over_due
from serin.rollout.trial import Trial

SAVE_EVERY = timedelta(seconds=30)
"""How often the trial state is written while nothing is counted."""


def on_trial(snapshot: Snapshot, stable: Record, target: Record) -> Outcome:
    """What follows for the target, which is the canary: hold, next step, rollback or promotion."""
    trial, state = _current_trial(snapshot, stable, target)
    candidate = _candidate(snapshot, stable, target, trial, state)
    finding = first_finding(candidate)
    if deadline_promotes(candidate, finding):
        ended = candidate.trial.at_step(len(candidate.trial.steps), snapshot.now, candidate.counted)
        # The holdback comes first, as after a Pass.
        ended = replace(ended, in_holdback=True) if ended.holdback else replace(ended, forced=True)
        candidate = _with_holdback(replace(candidate, trial=ended))
        finding = first_finding(candidate)
    ends = finding is None and candidate.is_last and _no_holdback_left(candidate.trial)
    if finding is None and not ends:
        candidate = _at_next_step(candidate)
        finding = first_finding(candidate)
    if finding and finding.rejects:
        rejection = Rejection(finding.reason, finding.message, snapshot.now, finding.log)
        refused = replace(target, trial=candidate.trial, rejection=rejection)
        return rejected(snapshot, stable, refused, judgement=candidate.judgement, state=state)
    takes_over = not ends and can_take_over(candidate)
    if ends or takes_over:
        promoted = replace(target, trial=None, promotion=roles.next_promotion(snapshot.records))
        outcome = settled(snapshot, promoted, promoted, promotes=True, judgement=candidate.judgement, state=state)
        return replace(outcome, reason=Reason.TAKEN_OVER) if takes_over else outcome
    return _continue(candidate, scaling_for_take_over(candidate) or finding)


def _current_trial(snapshot: Snapshot, stable: Record, target: Record) -> tuple[Trial, TrialState | None]:
    """The trial with its updated state; a new attempt if none runs against this stable, or if its state is lost."""
    trial = target.trial and target.trial.with_deadline(snapshot.now, frozen=snapshot.spec.paused)
    state = _saved_state(snapshot, target, trial) if trial else None
    goes_on = state or Fact.STATE in snapshot.unread or (trial is not None and trial.traffic_since is None)
    if trial is not None and trial.against == stable.revision and goes_on:
        updated = state and update.advance(
            state,
            snapshot.readings.intervals,
            canary=target.revision,
            stable=stable.revision,
            pods=_stable_pods(snapshot, stable),
        )
        if trial.exits_before is None and snapshot.pods_are_known:
            trial = replace(trial, exits_before=_exits(snapshot, target))
        return trial, updated
    rollout = snapshot.spec.rollout
    new = Trial(
        attempt=1 + (trial.attempt if trial else 0),
        against=stable.revision,
        steps=pin(snapshot.spec.ramp),
        budget=pin_budget(snapshot.spec.ramp),
        holdback=pin_holdback(rollout.holdback),
        started_at=snapshot.now,
        exits_before=_exits(snapshot, target) if snapshot.pods_are_known else None,
    )
    return new, None


def _exits(snapshot: Snapshot, target: Record) -> dict[str, int]:
    """How often the engines in the target's pods have ended, by pod; pods without an end are left out."""
    engine = snapshot.engines.get(target.engine_revision)
    return {pod.name: pod.exits for pod in engine.pods if pod.exits} if engine else {}


def _stable_pods(snapshot: Snapshot, stable: Record) -> StablePods | None:
    """The stable's Ready pods; None where clients stay at one pod, so that a pod may get no request at all."""
    engine = snapshot.engines.get(stable.engine_revision)
    if engine is None or snapshot.spec.routing.gateway.session_persistence:
        return None
    return StablePods(
        snapshot.now, {pod.name: pod.ready_since for pod in engine.pods if pod.ready and not pod.deleting}
    )


def _saved_state(snapshot: Snapshot, target: Record, trial: Trial) -> TrialState | None:
    """The saved state if it belongs to this attempt of this revision."""
    saved = snapshot.saved_state
    ours = saved is not None and saved.trial == trial_state.name_of(target.revision, trial.attempt)
    return saved if ours and trial.traffic_since is not None else None


def _candidate(snapshot: Snapshot, stable: Record, target: Record, trial: Trial, state: TrialState | None) -> Candidate:
    """The canary with its due adaptive weight, and with weight 0 after analysis.blindTimeout without metrics."""
    candidate = Candidate(snapshot, stable, target, trial, judge(state), state)
    if _commanded(snapshot, trial):  # a command does not set the count
        trial = replace(trial, counted=candidate.counted)
    if trial.blinded and _metrics_are_back(snapshot, state):
        # The counts stay; the ramp starts again at its first step.
        trial = replace(trial.at_step(0, snapshot.now, candidate.counted), blinded=False, weight=0, in_holdback=False)
    waits = trial.weight == 0 or trial.traffic_since is None  # while it loads, traffic may change
    if trial.budget and waits and (rate := _rate_before(snapshot, state)) is not None:
        trial = replace(trial, weight=first_weight(trial.budget, rate, snapshot.policy))
    elif state and candidate.metrics_answer and not snapshot.spec.paused and replace(candidate, trial=trial).in_force:
        due = with_adaptive_weight(trial, state, snapshot.policy, snapshot.now)
        # Missing requests are in no count, so the counts must not raise the weight.
        held = due.weight > trial.weight and (
            candidate.held_for_requests(small=False) or candidate.over_exposed or against_more_weight(state)
        )
        trial = trial if held else due
    trial = replace(trial, no_stable_since=since_no_stable(candidate))
    if candidate.blind_too_long:
        trial = replace(trial, blinded=True)
    if state and candidate.loses_requests and not trial.withdrawn_because:
        trial = replace(trial, withdrawn_because=lost_beyond_doubt(state))
    if state and trial.withdrawn_because:  # a person who resumes begins anew with arrivals, as with the ramp
        state = without_arrivals(state)
    return _with_holdback(replace(candidate, trial=trial, state=state))


def _with_holdback(candidate: Candidate) -> Candidate:
    """The candidate, whose judgement asks for no second proof in a holdback, except beyond a limit."""
    if not candidate.trial.in_holdback or candidate.beyond_limit:
        return candidate
    return replace(candidate, judgement=candidate.judgement.in_holdback())


def _commanded(snapshot: Snapshot, trial: Trial) -> bool:
    """Whether a person has just moved the trial to another step."""
    before = snapshot.target.trial if snapshot.target else None
    return before is not None and before.attempt == trial.attempt and before.step != trial.step


def _metrics_are_back(snapshot: Snapshot, state: TrialState | None) -> bool:
    """Whether something was read just now; no error alone may mean that the source was not asked yet."""
    saved = snapshot.saved_state
    if snapshot.readings.error or state is None or saved is None:
        return False
    return state.until > saved.until


def _rate_before(snapshot: Snapshot, state: TrialState | None) -> float | None:
    if state:
        return state.requests_per_second
    return snapshot.readings.baseline.requests_per_second if snapshot.readings.baseline else None


def _no_holdback_left(trial: Trial) -> bool:
    return trial.holdback is None or trial.in_holdback or trial.forced


def _at_next_step(candidate: Candidate) -> Candidate:
    """The same canary one step further; the holdback comes after the ramp."""
    trial, now = candidate.trial, candidate.snapshot.now
    if candidate.is_last:
        held = replace(trial.at_step(trial.step, now, candidate.counted), in_holdback=True)
        return _with_holdback(replace(candidate, trial=held))
    return replace(candidate, trial=trial.at_step(trial.step + 1, now, candidate.counted))


def _continue(candidate: Candidate, finding: Finding | None) -> Outcome:
    snapshot, weight = candidate.snapshot, _weight_now(candidate)
    running = candidate.in_force and not snapshot.spec.paused and candidate.carries(candidate.weight)
    trial = candidate.trial.with_clock(snapshot.now, running=running)
    trial = trial.with_exposure(snapshot.now, running=candidate.weight_on_route > 0 and not snapshot.spec.paused)
    if trial.traffic_since is None and candidate.engine.ready and not candidate.shared:
        trial = replace(trial, was_ready=True)
    state = candidate.state
    if weight and trial.traffic_since is None and candidate.in_route:
        trial = replace(trial, traffic_since=snapshot.now)
        state = _new_state(candidate)
    if finding is None:  # all steps are done and the pods are Ready: the next reconcile promotes
        finding = Finding(Reason.PROMOTING, Reason.PROMOTING.explanation, due_in=timedelta(seconds=0))
    canary = replace(candidate.record, trial=trial)
    return Outcome(
        Situation.ON_TRIAL,
        finding.reason,
        finding.message,
        stable=candidate.stable,
        canary=canary,
        target=canary,
        weights={candidate.stable.revision: FULL_WEIGHT - weight} | _canary_backend(candidate, weight),
        engines=_replicas(candidate),
        judgement=candidate.judgement,
        trial_state=_state_to_save(snapshot, state),
        had_traffic=candidate.trial.traffic_since is not None,
        stalled=finding.reason if finding.stalls else None,
        due_in=_earliest(
            finding.due_in, clock_due(replace(candidate, trial=trial, state=state)), take_over_due(candidate)
        ),
    )


def _earliest(*times: timedelta | None) -> timedelta | None:
    return min((time for time in times if time is not None), default=None)


def _new_state(candidate: Candidate) -> TrialState:
    """The state of a trial that starts now; pins what is measured, by the stable's baseline."""
    snapshot, analysis = candidate.snapshot, candidate.snapshot.spec.analysis
    series, measured = snapshot.policy.series, candidate.measured
    baseline = snapshot.readings.baseline or Baseline(snapshot.now, 0.0)
    built_in = companions.companions(
        series,
        baseline,
        analysis.false_rollback_rate,
        measured=measured,
        sticky=candidate.keeps_clients,
        names={metric.name for metric in analysis.compared},
    )
    own = presets.measurements(
        analysis,
        series,
        baseline,
        measured=measured,
        at_load=candidate.counted_by_load,
        same_pods=candidate.shared,
        unjudged=candidate.unjudged,
        share=companions.share_left(built_in),
    )
    skipped = companions.skipped_checks(own, analysis.false_rollback_rate)
    throughputs = presets.throughputs(analysis, series)
    answers = presets.durations(series, measured=measured)
    return TrialState(
        trial=trial_state.name_of(candidate.record.revision, candidate.trial.attempt),
        against=candidate.stable.revision,
        since=snapshot.now,
        until=snapshot.now,
        metrics=tuple(map(MetricState.begin, own + built_in + skipped)),
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
        sticky=candidate.keeps_clients,
        loss_tolerance=analysis.loss_tolerance,
        throughputs=tuple(map(ThroughputState, throughputs)),
    )


def _state_to_save(snapshot: Snapshot, state: TrialState | None) -> TrialState | None:
    """The state, or the saved one if nothing was counted since: to read empty time again costs less than a write."""
    saved = snapshot.saved_state
    if state is None or saved is None or state.until - saved.until >= SAVE_EVERY:
        return state
    return saved if trial_state.without_clocks(state) == trial_state.without_clocks(saved) else state


def _replicas(candidate: Candidate) -> dict[str, int]:
    """Replicas by engine revision; an engine that both revisions share has those of the stable."""
    replicas, canary = candidate.snapshot.spec.replicas, candidate.record.engine_revision
    wanted_now = replicas if scaling_for_take_over(candidate) else candidate.pods_wanted
    needed = max(wanted_now, pods_for(replicas, _weight_of_pods(candidate)))
    if candidate.takes_over_pods:
        needed = max(needed, candidate.engine.replicas)
    wanted = {candidate.stable.engine_revision: replicas}
    return wanted if candidate.shared else wanted | {canary: needed}


def _weight_of_pods(candidate: Candidate) -> int:
    """The weight that the route gives the canary's pods now, under any revision; weight is removed before pods."""
    weights, engine = candidate.snapshot.route.weights, candidate.record.engine_revision
    records = {r.revision: r for r in (*candidate.snapshot.records, candidate.record)}
    return sum(weights.get(r.revision, 0) for r in records.values() if r.engine_revision == engine)


def _weight_now(candidate: Candidate) -> int:
    """The step's weight if enough pods are Ready for it, else at most what the route gives now and the pods carry.

    0 while the canary cannot be measured, even if it has weight from a trial whose state was lost.
    """
    if canary_cannot_be_measured_yet(candidate) or gateway_drops_epoch(candidate):
        return 0
    held = candidate.snapshot.spec.paused or candidate.snapshot.route.refused or candidate.snapshot.unread
    if candidate.carries(candidate.weight) and not held:
        return candidate.weight
    return min(candidate.weight_on_route, candidate.weight, candidate.weight_of_ready_pods)


def _canary_backend(candidate: Candidate, weight: int) -> dict[str, int]:
    """The canary's backend; if it is in the route already, it stays there at 0 and need not enter again."""
    present = candidate.record.revision in candidate.snapshot.route.weights
    return {candidate.record.revision: weight} if weight or present else {}
