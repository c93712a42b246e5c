"""The headline of a decision: its phase, reason and message. The only place that names the phase.

Called by `serin.rollout.decide`, which knows what is still under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serin.api.duration import format_duration
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason, read_reason
from serin.rollout.snapshot import Snapshot
from serin.rollout.switching import switch_of

_PAUSED = frozenset({Reason.PAUSED, Reason.PAUSED_BY_STEP, Reason.INCONCLUSIVE, Reason.REQUESTS_LOST})
_PREPARING = frozenset(
    {
        Reason.WAITING_FOR_CAPACITY,
        Reason.CANARY_LOADING,
        Reason.CANARY_SCALING,
        Reason.CANARY_NOT_READY,
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        Reason.AWAITING_BASELINE,
        Reason.TAKING_OVER,
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


def headline(
    snapshot: Snapshot,
    outcome: Outcome,
    leaving: frozenset[str],
    leaving_revisions: Mapping[str, str],
    *,
    under_way: bool,
) -> Headline:
    """The headline of an outcome.

    Args:
        snapshot: what the outcome rests on.
        outcome: what is wanted in the end.
        leaving: engine revisions that run and are not wanted.
        leaving_revisions: revisions that are not wanted in pods that stay, with their engine revisions.
        under_way: whether an engine drains or the route still has other backends than wanted.
    """
    phase, rejection = _phase(outcome), outcome.target.rejection if outcome.target else None
    switching = _switching(snapshot, leaving_revisions)
    if under_way and outcome.situation is Situation.REJECTED and rejection:
        message = f"{switching} {outcome.message}" if switching else outcome.message
        return Headline(Phase.ROLLING_BACK, read_reason(rejection.reason), message)
    if under_way and outcome.situation is Situation.SETTLED:
        if outcome.reason in {Reason.PROMOTED, Reason.TAKEN_OVER}:
            wait = switching or _drain_wait(snapshot, "the old stable's pods")
            return Headline(Phase.PROMOTING, outcome.reason, f"{outcome.reason.explanation} {wait}")
        records = [r for r in snapshot.records if r.engine_revision in leaving or r.revision in leaving_revisions]
        if any(r.promotion is not None for r in records):  # an old stable leaves
            serves = f"The stable, revision {outcome.stable.revision}, gets all traffic." if outcome.stable else ""
            wait = switching or _drain_wait(snapshot, "the other pods")
            return Headline(Phase.PROMOTING, Reason.PROMOTING, f"{serves} {wait}")
        if records:  # a canary leaves
            wait = switching or _drain_wait(snapshot, "its pods")
            return Headline(Phase.ROLLING_BACK, Reason.WITHDRAWING, f"{Reason.WITHDRAWING.explanation} {wait}")
    entering = outcome.canary if outcome.reason is Reason.CANARY_ENTERING else None
    if switching and entering and entering.revision not in snapshot.route.weights:
        wait = f"Revision {entering.revision} enters when the one before it has left its pods. {switching}"
        return Headline(Phase.PREPARING, Reason.CANARY_ENTERING, wait)
    return Headline(phase, outcome.reason, outcome.message, outcome.stalled)


def _drain_wait(snapshot: Snapshot, pods: str) -> str:
    """When pods are deleted that have left the route, or are about to, and may still have requests."""
    timeout = format_duration(snapshot.spec.rollout.drain_timeout)
    return f"Serin deletes {pods} when their requests have ended, or after rollout.drainTimeout ({timeout})."


def _switching(snapshot: Snapshot, leaving_revisions: Mapping[str, str]) -> str:
    """How far the pods have switched that are to forget a revision; empty if none are."""
    if not leaving_revisions:
        return ""
    revision, engine = min(leaving_revisions.items())
    if snapshot.route.weights.get(revision):  # what the pods show is still of the split that ends now
        return f"Revision {revision} loses its weight in the split document of the pods."
    switch = switch_of(snapshot, engine)
    if not switch.done:
        return switch.sentence
    timeout = format_duration(snapshot.spec.rollout.drain_timeout)
    return (
        f"{switch.sentence} Revision {revision} leaves their split document when its requests have ended, or after "
        f"rollout.drainTimeout ({timeout})."
    )


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
