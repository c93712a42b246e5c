"""A trial that is read a second time: the same slices, the same totals, and a sentence where they differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import EPOCHS, Baseline, Interval
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.trial_state import Epoch, MetricState, TrialState
from serin.analysis.update import advance
from serin.api.analysis import Analysis
from serin.errors import RecordError
from serin.evidence.metric import Comparison
from serin.replay.recorded import parameters_of, replay
from serin.replay.trial import ComparedRevisions, begun, compare, compared_revisions, slices
from serin.rollout.record import Record
from tests.unit.rollout.cases import GOOD, MINUTE, NOON, REJECTION, A, B, C, make_evidence, make_record, make_trial
from tests.unit.rollout.worlds import REQUESTS

SIDES = ComparedRevisions(make_record(B), make_record(A))


def before(**changes: Any) -> TrialState:
    """A trial of which nothing was counted: 5 % from noon, 25 % seven minutes later; epochs are young for 30 s."""
    pinned = measurements(Analysis(), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    facts: dict[str, Any] = {
        "since": NOON,
        "until": NOON,
        "metrics": tuple(map(MetricState.begin, pinned)),
        "epochs": {1: Epoch(NOON, 500), 2: Epoch(NOON + 7 * MINUTE, 2500)},
        "young_seconds": 30.0,
    }
    return make_evidence(GOOD, **(facts | changes))


@st.composite
def intervals(draw: st.DrawFn) -> list[Interval]:
    """Up to half an hour without a gap, of any lengths, with counts of both sides and epochs."""
    found, begin = [], NOON
    for _ in range(draw(st.integers(1, 40))):
        end = begin + timedelta(seconds=draw(st.sampled_from([5, 15, 15, 15, 120, 700])))
        point = st.tuples(st.sampled_from([A, B]), st.sampled_from([1, 2, 9]), st.sampled_from(["ok", "server_error"]))
        points = draw(st.dictionaries(point, st.integers(1, 30), max_size=6))
        found.append(Interval(begin, end, {REQUESTS: points} if points else {}))
        begin = end
    return found


def as_lines(state: TrialState, read: Sequence[Interval]) -> list[str]:
    found = slices(state, read, SIDES, metric=0, leaf=0)
    return [json.dumps(dataclasses.asdict(s) | ({"young": True} if young else {})) for s, young in found]


@settings(max_examples=80)
@given(intervals())
def test_replayed_slices_give_same_evidence(read: Sequence[Interval]) -> None:
    state = before()
    kept = advance(state, read, canary=B, stable=A)
    test = kept.metrics[0].tests.leaves[0]
    assert isinstance(test, Comparison)
    reset = json.dumps({"reset": parameters_of(test.test.parameters)})
    answers = list(replay([reset, *as_lines(state, read)]))
    assert not any("error" in answer for answer in answers)
    assert (answers[-1]["log_e"] if answers else 0.0) == pytest.approx(test.log_e, abs=1e-9)
    assert compare(kept, advance(begun(kept), read, canary=B, stable=A)).agrees


ended = make_record(B, trial=make_trial(against=A), rejection=REJECTION)
promoted = make_record(C, promotion=2)


@pytest.mark.parametrize(
    ("trial", "records", "found"),
    [
        (f"{B}@1", [make_record(A, promotion=1), ended], (B, A)),
        (f"{B}@1", [make_record(A, promotion=1), make_record(B, trial=make_trial(against=C)), promoted], (B, C)),
        (f"{C}@2", [make_record(A, promotion=1), make_record(B), promoted], (C, A)),
    ],
    ids=["rolled back", "on trial", "promoted"],
)
def test_revisions_of_trial_of_earlier_version_are_found(
    trial: str, records: list[Record], found: tuple[str, str]
) -> None:
    both = compared_revisions(before(trial=trial), records)
    assert (both.canary.revision, both.stable.revision) == found


@pytest.mark.parametrize(
    "canary",
    [ended, make_record(B), make_record(B, promotion=2), make_record(B, trial=make_trial(against=""))],
    ids=["rolled back", "withdrawn", "promoted before", "to be tried again"],
)
def test_stable_of_ended_trial_is_found(canary: Record) -> None:
    records = [make_record(C, promotion=1), canary, make_record(A, promotion=3)]
    both = compared_revisions(before(trial=f"{B}@1", against=A), records)
    assert (both.canary.revision, both.stable.revision) == (B, A)


@pytest.mark.parametrize(
    "records", [[make_record(A, promotion=1)], [ended], [promoted]], ids=["no canary", "no stable", "other"]
)
def test_trial_with_deleted_record_cannot_be_replayed(records: list[Record]) -> None:
    with pytest.raises(RecordError, match=r"was deleted, .* Raise spec\.revisionHistoryLimit"):
        compared_revisions(before(trial=f"{B}@1"), records)


def test_difference_is_reported_with_cause_and_remedy() -> None:
    point, other = (A, 1, "ok"), (B, 1, "server_error")
    counted = Interval(NOON, NOON + MINUTE, {REQUESTS: {point: 90, other: 7}})
    kept = advance(before(), [counted], canary=B, stable=A)
    less = advance(before(), [replace(counted, counts={REQUESTS: {point: 80, other: 7}})], canary=B, stable=A)
    comparison = compare(kept, less)
    assert not comparison.agrees
    assert comparison.message == (
        "errors differs: n0 90 stored, 80 read again. Prometheus returns less than it did; "
        "use one that keeps its samples for longer (--prometheus)."
    )
    assert "SERIN_EVIDENCE_LAG" in compare(less, kept).message
    full = replace(kept, epochs={epoch: Epoch(NOON, 500) for epoch in range(EPOCHS)})
    assert "more epochs than the label has values" in compare(full, less).message
    assert compare(kept, kept).message.startswith("All totals agree until 2026-05-04T12:01:00+00:00; errors: log E ")
