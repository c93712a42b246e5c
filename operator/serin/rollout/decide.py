"""The decision: from one frozen snapshot to the wanted world. Called by the reconciler on every tick; pure.

    command -> roles -> install | settled | rejected | on trial -> next split -> what may be deleted

A rollback is a decision like any other. Whatever was remembered is in the records; everything else is looked at anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from serin.analysis import presets
from serin.analysis.counts import EPOCHS, Wanted
from serin.analysis.trial_state import TrialState, begin_epoch
from serin.rollout import drain, roles
from serin.rollout.canary import on_trial
from serin.rollout.commands import CommandResult, carry_out, ignored, out_of_place, was_handled
from serin.rollout.decision import Decision
from serin.rollout.record import Record
from serin.rollout.route import REFUSAL_LASTS, is_settled, lasting_refusal, next_split
from serin.rollout.snapshot import Snapshot
from serin.rollout.steady import blocked, install, orphaned, rejected, settled


def decide(snapshot: Snapshot) -> Decision:
    """What is to be done now.

    Returns:
        The whole wanted world; a second call on a world that already is so asks for no write.
    """
    stable = roles.find_stable(snapshot)
    target, command = _obey(snapshot, stable)
    if unrecorded := roles.unrecorded(snapshot, stable):
        return _complete(snapshot, orphaned(snapshot, unrecorded))
    if target is None:
        decision = blocked(snapshot, stable)
    elif stable is None:
        decision = install(snapshot, target)
    elif target.engine_revision == stable.engine_revision:
        decision = settled(snapshot, stable, target)
    elif target.rejection:
        decision = rejected(snapshot, stable, target)
    else:
        decision = on_trial(snapshot, stable, target)
    return _complete(snapshot, replace(decision, command=command))


def _obey(snapshot: Snapshot, stable: Record | None) -> tuple[Record | None, CommandResult | None]:
    if not snapshot.command or was_handled(snapshot.command, snapshot.records):
        return snapshot.target, None
    if snapshot.target is None:
        return None, ignored(snapshot.command, "The spec cannot be carried out; correct it first.")
    return carry_out(snapshot.command, snapshot.target, stable, snapshot.now)


def _complete(snapshot: Snapshot, decision: Decision) -> Decision:
    """Add what every decision needs: the next safe split, what still drains, what is remembered and forgotten."""
    served = is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds)
    weights = next_split(snapshot.route.weights, decision.weights, settled=served) if decision.weights else {}
    leaving = drain.leaving_engines(snapshot, decision)
    drained = frozenset(e for e in leaving if drain.is_drained(snapshot, e, settled=served))
    draining = {e: snapshot.engines[e].replicas for e in sorted(leaving - drained)}
    if draining or set(weights) != set(decision.weights):
        decision = drain.describe(snapshot, decision, leaving)
    epoch, evidence = _epoch(snapshot, decision, weights)
    decision = replace(decision, trial_state=evidence)
    return replace(
        decision,
        weights=weights,
        epoch=epoch,
        engines={**decision.engines, **draining},
        retired=drained,
        records=_changed_records(snapshot, decision),
        forgotten=roles.prunable(
            snapshot, {r.revision for r in (decision.stable, decision.canary, decision.target) if r}
        ),
        wanted=_wanted(snapshot, decision, frozenset(draining)),
        due_in=_due(snapshot, decision, settled=served, draining=bool(draining)),
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


def _epoch(snapshot: Snapshot, decision: Decision, weights: Mapping[str, int]) -> tuple[int, TrialState | None]:
    """The epoch that a split is stamped with, and the evidence that knows since when; every split has its own.

    The evidence is written first: between the two an epoch has begun of which no request tells yet, which harms nobody.
    """
    route, state = snapshot.route, decision.trial_state
    canary = weights.get(decision.canary.revision, 0) if decision.canary else 0
    # A split that stays counts for nothing where the evidence does not know since when: it is begun, or edited by hand.
    known = state is None or not canary or route.epoch in state.epochs
    if route.epoch is not None and weights == route.weights and known:
        return route.epoch, state
    before = state.newest if route.epoch is None and state else route.epoch
    epoch = 0 if before is None else (before + 1) % EPOCHS
    return epoch, begin_epoch(state, epoch, canary, snapshot.now) if state else None


def _wanted(snapshot: Snapshot, decision: Decision, draining: frozenset[str]) -> Wanted | None:
    trial = decision.canary.trial if decision.canary else None
    if not (trial and decision.stable and decision.canary):
        return Wanted(draining=tuple(sorted(draining))) if draining else None
    sides, state = (decision.canary, decision.stable), decision.trial_state
    measured = all(side.resolved.measures for side in sides)
    series, analysis = snapshot.policy.series, snapshot.spec.analysis
    # Before it has traffic, too: a canary that could not be watched must not get any.
    return Wanted(
        read_until=state.until if state else None,
        engine_of=tuple((side.revision, side.engine_revision) for side in sides),
        tallies=state.tallies if state else presets.tallies(analysis, series, measured=measured),
        optional=state.optional if state else presets.optional(analysis, series, measured=measured),
        epochs=state.live_epochs if state else None,
        in_progress=state.progress_tallies if state else None,
        apart_of=decision.stable.revision if state else None,
        apart=state.tallies_by_process if state else (),
        baseline_of=None if state else decision.stable.revision,
        requests=presets.requests(series, measured=measured),
        traffic_of=() if state else tuple(record.revision for record in snapshot.records),
        draining=tuple(sorted(draining)),
    )


def _due(snapshot: Snapshot, decision: Decision, *, settled: bool, draining: bool) -> timedelta | None:
    """The earliest moment at which the clock alone may change the decision."""
    due = [decision.due_in] if decision.due_in is not None else []
    if snapshot.route.refused and snapshot.route.changed_at and not lasting_refusal(snapshot):
        due.append(snapshot.route.changed_at + REFUSAL_LASTS - snapshot.now)
    if snapshot.route.programmed and not settled:
        due.append(timedelta(seconds=snapshot.policy.settle_seconds + 1))
    if draining:
        due.append(timedelta(seconds=drain.LOOK_AGAIN_SECONDS))
    return min(due) if due else None
