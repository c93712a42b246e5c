"""Who is the stable and who is the canary: read off records and route, never remembered elsewhere."""

from __future__ import annotations

from dataclasses import replace

from serin.api.names import FULL_WEIGHT
from serin.rollout.commands import names
from serin.rollout.record import Record
from serin.rollout.snapshot import Snapshot


def find_stable(snapshot: Snapshot) -> Record | None:
    """The record promoted last; without any promotion, the one that the route gives most traffic to; else None.

    The route is the witness of last resort: records may have come back from a backup without their annotations. What
    it testifies is answered as promoted, so that it is written down before the split moves on.
    """
    if alone := _served_alone(snapshot):
        return alone
    promoted = [r for r in snapshot.records if r.promotion is not None]
    if promoted:
        return max(promoted, key=lambda r: r.promotion or 0)
    weights = snapshot.route.weights
    serving = [r for r in snapshot.records if weights.get(r.revision)]
    if not serving:
        return None
    return replace(max(serving, key=lambda r: (weights[r.revision], -r.number)), promotion=1)


def _served_alone(snapshot: Snapshot) -> Record | None:
    """The target if it has all traffic already and only its record is lost: adopting it moves nothing."""
    target = snapshot.target
    if target is None or target.recorded or snapshot.route.weights.get(target.revision) != FULL_WEIGHT:
        return None
    return replace(target, promotion=next_promotion(snapshot.records))


def unrecorded(snapshot: Snapshot, stable: Record | None) -> tuple[str, ...]:
    """Revisions without a record that get at least as much traffic as who is taken for the stable."""
    weights = snapshot.route.weights
    known = {r.revision for r in snapshot.records} | ({stable.revision} if stable else set())
    least = weights.get(stable.revision, 0) if stable else 0
    unknown = {r: w for r, w in weights.items() if w and r not in known}
    return tuple(sorted(unknown)) if max(unknown.values(), default=-1) >= least else ()


def next_promotion(records: tuple[Record, ...]) -> int:
    """The number of the next promotion."""
    return max((r.promotion or 0 for r in records), default=0) + 1


def closed_trials(snapshot: Snapshot, keep: str | None) -> list[Record]:
    """Records whose trial is over without an outcome because the spec moved on; they start anew if it comes back."""
    return [replace(r, trial=None) for r in snapshot.records if r.trial and r.revision != keep and not r.rejection]


def prunable(snapshot: Snapshot, spared: set[str]) -> frozenset[str]:
    """The oldest records beyond `revisionHistoryLimit`; what is spared or runs stays and is not counted."""
    running = {r.revision for r in snapshot.records if r.engine_revision in snapshot.engines}
    candidates = [
        r.revision
        for r in sorted(snapshot.records, key=lambda r: r.number)
        if r.revision not in spared | running | set(snapshot.route.weights)
        and not names(snapshot.command, r.revision)  # it holds the tokens of the command that still stands
    ]
    excess = len(candidates) - snapshot.spec.revision_history_limit
    return frozenset(candidates[: max(0, excess)])
