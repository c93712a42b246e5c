"""Which pods and revisions leave, and when they are gone: without weight first, then drained, then deleted.

Called by `serin.rollout.decide`. The same rules hold for an old stable, a rejected canary and a canary that the spec no
longer asks for. Pods leave with their engine; a revision whose pods stay leaves their split document.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from serin.rollout.outcome import Outcome
from serin.rollout.snapshot import Snapshot
from serin.rollout.switching import switch_of

CHECK_EVERY = timedelta(seconds=5)
"""How often a draining engine is checked."""


def leaving_engines(snapshot: Snapshot, wanted: Mapping[str, int]) -> frozenset[str]:
    """Engine revisions that run and are not wanted; `wanted` has replicas by engine revision."""
    return frozenset(snapshot.engines.keys() - wanted.keys())


def leaving_revisions(snapshot: Snapshot, weights: Mapping[str, int], engines: Mapping[str, int]) -> dict[str, str]:
    """Revisions that are not wanted in pods that are, with their engine revisions.

    Args:
        snapshot: of the decision.
        weights: wanted in the end, by revision; empty: nothing is known, and nothing leaves.
        engines: wanted replicas by engine revision.
    """
    shared = {engine: split.revisions for engine, split in snapshot.splits.items() if len(split.revisions) > 1}
    return {
        revision: engine
        for engine, revisions in shared.items()
        for revision in revisions
        if weights and engine in engines and revision not in weights
    }


def without_third(snapshot: Snapshot, outcome: Outcome, stay: Mapping[str, str]) -> Mapping[str, int]:
    """The weights of an outcome, without a canary whose pods have a revision that leaves beside the stable.

    A split document has room for two. With a third in it, nothing would show any more which pods still give requests to
    the revision that leaves, and no such pod would be evicted after a rollback. A person who promotes does not wait.

    Args:
        snapshot: of the decision.
        outcome: what is wanted in the end.
        stay: revisions that leave and are not drained, with their engine revisions.
    """
    canary, stable = outcome.canary, outcome.stable
    if canary is None or stable is None or canary.engine_revision not in stay.values():
        return outcome.weights
    known = snapshot.splits[canary.engine_revision].revisions
    forced = canary.trial is not None and canary.trial.forced
    if canary.revision in known or canary.revision not in outcome.weights or forced:
        return outcome.weights
    weights = {revision: weight for revision, weight in outcome.weights.items() if revision != canary.revision}
    return weights | {stable.revision: weights.get(stable.revision, 0) + outcome.weights[canary.revision]}


def is_revision_drained(snapshot: Snapshot, revision: str, engine_revision: str) -> bool:
    """Whether the pods may forget a revision: all of them give it no request, and none is in progress.

    The drain timeout ends only the wait for requests, not the one for pods.
    """
    split = snapshot.splits.get(engine_revision)
    if split is None or snapshot.route.weights.get(revision) or not switch_of(snapshot, engine_revision).done:
        return False
    if split.changed_at and snapshot.now - split.changed_at >= snapshot.spec.rollout.drain_timeout:
        return True
    return snapshot.readings.in_progress.get(revision) == 0


def is_drained(snapshot: Snapshot, engine_revision: str, *, settled: bool) -> bool:
    """Whether the pods may be deleted: no served route names them, and they are idle or the drain timeout is over."""
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
    # Measured after the route was settled; before, a request on its way may not have been counted.
    removed = route.changed_at + timedelta(seconds=snapshot.policy.settle_seconds + 1)
    measured = snapshot.readings.in_flight.get(engine_revision)
    if measured and measured.at >= removed and measured.requests == 0:
        return True
    return snapshot.now - removed >= snapshot.spec.rollout.drain_timeout
