"""A trial read a second time: from counts that were read again to slices, and whether they say what is kept. Pure.

Used by `serin replay`. The arithmetic is the operator's own (`serin.analysis.trial_state`), only the intervals may be
cut elsewhere: totals do not depend on that, what a test makes of them does a little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from serin.analysis.counts import EPOCHS, Interval
from serin.analysis.trial_state import TrialState, no_noise_yet, nothing_yet
from serin.analysis.update import counted_by_epoch, is_young, seconds_of
from serin.errors import RecordError
from serin.evidence.conditional import RELEASE_SECONDS
from serin.evidence.slices import NOTHING, Slice, Totals, together
from serin.rollout.record import Record


@dataclass(frozen=True)
class Sides:
    """Who was compared."""

    canary: Record
    stable: Record


def sides(state: TrialState, records: Sequence[Record]) -> Sides:
    """Whom a trial compares, or compared before it ended.

    Raises:
        RecordError: one of the two is not remembered any more.
    """
    revision, by_revision = state.trial.partition("@")[0], {record.revision: record for record in records}
    canary = by_revision.get(revision)
    if canary is None:
        raise RecordError(f"Revision {revision} is not remembered any more; raise spec.revisionHistoryLimit next time.")
    if against := state.against or (canary.trial.against if canary.trial else ""):
        stable = by_revision.get(against)
    else:  # kept by an earlier version, and promoted since: it took the place of the one promoted before it
        earlier = [r for r in records if r.promotion is not None and r.promotion < (canary.promotion or 0)]
        stable = max(earlier, key=lambda r: r.promotion or 0, default=None)
    if stable is None:
        raise RecordError(
            f"The stable that {revision} was compared with is not remembered any more; "
            "raise spec.revisionHistoryLimit next time."
        )
    return Sides(canary, stable)


def begun(state: TrialState) -> TrialState:
    """The same trial before its first request; its epochs are known from the start."""
    evidence = tuple(map(nothing_yet, state.measurements))
    noise = tuple(map(no_noise_yet, state.measurements))
    # Who arrived, and what was generated, no replay tells.
    return replace(
        state,
        until=state.since,
        evidence=evidence,
        noise=noise,
        unseen=0.0,
        seen_at=None,
        arrivals=None,
        arrived=(0, 0),
        lately=(),
        throughputs=(),
        generated=(),
    )


def slices(
    state: TrialState, intervals: Iterable[Interval], compared: Sides, *, metric: int, leaf: int
) -> Iterator[Slice]:
    """What one test was fed, cut so that whoever pools by `serin.evidence.conditional` closes the same strata.

    What came while an epoch was young is told with the first slice thereafter, or before the next release.
    """
    young: dict[int, Totals] = {}
    releases = 0
    canary, stable = compared.canary.revision, compared.stable.revision
    for interval in intervals:
        counted = counted_by_epoch(state, state.measurements[metric], interval, canary, stable)
        t = seconds_of(state, interval)
        due = max(releases, math.ceil(t / RELEASE_SECONDS) - 1)
        if counted and due > releases:
            for epoch in sorted(young):
                yield Slice(*young[epoch], t=float((releases + 1) * RELEASE_SECONDS), epoch=epoch)
            young.clear()
            releases = due
        for epoch in sorted(counted, key=lambda e: state.epochs[e].began):
            pooled = together(young.pop(epoch, NOTHING), counted[epoch][leaf])
            if is_young(state, epoch, interval.begin):
                young[epoch] = pooled
            else:
                yield Slice(*pooled, t=t, epoch=epoch)


@dataclass(frozen=True)
class Finding:
    """Whether what was read again is what is kept, in one line."""

    agrees: bool
    message: str


def compare(kept: TrialState, again: TrialState) -> Finding:
    """Compare the totals of every test; log E is told, since it depends on where slices are cut."""
    told = []
    for measurement, one, other in zip(kept.measurements, kept.evidence, again.evidence, strict=True):
        for had, has in zip(one.totals, other.totals, strict=True):
            if had != has:
                counts = ", ".join(
                    f"{name} {a} kept and {b} read" for name, a, b in zip(_NAMES, had, has, strict=True) if a != b
                )
                return Finding(agrees=False, message=f"{measurement.name} differs: {counts}. {_why(kept, had, has)}")
        leaf = one.strongest
        told.append(f"{measurement.name} log E {one.leaves[leaf].log_e:.4f} kept, {other.leaves[leaf].log_e:.4f} read")
    return Finding(agrees=True, message=f"Every total agrees until {kept.until.isoformat()}; {'; '.join(told)}.")


_NAMES = ("n1", "x1", "n0", "x0")


def _why(kept: TrialState, had: Totals, has: Totals) -> str:
    if len(kept.epochs) == EPOCHS:
        return "The trial had more epochs than the label has values, and the oldest are forgotten; nothing is wrong."
    if sum(has) < sum(had):
        return "Prometheus shows less than it did; ask one that keeps its samples for longer."
    return "Prometheus shows more than it did; check that samples do not arrive late (SERIN_EVIDENCE_LAG)."
