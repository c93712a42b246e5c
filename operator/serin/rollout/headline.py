"""The headline of a decision: its phase, reason and message. The only place that names the phase.

Called by `serin.rollout.decide`, which knows what is still under way.
"""

from __future__ import annotations

from dataclasses import dataclass

from serin.api.duration import format_duration
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason, read_reason
from serin.rollout.snapshot import Snapshot

_PAUSED = frozenset({Reason.PAUSED, Reason.PAUSED_BY_STEP, Reason.INCONCLUSIVE, Reason.REQUESTS_LOST})
_PREPARING = frozenset(
    {
        Reason.WAITING_FOR_CAPACITY,
        Reason.CANARY_LOADING,
        Reason.CANARY_SCALING,
        Reason.CANARY_NOT_READY,
        Reason.AWAITING_BASELINE,
        Reason.BLIND,
        Reason.ROUTE_REFUSED,
    }
)
_PREPARING_BEFORE_TRAFFIC = frozenset({Reason.METRICS_UNAVAILABLE, Reason.CANARY_ENTERING})


@dataclass(frozen=True)
class Headline:
    """Where a rollout stands, and why."""

    phase: Phase
    reason: Reason
    message: str
    stalled: Reason | None = None
    """Set where a person or the world must act."""


def headline(snapshot: Snapshot, outcome: Outcome, leaving: frozenset[str], *, under_way: bool) -> Headline:
    """The headline of an outcome.

    Args:
        snapshot: what the outcome rests on.
        outcome: what is wanted in the end.
        leaving: engine revisions that run and are not wanted.
        under_way: whether an engine drains or the route still has other backends than wanted.
    """
    phase, rejection = _phase(outcome), outcome.target.rejection if outcome.target else None
    if under_way and outcome.situation is Situation.REJECTED and rejection:
        return Headline(Phase.ROLLING_BACK, read_reason(rejection.reason), outcome.message)
    if under_way and outcome.situation is Situation.SETTLED:
        if outcome.reason is Reason.PROMOTED:
            return _draining(
                snapshot, Phase.PROMOTING, Reason.PROMOTED, Reason.PROMOTED.explanation, "the old stable's pods"
            )
        records = [r for r in snapshot.records if r.engine_revision in leaving]
        if any(r.promotion is not None for r in records):  # an old stable leaves
            serves = f"The stable, revision {outcome.stable.revision}, gets all traffic." if outcome.stable else ""
            return _draining(snapshot, Phase.PROMOTING, Reason.PROMOTING, serves, "the other pods")
        if records:  # a canary leaves
            return _draining(
                snapshot, Phase.ROLLING_BACK, Reason.WITHDRAWING, Reason.WITHDRAWING.explanation, "its pods"
            )
    return Headline(phase, outcome.reason, outcome.message, outcome.stalled)


def _draining(snapshot: Snapshot, phase: Phase, reason: Reason, sentence: str, pods: str) -> Headline:
    """A headline while pods that left the route, or are about to, may still have requests."""
    timeout = format_duration(snapshot.spec.rollout.drain_timeout)
    wait = f"Serin deletes {pods} when their requests have ended, or after rollout.drainTimeout ({timeout})."
    return Headline(phase, reason, f"{sentence} {wait}")


def _phase(outcome: Outcome) -> Phase:
    """The phase once nothing is under way any more."""
    match outcome.situation:
        case Situation.BLOCKED:
            return Phase.BLOCKED
        case Situation.INSTALLING:
            return Phase.INSTALLING
        case Situation.SETTLED:
            return Phase.STABLE
        case Situation.REJECTED:
            return Phase.ROLLED_BACK
        case Situation.ON_TRIAL:
            return _phase_of_trial(outcome)


def _phase_of_trial(outcome: Outcome) -> Phase:
    trial = outcome.canary.trial if outcome.canary else None
    past_ramp = trial is not None and trial.is_past_ramp
    in_holdback = trial is not None and trial.in_holdback
    if outcome.reason in _PAUSED:
        return Phase.PAUSED
    early = outcome.reason in _PREPARING_BEFORE_TRAFFIC and not outcome.had_traffic
    if early or outcome.reason in _PREPARING:
        return Phase.PROMOTING if past_ramp else Phase.PREPARING
    return Phase.PROMOTING if in_holdback or outcome.reason is Reason.PROMOTING else Phase.RAMPING
