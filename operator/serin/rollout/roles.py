"""Which revision is the stable, and which records are closed or pruned: read from the records and the route."""

from __future__ import annotations

from dataclasses import replace

from serin.api.names import FULL_WEIGHT
from serin.rollout.commands import names
from serin.rollout.record import Record
from serin.rollout.snapshot import Snapshot


def find_stable(snapshot: Snapshot) -> Record | None:
    """The record promoted last; without any promotion, the one with most traffic on the route; else None.

    Records may come back from a backup without their annotations; then the route shows which revision was promoted.
    That record is returned as promoted, so that the promotion is stored before the split changes.
    """
    if restored := _target_with_all_traffic(snapshot):
        return restored
    promoted = [r for r in snapshot.records if r.promotion is not None]
    if promoted:
        return max(promoted, key=lambda r: r.promotion or 0)
    weights = snapshot.route.weights
    serving = [r for r in snapshot.records if weights.get(r.revision)]
    if not serving:
        return None
    return replace(max(serving, key=lambda r: (weights[r.revision], -r.number)), promotion=1)


def _target_with_all_traffic(snapshot: Snapshot) -> Record | None:
    """The target, as promoted, if it has all traffic and only its record is lost: no traffic moves then."""
    target = snapshot.target
    if target is None or target.recorded or snapshot.route.weights.get(target.revision) != FULL_WEIGHT:
        return None
    return replace(target, promotion=next_promotion(snapshot.records))


def unrecorded(snapshot: Snapshot, stable: Record | None) -> tuple[str, ...]:
    """Revisions without a record that get at least as much traffic as the stable; not those with an unreadable one."""
    weights = snapshot.route.weights
    known = {r.revision for r in snapshot.records} | ({stable.revision} if stable else set())
    least = weights.get(stable.revision, 0) if stable else 0
    known |= snapshot.unreadable_records.keys()
    unknown = {r: w for r, w in weights.items() if w and r not in known}
    return tuple(sorted(unknown)) if max(unknown.values(), default=-1) >= least else ()


def next_promotion(records: tuple[Record, ...]) -> int:
    """The number of the next promotion."""
    return max((r.promotion or 0 for r in records), default=0) + 1


def closed_trials(snapshot: Snapshot, keep: str | None) -> list[Record]:
    """Records without their trial, because the spec asks for another revision; the trial starts again if it returns."""
    return [replace(r, trial=None) for r in snapshot.records if r.trial and r.revision != keep and not r.rejection]


def prunable(snapshot: Snapshot, spared: set[str]) -> frozenset[str]:
    """The oldest records beyond `revisionHistoryLimit`; those in `spared`, running or in the route do not count."""
    running = {r.revision for r in snapshot.records if r.engine_revision in snapshot.engines}
    candidates = [
        r.revision
        for r in sorted(snapshot.records, key=lambda r: r.number)
        if r.revision not in spared | running | set(snapshot.route.weights)
        and not names(snapshot.command, r.revision)  # it has the token of the command that is still annotated
    ]
    excess = len(candidates) - snapshot.spec.revision_history_limit
    return frozenset(candidates[: max(0, excess)])
