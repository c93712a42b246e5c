"""Computes a trial again from counts that were read a second time, as slices or as totals to compare. Pure.

Called by `serin replay`. The arithmetic is the operator's own (`serin.analysis.update`). The intervals can begin and
end at other times than the operator's: the totals do not depend on that, but the evidence depends on it a little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace

from serin.analysis.counts import EPOCHS, Interval
from serin.analysis.trial_state import MetricState, TrialState
from serin.analysis.update import counts_by_stratum, in_order, seconds_of, stays_open
from serin.errors import RecordError
from serin.evidence.slices import RequestsBySide, Slice, Totals, epoch_of
from serin.rollout.record import Record


@dataclass(frozen=True)
class ComparedRevisions:
    """The two revisions that a trial compares."""

    canary: Record
    stable: Record


def compared_revisions(state: TrialState, records: Sequence[Record]) -> ComparedRevisions:
    """The revisions that a trial compares, or compared before it ended.

    Raises:
        RecordError: the record of one of them was deleted.
    """
    revision, by_revision = state.trial.partition("@")[0], {record.revision: record for record in records}
    canary = by_revision.get(revision)
    if canary is None:
        raise RecordError(
            f"The record of canary {revision} was deleted, so this trial cannot be replayed. Raise "
            "spec.revisionHistoryLimit to keep the records of later trials for longer."
        )
    if against := state.against or (canary.trial.against if canary.trial else ""):
        stable = by_revision.get(against)
    else:  # an early version did not store it: the stable was promoted before the canary
        earlier = [r for r in records if r.promotion is not None and r.promotion < (canary.promotion or 0)]
        stable = max(earlier, key=lambda r: r.promotion or 0, default=None)
    if stable is None:
        raise RecordError(
            f"The record of the stable of canary {revision} was deleted, so this trial cannot be replayed. Raise "
            "spec.revisionHistoryLimit to keep the records of later trials for longer."
        )
    return ComparedRevisions(canary, stable)


def begun(state: TrialState) -> TrialState:
    """The same trial before its first request; its epochs are known from the start.

    Arrivals and throughputs are left out: `serin replay` does not read them.
    """
    return replace(
        state,
        until=state.since,
        metrics=tuple(MetricState.begin(metric.measurement) for metric in state.metrics),
        expected_without_sample=0.0,
        canary_sample_at=None,
        arrivals=None,
        arrived=RequestsBySide(),
        newest_arrivals=(),
        throughputs=(),
    )


def slices(
    state: TrialState, intervals: Iterable[Interval], compared: ComparedRevisions, *, metric: int, leaf: int
) -> Iterator[tuple[Slice, bool]]:
    """The slices of one test in the operator's order, each with whether its epoch was young (`ConditionalTest.add`)."""
    canary, stable = compared.canary.revision, compared.stable.revision
    for interval in intervals:
        counts = counts_by_stratum(state, state.metrics[metric].measurement, interval, canary, stable)
        for key in in_order(state, counts):
            n = counts[key][leaf]
            s = Slice(n.n1, n.x1, n.n0, n.x0, t=seconds_of(state, interval), epoch=key)
            yield (
                s,
                stays_open(state, epoch_of(key), interval.begin_by_clock, state.metrics[metric].measurement),
            )


@dataclass(frozen=True)
class Comparison:
    """Whether the totals that were read again equal those in the trial state, in one line."""

    agrees: bool
    message: str


def compare(stored: TrialState, again: TrialState) -> Comparison:
    """Compare the totals of every test. log E is only reported: it depends on where slices begin and end."""
    reports = []
    for metric, other in zip(stored.metrics, again.metrics, strict=True):
        name = metric.measurement.name
        for had, has in zip(metric.tests.totals, other.tests.totals, strict=True):
            if had != has:
                return Comparison(
                    agrees=False, message=f"{name} differs: {_difference(had, has)}. {_why(stored, had, has)}"
                )
        leaf = metric.tests.strongest
        one, two = (each.tests.leaves[leaf].log_e for each in (metric, other))
        reports.append(f"{name}: log E {one:.4f} stored, {two:.4f} read again")
    return Comparison(agrees=True, message=f"All totals agree until {stored.until.isoformat()}; {'; '.join(reports)}.")


def _difference(had: Totals, has: Totals) -> str:
    before, now = asdict(had), asdict(has)
    return ", ".join(f"{key} {before[key]} stored, {now[key]} read again" for key in before if before[key] != now[key])


def _why(stored: TrialState, had: Totals, has: Totals) -> str:
    if len(stored.epochs) == EPOCHS:
        return (
            "The trial had more epochs than the label has values, so the oldest were overwritten; the difference is "
            "expected."
        )
    if sum(astuple(has)) < sum(astuple(had)):
        return "Prometheus returns less than it did; use one that keeps its samples for longer (--prometheus)."
    return "Prometheus returns more than it did; raise SERIN_EVIDENCE_LAG if samples arrive late."
