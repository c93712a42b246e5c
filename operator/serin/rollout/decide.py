"""The decision: from one frozen snapshot to the wanted world. Called by the reconciler each time; pure.

    roles -> command -> blocked | install | settled | rejected | on trial -> outcome -> decision
    while something is not read or not readable: `serin.rollout.minimal` limits the decision

A rollback is a decision like any other. Everything that lasts is in the records and the saved trial state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from serin.analysis import presets
from serin.analysis.companions import baseline_tallies
from serin.analysis.counts import EPOCHS, Wanted
from serin.analysis.trial_state import TrialState, begin_epoch
from serin.rollout import drain, minimal, roles
from serin.rollout.canary import on_trial
from serin.rollout.commands import CommandResult, carry_out, handled_elsewhere, ignored, was_handled
from serin.rollout.decision import Decision
from serin.rollout.headline import headline
from serin.rollout.outcome import Outcome, Situation
from serin.rollout.record import Record
from serin.rollout.route import REFUSAL_LASTS, is_settled, lasting_refusal, next_split
from serin.rollout.snapshot import Fact, RouteView, Snapshot
from serin.rollout.steady import blocked, install, orphaned, rejected, settled
from serin.rollout.switching import is_new_to_pods, pod_to_evict, times_left

READ_SECRET_EVERY = timedelta(seconds=30)
"""How often the Secret of Prometheus is read while a canary is on trial: Serin may get Secrets and not watch them."""


def decide(snapshot: Snapshot) -> Decision:
    """The whole wanted world, and why; a second call on a world that is already so asks for no write."""
    decision = _decision(snapshot, *_situation(snapshot, roles.find_stable(snapshot)))
    return minimal.restrained(snapshot, decision) if snapshot.unread else decision


def _situation(snapshot: Snapshot, stable: Record | None) -> tuple[Outcome, CommandResult | None]:
    if Fact.RECORDS in snapshot.unread and stable is None:
        return minimal.without_records(snapshot), None
    if lost := minimal.unreadable_stable(snapshot, stable):
        return minimal.without_stable_record(snapshot, lost), None
    if unrecorded := roles.unrecorded(snapshot, stable):
        return minimal.by_trial_state(snapshot, orphaned(snapshot, unrecorded)), None
    target, result = _obey(snapshot, stable)
    return _outcome(snapshot, stable, target), result


def _obey(snapshot: Snapshot, stable: Record | None) -> tuple[Record | None, CommandResult | None]:
    if snapshot.command is None or was_handled(snapshot.command, snapshot.records):
        return snapshot.target, None
    if snapshot.target is None:
        return None, ignored(
            snapshot.command, "Serin cannot carry out the spec; correct what status.message names first."
        )
    return carry_out(snapshot.command, snapshot.target, stable, snapshot.now)


def _outcome(snapshot: Snapshot, stable: Record | None, target: Record | None) -> Outcome:
    if target is None:
        return blocked(snapshot, stable)
    if stable is None:
        return _first(snapshot, target)
    if target.revision == stable.revision or not _differs(stable, target):
        return settled(snapshot, stable, target)
    if target.rejection:
        return rejected(snapshot, stable, target)
    return on_trial(snapshot, stable, target)


def _first(snapshot: Snapshot, target: Record) -> Outcome:
    """The first install, unless what is not known may be that of a stable."""
    if snapshot.unread:
        return minimal.waiting(snapshot, target)
    return minimal.uninstalled(snapshot, target) if snapshot.unreadable_records else install(snapshot, target)


def _differs(stable: Record, target: Record) -> bool:
    """Whether the target's answers can differ: it has other pods, or the shared pods apply its prompt."""
    return target.engine_revision != stable.engine_revision or stable.resolved.serves_prompts


def _decision(snapshot: Snapshot, outcome: Outcome, command: CommandResult | None) -> Decision:
    """The decision: the next safe split, what drains, what is written and removed, and the headline."""
    served = is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds)
    inside = drain.leaving_revisions(snapshot, outcome.weights, outcome.engines)
    stay = {r: e for r, e in inside.items() if snapshot.unread or not drain.is_revision_drained(snapshot, r, e)}
    new = {r.revision for r in (outcome.canary,) if r and is_new_to_pods(snapshot, r)}
    wanted = drain.without_third(snapshot, outcome, stay)
    split = next_split(snapshot.route.weights, wanted, settled=served, unknown=new, stay=stay)
    weights = split if outcome.weights else {}
    leaving = drain.leaving_engines(snapshot, outcome.engines)
    drained = frozenset(e for e in leaving if drain.is_drained(snapshot, e, settled=served))
    draining = {e: snapshot.engines[e].replicas for e in sorted(leaving - drained)}
    under_way = bool(draining) or set(weights) != set(outcome.weights)
    head = headline(snapshot, outcome, leaving, stay, under_way=under_way)
    epoch, sequence, state = _epoch(snapshot, outcome, weights)
    in_use = {r.revision for r in (outcome.stable, outcome.canary, outcome.target) if r}
    return Decision(
        phase=head.phase,
        reason=head.reason,
        message=head.message,
        stable=outcome.stable,
        canary=outcome.canary,
        target=outcome.target,
        weights=weights,
        engines={**outcome.engines, **draining},
        retired=drained,
        records=_changed_records(snapshot, outcome),
        forgotten=roles.prunable(snapshot, in_use),
        epoch=epoch,
        sequence=sequence,
        trial_state=state,
        judgement=outcome.judgement,
        stalled=head.stalled,
        capacity=_capacity(snapshot, outcome),
        wanted=_wanted(snapshot, outcome, state, frozenset(draining), stay),
        evicted=_evicted(snapshot, outcome, stay),
        command=command,
        due_in=_due(snapshot, outcome, frozenset(stay.values()), settled=served, draining=bool(draining or stay)),
    )


def _capacity(snapshot: Snapshot, outcome: Outcome) -> str | None:
    """What keeps pods that are wanted from starting, the canary's first; pods that leave need no node."""
    canary = [outcome.canary.engine_revision] if outcome.canary else []
    wanted = [snapshot.engines[e] for e in (*canary, *sorted(outcome.engines)) if e in snapshot.engines]
    return next((engine.no_node for engine in wanted if engine.no_node), None)


def _changed_records(snapshot: Snapshot, outcome: Outcome) -> tuple[Record, ...]:
    stored = {r.revision: r for r in snapshot.records}
    wanted = roles.closed_trials(snapshot, outcome.canary.revision if outcome.canary else None)
    changed = {r.revision: r for r in wanted}
    for named in handled_elsewhere(snapshot.command, snapshot.records, outcome.target):
        changed[named.revision] = replace(changed.get(named.revision, named), handled=named.handled)
    for r in (outcome.stable, outcome.target):
        if r:  # one revision may be both: then the stable has the promotion, the target the handled commands
            promotion = r.promotion or (changed[r.revision].promotion if r.revision in changed else None)
            handled = changed[r.revision].handled if r.revision in changed else r.handled
            changed[r.revision] = replace(r, promotion=promotion, handled=max(handled, r.handled, key=len))
    return tuple(replace(r, recorded=True) for r in changed.values() if not r.recorded or r != stored.get(r.revision))


def _epoch(
    snapshot: Snapshot, outcome: Outcome, weights: Mapping[str, int]
) -> tuple[int, int | None, TrialState | None]:
    """The epoch of the split, its number if it is a new one, and the trial state that says when it began.

    The state is written first: until the route or the document is written, no request carries the new epoch, which is
    harmless.
    """
    route, state = snapshot.route, outcome.trial_state
    canary = weights.get(outcome.canary.revision, 0) if outcome.canary else 0
    # An unchanged split needs a new epoch if the state does not say when it began: the trial starts, or a hand edit.
    known = state is None or not canary or route.epoch in state.epochs
    if weights == route.weights and (not snapshot.split_is_known or (route.epoch is not None and known)):
        return route.epoch or 0, None, state
    sequence = _next_sequence(route, state)
    epoch = sequence % EPOCHS
    return epoch, sequence if weights else None, begin_epoch(state, epoch, canary, snapshot.now) if state else None


def _next_sequence(route: RouteView, state: TrialState | None) -> int:
    """One more than the highest number that any split has had, as far as that is known."""
    newest = state.newest if state else None
    known = [
        number for number in (route.sequence, route.epoch if route.sequence is None else None) if number is not None
    ]
    latest = known[0] if known else -1 if newest is None else newest
    # The document with the highest number was deleted: the state knows its epoch. One ahead is a write that failed.
    ahead = (newest - latest) % EPOCHS if newest is not None and route.sequence is not None else 0
    if 2 <= ahead < EPOCHS // 2:
        latest += ahead
    # The annotation was removed: the new epoch must still differ from the one in force.
    return latest + 2 if (latest + 1) % EPOCHS == route.epoch else latest + 1


def _evicted(snapshot: Snapshot, outcome: Outcome, stay: Mapping[str, str]) -> str | None:
    """The pod that goes on to serve a revision which was rolled back, although it should have switched long ago."""
    former = {r.revision for r in snapshot.records if r.promotion is not None}
    rolled_back = [engine for r, engine in stay.items() if outcome.situation is Situation.REJECTED or r not in former]
    return next((pod for engine in rolled_back if (pod := pod_to_evict(snapshot, engine))), None)


def _wanted(
    snapshot: Snapshot,
    outcome: Outcome,
    state: TrialState | None,
    draining: frozenset[str],
    leaving: Mapping[str, str],
) -> Wanted | None:
    trial = outcome.canary.trial if outcome.canary else None
    if not (trial and outcome.stable and outcome.canary):
        pods = Wanted(
            draining=tuple(sorted(draining)),
            documents_of=tuple(sorted(set(leaving.values()))),
            leaving=tuple(sorted(leaving)),
        )
        return pods if draining or leaving else None
    sides = (outcome.canary, outcome.stable)
    reading = {side.engine_revision for side in sides if side.resolved.reads_split}
    measured = all(side.resolved.measures for side in sides)
    series, analysis = snapshot.policy.series, snapshot.spec.analysis
    before = () if state else baseline_tallies(series, measured=measured)
    # Also before the first traffic: a canary that cannot be measured must not get any.
    return Wanted(
        read_until=state.until if state else None,
        engine_of=tuple((side.revision, side.engine_revision) for side in sides),
        backend_of=tuple((r.revision, r.resolved.backend) for r in (*sides, *snapshot.records)),
        tallies=state.tallies if state else (*presets.tallies(analysis, series, measured=measured), *before),
        optional=state.optional if state else (*presets.optional(analysis, series, measured=measured), *before),
        epochs=state.live_epochs if state else None,
        in_progress=state.progress_tallies if state else None,
        by_process_of=outcome.stable.revision if state else None,
        by_process=state.tallies_by_process if state else (),
        baseline_of=None if state else outcome.stable.revision,
        baseline_tallies=before,
        requests=presets.requests(series, measured=measured),
        arrivals=presets.arrivals(series, measured=measured),
        traffic_of=() if state else tuple(record.revision for record in snapshot.records),
        draining=tuple(sorted(draining)),
        documents_of=tuple(sorted(reading | set(leaving.values()))),
        leaving=tuple(sorted(leaving)),
    )


def _due(
    snapshot: Snapshot, outcome: Outcome, switching: frozenset[str], *, settled: bool, draining: bool
) -> timedelta | None:
    """The time until the clock alone may change the decision."""
    due = [outcome.due_in] if outcome.due_in is not None else []
    if snapshot.route.refused and snapshot.route.changed_at and not lasting_refusal(snapshot):
        due.append(snapshot.route.changed_at + REFUSAL_LASTS - snapshot.now)
    if snapshot.route.programmed and not settled:
        due.append(timedelta(seconds=snapshot.policy.settle_seconds + 1))
    if draining:
        due.append(drain.CHECK_EVERY)
    if outcome.canary and snapshot.spec.analysis.prometheus and snapshot.spec.analysis.prometheus.auth_secret_ref:
        due.append(READ_SECRET_EVERY)
    engines = switching | ({outcome.canary.engine_revision} if outcome.canary else set())
    due += [left for engine in engines for left in times_left(snapshot, engine)]
    return min(due) if due else None
