"""How pods leave: out of the route first, then drained, then deleted; and how that is told.

Applies alike to an old stable, a rejected canary and one that the spec gave up: whatever runs and is not wanted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason, read_reason
from serin.rollout.snapshot import Snapshot

LOOK_AGAIN_SECONDS = 5.0
"""How often a draining engine is looked at."""


def leaving_engines(snapshot: Snapshot, decision: Decision) -> frozenset[str]:
    """Engine revisions that run and that the decision does not want."""
    return frozenset(snapshot.engines.keys() - decision.engines.keys())


def is_drained(snapshot: Snapshot, engine_revision: str, *, settled: bool) -> bool:
    """Whether the pods may go: out of a route that the gateway serves so, and idle, or the drain timeout over."""
    route, engine = snapshot.route, snapshot.engines[engine_revision]
    if not route.exists:
        return True
    engine_of = {r.revision: r.engine_revision for r in snapshot.records}
    # A backend without a record may belong to these very pods: then nothing is deleted.
    in_route = any(engine_of.get(revision, engine_revision) == engine_revision for revision in route.weights)
    if in_route or not settled or route.changed_at is None:
        return False
    if engine.ready == 0:
        return True
    # Measured after the route was settled, or a request that was on its way may not have been counted.
    removed = route.changed_at + timedelta(seconds=snapshot.policy.settle_seconds + 1)
    measured = snapshot.readings.in_flight.get(engine_revision)
    if measured and measured.at >= removed and measured.requests == 0:
        return True
    return snapshot.now - removed >= snapshot.spec.rollout.drain_timeout


def describe(snapshot: Snapshot, decision: Decision, leaving: frozenset[str]) -> Decision:
    """Name what is under way: an old stable that leaves is Promoting, a canary that leaves RollingBack."""
    if decision.phase is Phase.ROLLED_BACK and decision.target and decision.target.rejection:
        reason = read_reason(decision.target.rejection.reason)
        return replace(decision, phase=Phase.ROLLING_BACK, reason=reason, stalled=None)
    if decision.phase is not Phase.STABLE:
        return decision
    if decision.reason is Reason.PROMOTED:
        return replace(decision, phase=Phase.PROMOTING, message=Reason.PROMOTED.explanation)
    of_leaving = [r for r in snapshot.records if r.engine_revision in leaving]
    if any(r.promotion is not None for r in of_leaving):
        message = Reason.PROMOTING.explanation
        return replace(decision, phase=Phase.PROMOTING, reason=Reason.PROMOTING, message=message)
    if of_leaving:
        message = Reason.WITHDRAWING.explanation
        return replace(decision, phase=Phase.ROLLING_BACK, reason=Reason.WITHDRAWING, message=message)
    return decision
