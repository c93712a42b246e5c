"""What is still decided while something cannot be read: the minimal path. Pure; ADR 20 has the reasons.

Called by `serin.rollout.decide`, and by the reconciler for the facts that it has to assume. A canary keeps its weight
or loses it; nothing else changes hands, and nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from serin.analysis import update
from serin.analysis.trial_state import TrialState, revision_of
from serin.analysis.verdict import Verdict, judge
from serin.api.names import FULL_WEIGHT
from serin.rollout import roles
from serin.rollout.decision import Decision
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.phases import Phase
from serin.rollout.ramp import weight_at
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import RouteView, Snapshot

TEMPORARY = timedelta(minutes=1)
"""How long reads may fail before a person must act."""


# Facts that are assumed ---------------------------------------------------------------------------------------------


def assumed_split(view: RouteView, state: TrialState | None, records: Iterable[Record]) -> RouteView:
    """The split if route or documents were not read: that of the trial state, else the one that the trial asks for.

    Each split is stored there before the route or a document carries it. What was read of the canary counts more.
    """
    known = tuple(records)
    promoted = newest_promoted(known)
    if state and promoted and promoted.revision == revision_of(state):
        return view  # the trial has ended, and its state names another stable
    if state and state.newest is not None and state.against:
        stable, canary, weight = state.against, revision_of(state), state.epochs[state.newest].weight
    else:
        target = current_target(known, view)
        if not (target and target.trial and target.trial.traffic_since):
            return view
        # An earlier revision may be the newest that is known to be promoted.
        against = target.trial.against or (promoted.revision if promoted else "")
        if not against:
            return view
        stable, canary, weight = against, target.revision, weight_at(target.trial)
    if canary in view.weights:
        return view
    return replace(view, weights={stable: FULL_WEIGHT - weight, canary: weight}, exists=True)


def current_target(records: Iterable[Record], view: RouteView) -> Record | None:
    """What the spec asked for when it could last be resolved: the canary on trial, else the stable."""
    known = tuple(records)
    on_trial = [r for r in known if r.trial and (r.rejection is None or r.revision in view.weights)]
    newest = max(on_trial, key=lambda r: (r.rejection is None, r.number), default=None)
    return newest or newest_promoted(known)


def newest_promoted(records: Iterable[Record]) -> Record | None:
    """The record with the highest promotion; as in `roles.find_stable`, not one on trial or rejected."""
    promoted = (r for r in records if r.promotion and not roles.is_doubtful(r))
    return max(promoted, key=lambda r: r.promotion or 0, default=None)


def with_current_replicas(snapshot: Snapshot) -> Snapshot:
    """The snapshot; if `spec.replicas` breaks a rule, with as many as the stable has now."""
    stable = roles.find_stable(snapshot)
    engine = snapshot.engines.get(stable.engine_revision) if stable else None
    if engine is None or "replicas" not in snapshot.unreadable_fields:
        return snapshot
    return replace(snapshot, spec=snapshot.spec.model_copy(update={"replicas": engine.replicas}))


# Outcomes -----------------------------------------------------------------------------------------------------------


def unreadable_stable(snapshot: Snapshot, stable: Record | None) -> str | None:
    """The revision that is the stable although its record cannot be read; None if there is none.

    That is the newest promotion. If no promotion of an unreadable record can be read, and no promoted revision serves,
    the route shows it.
    """
    numbers, weights = snapshot.unreadable_records, snapshot.route.weights
    newest = max(numbers, key=lambda r: (numbers[r], weights.get(r, 0)), default=None)
    if newest is None:
        return None
    if numbers[newest] or roles.promoted_serve(snapshot):
        return newest if numbers[newest] > max((r.promotion or 0 for r in snapshot.records), default=0) else None
    least = weights.get(stable.revision, 0) if stable else 0
    return newest if weights.get(newest, 0) > least else None


def without_stable_record(snapshot: Snapshot, revision: str) -> Outcome:
    """The stable's record cannot be read: it gets all traffic by its name, and its pods stay as they are."""
    reason = Reason.RECORD_UNREADABLE
    serves = snapshot.route.weights.get(revision, 0) > 0 and not snapshot.route.foreign
    return Outcome(
        Situation.BLOCKED,
        reason,
        f"{snapshot.spec_error or reason.explanation} Revision {revision} is the stable: it gets all traffic, and "
        "Serin neither scales it nor tries a change until its record can be read.",
        weights={revision: FULL_WEIGHT} if serves else {},
        # A route that names it protects the pods, whose engine is not known; nothing else does.
        engines={} if serves else {name: engine.replicas for name, engine in snapshot.engines.items()},
        stalled=reason,
    )


def uninstalled(snapshot: Snapshot, target: Record) -> Outcome:
    """No stable is known, and a record that cannot be read may be that of the stable: nothing is installed."""
    reason, names = Reason.RECORD_UNREADABLE, sorted(snapshot.unreadable_records)
    noun = "revision" if len(names) == 1 else "revisions"
    return Outcome(
        Situation.BLOCKED,
        reason,
        f"{snapshot.spec_error or reason.explanation} Serin installs nothing before it can read the record of {noun} "
        f"{' and '.join(names)}.",
        target=target if target.recorded else None,
        engines={name: engine.replicas for name, engine in snapshot.engines.items()},
        stalled=reason,
    )


def without_records(snapshot: Snapshot) -> Outcome:
    """No record can be read: the trial state alone names both sides, and what was counted decides."""
    return by_trial_state(snapshot, Outcome(Situation.BLOCKED, Reason.READ_FAILED, sentence(snapshot)))


def waiting(snapshot: Snapshot, target: Record | None) -> Outcome:
    """There is no stable yet, or it is not known: nothing but a canary's weight changes until everything is read."""
    recorded = target if target and target.recorded else None
    hold = Outcome(Situation.BLOCKED, Reason.READ_FAILED, sentence(snapshot), target=recorded)
    return by_trial_state(snapshot, hold)


def by_trial_state(snapshot: Snapshot, hold: Outcome) -> Outcome:
    """An outcome that knows no stable; a bad or unwatched canary loses its weight to the stable that its trial names.

    Args:
        snapshot: of the decision.
        hold: the outcome, which changes no weight.
    """
    state, timeout = snapshot.saved_state, snapshot.spec.analysis.blind_timeout
    if state is None or not (state.against and snapshot.route.weights.get(state.against)) or snapshot.route.foreign:
        return hold
    canary = revision_of(state)
    if not snapshot.route.weights.get(canary):
        return hold
    state = update.advance(state, snapshot.readings.intervals, canary=canary, stable=state.against)
    judgement = judge(state)
    if judgement.verdict is Verdict.FAIL:
        why = f"Revision {canary} gets no traffic ({Reason.VERDICT_FAILED}): {judgement.message}"
    elif snapshot.now - state.until > timeout:
        why = f"Revision {canary} gets no traffic ({Reason.BLIND}): {Reason.BLIND.explanation}"
    else:
        left = state.until + timeout - snapshot.now
        return replace(hold, due_in=left if hold.due_in is None else min(left, hold.due_in))
    return replace(hold, message=f"{hold.message} {why}", weights={state.against: FULL_WEIGHT, canary: 0})


# The decision -------------------------------------------------------------------------------------------------------


def restrained(snapshot: Snapshot, decision: Decision) -> Decision:
    """The decision without what needs the facts that were not read, and with the reason for people."""
    takes = any(decision.weights.get(r, 0) < w for r, w in snapshot.route.weights.items())
    writes_split = bool(decision.weights) and (snapshot.split_is_known or takes)
    rejection = decision.target.rejection if decision.target else None
    trial = decision.canary.trial if decision.canary else None
    said = decision.message if decision.message.startswith(sentence(snapshot)) else sentence(snapshot)
    blocked = snapshot.target is None and snapshot.spec_error is not None
    more = decision.message if rejection or blocked else Reason.BLIND.explanation if trial and trial.blinded else ""
    lasts = snapshot.unread_since is not None and snapshot.now - snapshot.unread_since >= TEMPORARY
    return replace(
        decision,
        phase=Phase.BLOCKED,
        reason=Reason.READ_FAILED,
        message=f"{said} {more}".strip(),
        stalled=Reason.READ_FAILED if lasts else None,
        weights=decision.weights if writes_split else {},
        sequence=decision.sequence if writes_split else None,
        retired=frozenset(),
        forgotten=frozenset(),
        evicted=None,
    )


def sentence(snapshot: Snapshot) -> str:
    """What was not read, and why."""
    facts = sorted(snapshot.unread)
    why = snapshot.unread[facts[0]]
    return (
        f"Serin cannot read {' and '.join(facts)}, so no weight grows and nothing is deleted; grant the permission or "
        f"repair the API server: {why}"
    )
