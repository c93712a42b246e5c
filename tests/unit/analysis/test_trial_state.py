"""What a trial has shown: every request counted once, in the epoch that it arrived in, whatever happens in between."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import EPOCHS, Baseline, Interval, Names, Point, Tally
from serin.analysis.presets import DEFAULT_SERIES, measurements, throughputs
from serin.analysis.trial_state import Epoch, TrialState, begin_epoch, from_json, nothing_yet, to_json
from serin.analysis.update import advance
from serin.analysis.verdict import Verdict, judge
from serin.api.analysis import Analysis
from serin.errors import RecordError
from tests.unit.rollout.cases import BAD, FEW, GOOD, HOUR, MINUTE, NOON, A, B, C, make_evidence
from tests.unit.rollout.worlds import REQUESTS, memories

SLICE = timedelta(seconds=15)
THROUGHPUT = {"name": "t", "preset": "Throughput", "mode": "Advisory"}
CODES = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)


def fresh(*, measured: bool = True, **changes: Any) -> TrialState:
    """Nothing counted yet; epoch 1 began at noon with 5 %."""
    pinned = measurements(Analysis(), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=measured)
    facts: dict[str, Any] = {
        "since": NOON,
        "until": NOON,
        "measurements": pinned,
        "evidence": tuple(map(nothing_yet, pinned)),
        "epochs": {1: Epoch(NOON, 500)},
    }
    return make_evidence(GOOD, **(facts | changes))


def grown(
    points: Mapping[Point, int], *, begin: datetime = NOON, tally: Tally = REQUESTS, span: timedelta = SLICE
) -> Interval:
    return Interval(begin, begin + span, {tally: points} if points else {})


def after(state: TrialState, *intervals: Interval) -> TrialState:
    return advance(state, intervals, canary=B, stable=A)


def totals(state: TrialState) -> tuple[int, int, int, int]:
    """Of errors."""
    return state.evidence[0].totals[0]


BOTH: dict[Point, int] = {(B, 1, "ok"): 9, (B, 1, "aborted"): 1, (A, 1, "ok"): 190, (A, 1, "server_error"): 2}


# Once --------------------------------------------------------------------------------------------------------------


def test_every_request_is_counted_once_however_often_it_is_told() -> None:
    first, second = grown(BOTH), grown(BOTH, begin=NOON + SLICE)
    state = after(fresh(), first, second)
    assert totals(state) == (20, 2, 384, 4)
    assert state.until == NOON + 2 * SLICE
    assert after(state, first, second) == state
    assert after(after(fresh(), first), first, second) == state


@pytest.mark.parametrize(
    "begin", [NOON - SLICE, NOON + SLICE, NOON + timedelta(seconds=1)], ids=["before", "after a gap", "overlapping"]
)
def test_an_interval_that_does_not_follow_is_left_alone(begin: datetime) -> None:
    assert after(fresh(), grown(BOTH, begin=begin)) == fresh()


def test_what_follows_a_gap_is_left_alone_as_well() -> None:
    state = after(fresh(), grown(BOTH), grown(BOTH, begin=NOON + 2 * SLICE), grown(BOTH, begin=NOON + 3 * SLICE))
    assert (state.until, totals(state)) == (NOON + SLICE, (10, 1, 192, 2))


def test_the_state_before_is_not_changed_in_place() -> None:
    state = fresh()
    kept = copy.deepcopy(state)
    after(state, grown(BOTH))
    begin_epoch(state, 1, 900, NOON + MINUTE)
    assert state == kept


slices = st.lists(
    st.dictionaries(
        st.tuples(st.sampled_from([A, B, C]), st.integers(0, 3), st.sampled_from(["ok", "rejected", "excluded"])),
        st.integers(1, 60),
        max_size=4,
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(slices, st.data())
def test_a_crash_anywhere_neither_loses_nor_doubles_a_request(
    told: list[dict[Point, int]], data: st.DataObject
) -> None:
    """In one go, or written and read back after any of them, with the last ones told again: the same."""
    epochs = {1: Epoch(NOON - HOUR, 500), 2: Epoch(NOON - MINUTE, 2_500), 3: Epoch(NOON, 0)}
    intervals = [grown(points, begin=NOON + number * SLICE) for number, points in enumerate(told)]
    calm = after(fresh(epochs=epochs), *intervals)
    state = fresh(epochs=epochs)
    for number in range(len(intervals)):
        again = data.draw(st.integers(0, number))
        state = from_json(json.loads(json.dumps(to_json(after(state, *intervals[again : number + 1])))))
    assert to_json(state) == to_json(calm)


# Whose -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param({(B, 7, "ok"): 5, (A, 7, "ok"): 5}, (0, 0, 0, 0), id="an epoch of an earlier trial"),
        pytest.param({(B, 2, "ok"): 5, (A, 2, "ok"): 5}, (0, 0, 0, 0), id="an epoch without weight"),
        pytest.param({(C, 1, "ok"): 5}, (0, 0, 0, 0), id="another revision"),
        pytest.param({(B, 1, "excluded"): 5}, (0, 0, 0, 0), id="what counts on neither side"),
        pytest.param({(B, 1, "ok"): 5, (B, 7, "rejected"): 5, (A, 1, "ok"): 9}, (5, 0, 9, 0), id="some of them"),
    ],
)
def test_what_is_left_out(points: dict[Point, int], expected: tuple[int, int, int, int]) -> None:
    state = after(fresh(epochs={1: Epoch(NOON, 500), 2: Epoch(NOON, 0)}), grown(points))
    assert (totals(state), state.until) == (expected, NOON + SLICE)


def test_late_answers_count_with_those_that_arrived_under_the_same_weight() -> None:
    state = begin_epoch(fresh(), 2, 2_500, NOON)
    state = after(state, grown({(B, 1, "ok"): 2, (A, 1, "ok"): 30, (B, 2, "ok"): 2, (A, 2, "ok"): 30}))
    test = state.evidence[0].comparisons[0].test
    assert test.open == {1: (2, 0, 30, 0), 2: (2, 0, 30, 0)}
    state = after(state, grown({(B, 1, "rejected"): 1}, begin=NOON + SLICE))
    closed = state.evidence[0].comparisons[0].test
    assert set(closed.open) == {2}
    assert closed.closed.n1 == 3


# Settled and blank -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "proves"), [(15, False), (29, False), (30, True), (300, True)], ids=["early", "just", "settled", "late"]
)
def test_only_what_ends_after_the_settle_time_counts_for_the_proof(seconds: int, *, proves: bool) -> None:
    begin = NOON + timedelta(seconds=seconds) - SLICE
    state = fresh(until=begin)
    seen = after(state, grown(BOTH, begin=begin))
    assert totals(seen) == (10, 1, 192, 2)
    before, now = state.evidence[0].comparisons[0], seen.evidence[0].comparisons[0]
    assert now.proof.logs == before.proof.logs, "one side may show the rest of it an interval later"
    later = after(seen, grown({}, begin=begin + SLICE)).evidence[0].comparisons[0]
    assert (later.proof.logs != before.proof.logs) == proves
    assert now.test.closed.n1 == 10, "it counts against the canary at once"


@pytest.mark.parametrize(
    ("seconds", "believed"), [(0, False), (19, False), (20, True), (60, True)], ids=["at once", "just", "then", "later"]
)
def test_a_series_without_an_epoch_is_not_believed_for_a_while(seconds: int, *, believed: bool) -> None:
    begin = NOON + timedelta(seconds=seconds)
    state = fresh(measured=False, until=begin, blank_seconds=20.0)
    seen = after(state, grown({(B, None, "500"): 4, (A, None, "200"): 90}, begin=begin, tally=CODES))
    assert (totals(seen), seen.until) == ((4, 4, 90, 0) if believed else (0, 0, 0, 0), begin + SLICE)


def test_a_series_without_an_epoch_is_not_believed_across_a_change_of_weight() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 2_500, NOON + timedelta(seconds=40))
    begin = NOON + timedelta(seconds=30)
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 4, (A, None, "200"): 9}, begin=begin, tally=CODES)
    )
    assert totals(seen) == (0, 0, 0, 0)


def test_a_series_without_an_epoch_is_not_believed_while_the_canary_has_no_weight() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 0, NOON + MINUTE)
    begin = NOON + 2 * MINUTE
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 1, (A, None, "200"): 99}, begin=begin, tally=CODES)
    )
    assert totals(seen) == (0, 0, 0, 0)


# Silence -----------------------------------------------------------------------------------------------------------


def test_one_request_of_a_stable_that_has_little_left_promises_few_of_the_canary_and_not_fifty() -> None:
    state = begin_epoch(fresh(), 2, 9_800, NOON)
    assert after(state, grown({(A, 2, "ok"): 1})).unseen == pytest.approx(3.91, abs=0.01)


def test_traffic_of_the_stable_makes_some_of_the_canary_expected() -> None:
    state = after(fresh(), grown({(A, 1, "ok"): 190}))
    assert (state.unseen, state.silent_for) == (pytest.approx(9.75, abs=0.01), SLICE)
    state = after(state, grown({(A, 1, "ok"): 190}, begin=NOON + SLICE))
    assert (state.unseen, state.silent_for) == (pytest.approx(19.49, abs=0.01), 2 * SLICE)
    state = after(state, grown({(A, 1, "ok"): 190, (B, 1, "ok"): 1}, begin=NOON + 2 * SLICE))
    assert (state.unseen, state.silent_for, state.counted) == (0.0, timedelta(), 1)
    state = after(state, grown({}, begin=NOON + 3 * SLICE))
    assert (state.unseen, state.silent_for) == (0.0, SLICE)


# Epochs ------------------------------------------------------------------------------------------------------------


def test_what_arrives_is_counted_in_the_newest_epoch_only() -> None:
    arrivals = Tally("serin_requests_started_total")
    points: dict[Point, int] = {(B, 1, ""): 5, (A, 1, ""): 95, (B, 0, ""): 7, (C, 1, ""): 9}
    state = after(
        fresh(arrivals=arrivals), grown(points, tally=arrivals), grown(points, begin=NOON + SLICE, tally=arrivals)
    )
    assert state.arrived == (10, 190)
    assert state.lately == ((NOON + SLICE, 100), (NOON + 2 * SLICE, 100))
    third = after(state, grown({}, begin=NOON + 2 * SLICE, span=4 * SLICE))
    assert third.lately == ()
    begun = begin_epoch(state, 2, 900, NOON + MINUTE)
    assert (begun.arrived, begun.lately) == ((0, 0), ())


def test_tokens_and_seconds_of_answering_are_summed_where_the_epoch_is_not_in_doubt() -> None:
    analysis = Analysis.model_validate({"metrics": [{"name": "e", "preset": "ErrorRate"}, THROUGHPUT]})
    (shown,) = throughputs(analysis, DEFAULT_SERIES)
    counts = {
        shown.milliseconds: {(B, None, ""): 1_000, (A, None, ""): 9_000},
        shown.tokens: {(B, None, ""): 30, (A, None, ""): 300},
    }
    begun = fresh(throughputs=(shown,), generated=((0, 0, 0, 0),), blank_seconds=10.0)
    state = after(begun, Interval(NOON, NOON + SLICE, counts), Interval(NOON + SLICE, NOON + 2 * SLICE, counts))
    assert state.generated == ((1_000, 30, 9_000, 300),)
    assert state.counted == 0


def test_the_stables_processes_are_compared_with_each_other_where_a_proof_rests_on_it() -> None:
    apart = {REQUESTS: {"a": {(A, 1, "ok"): 90, (A, 1, "aborted"): 10}, "b": {(A, 1, "ok"): 100}}}
    whole: dict[Point, int] = {(A, 1, "ok"): 190, (A, 1, "aborted"): 10, (B, 1, "ok"): 20}
    state = fresh()
    for number in range(40):
        begin = NOON + number * SLICE
        state = after(state, replace(grown(whole, begin=begin), apart=apart))
    assert state.noise[0].noisy
    assert not state.noise[1].noisy
    assert from_json(json.loads(json.dumps(to_json(state)))) == state


def test_a_ceiling_and_what_users_count_are_not_compared_between_pods() -> None:
    ratio = {"bad": "my_bad_total", "total": "my_total"}
    analysis = Analysis.model_validate(
        {
            "metrics": [
                {"name": "errors", "preset": "ErrorRate", "mode": "Advisory"},
                {"name": "limit", "ceiling": {"of": "errors", "rate": 0.05}},
                {"name": "own", "ratio": ratio},
            ]
        }
    )
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    state = fresh(measurements=pinned, evidence=tuple(map(nothing_yet, pinned)))
    assert state.apart == ()
    apart = {REQUESTS: {"a": {(A, 1, "aborted"): 90}, "b": {(A, 1, "ok"): 100}}}
    state = after(state, replace(grown({(A, 1, "ok"): 100, (A, 1, "aborted"): 90}), apart=apart))
    assert [among.halves for among in state.noise] == [{}, {}, {}]


def test_histograms_without_a_bucket_in_common_are_not_comparable_from_then_on() -> None:
    analysis = Analysis.model_validate({"metrics": [{"name": "t", "preset": "TimeToFirstToken"}]})
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    begun = fresh(measurements=pinned, evidence=tuple(map(nothing_yet, pinned)))
    points: dict[Point, int] = {(B, 1, "0.3"): 5, (B, 1, "+Inf"): 5, (A, 1, "0.5"): 90, (A, 1, "+Inf"): 95}
    bounds = {pinned[0].total: {B: frozenset({"0.3", "+Inf"}), A: frozenset({"0.5", "+Inf"})}}
    state = after(begun, replace(grown(points, tally=pinned[0].total), bounds=bounds))
    assert judge(state).verdict is Verdict.INCONCLUSIVE
    assert "no bucket in common" in judge(state).message
    assert from_json(json.loads(json.dumps(to_json(state)))) == state


def test_a_state_of_a_version_that_knew_nothing_of_pods_arrivals_and_throughput_is_read() -> None:
    written = to_json(fresh())
    later_on = ("noise", "arrivals", "arrived", "lately", "sliceSeconds", "throughputs", "generated")
    for later in (*later_on, "arrivedBefore", "ended", "inProgress", "crowdedSince"):
        del written[later]
    for metric in written["evidence"]:
        del metric["incomparable"]
    for measurement in written["measurements"]:
        del measurement["total"]["scale"]
    assert from_json(json.loads(json.dumps(written))) == fresh()


@pytest.mark.parametrize(
    ("began", "live"),
    [
        ({}, set(range(EPOCHS))),
        ({3: 0}, {3, 4, 5, 6, 7}),
        ({30: 0, 31: 10, 0: 80, 1: 95}, {31, 0, 1, 2, 3, 4, 5}),
        ({30: 0, 31: 10, 0: 30}, {31, 0, 1, 2, 3, 4}),
    ],
    ids=["none yet", "one", "the first ended long ago", "across the end of the ring"],
)
def test_only_epochs_in_which_something_may_end_are_read(began: dict[int, int], live: set[int]) -> None:
    epochs = {epoch: Epoch(NOON + minutes * MINUTE, 500) for epoch, minutes in began.items()}
    state = fresh(epochs=epochs, until=NOON + 100 * MINUTE if len(began) == 4 else NOON + 75 * MINUTE)
    assert set(state.live_epochs) == live


@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(0, EPOCHS - 1))
def test_no_more_epochs_are_remembered_than_the_label_has_values(changes: int, first: int) -> None:
    state = fresh(epochs={})
    for number in range(changes):
        state = begin_epoch(state, (first + number) % EPOCHS, 100 + number, NOON + number * MINUTE)
    assert len(state.epochs) == min(changes, EPOCHS)
    assert state.newest == (first + changes - 1) % EPOCHS
    assert state.epochs[state.newest] == Epoch(NOON + (changes - 1) * MINUTE, 99 + changes)


# Kept --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(memories())
def test_a_state_comes_back_as_it_was_written(state: TrialState) -> None:
    text = json.dumps(to_json(state), allow_nan=False)
    again = from_json(json.loads(text))
    assert again == state
    assert to_json(again) == to_json(state)


WRITTEN = to_json(make_evidence(FEW))


def damaged(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(WRITTEN) | changes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="nothing"),
        pytest.param(damaged(version=0), id="another version"),
        pytest.param({k: v for k, v in WRITTEN.items() if k != "until"}, id="a key is missing"),
        pytest.param(damaged(until="yesterday"), id="a time that is none"),
        pytest.param(damaged(epochs=[]), id="epochs that are a list"),
        pytest.param(damaged(epochs={"one": ["2026-05-04T12:00:00+00:00", 500]}), id="an epoch that is no number"),
        pytest.param(damaged(epochs={"1": "2026"}), id="an epoch without weight"),
        pytest.param(damaged(evidence=[]), id="no evidence"),
        pytest.param(damaged(evidence=WRITTEN["evidence"][::-1]), id="evidence of another metric"),
        pytest.param(damaged(measurements=[]), id="no measurements"),
        pytest.param(damaged(measurements=[3, 4]), id="measurements that are none"),
        pytest.param(damaged(unseen="many"), id="a number that is none"),
        pytest.param(damaged(evidence=[{"leaves": [], "totals": []}] * 2), id="evidence without leaves"),
    ],
)
def test_a_damaged_state_is_an_error_that_says_what_happens(data: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="the trial is begun anew"):
        from_json(data)


def test_what_is_kept_stays_small() -> None:
    """A ConfigMap holds a MiB; sixteen histograms with every epoch open are far from it."""
    metrics = [{"name": f"m{i}", "preset": "TimeToFirstToken"} for i in range(16)]
    pinned = measurements(
        Analysis.model_validate({"metrics": metrics}), DEFAULT_SERIES, Baseline(NOON, 1e6), measured=True
    )
    state = fresh(measurements=pinned, evidence=tuple(map(nothing_yet, pinned)), epochs={})
    for epoch in range(EPOCHS):
        state = begin_epoch(state, epoch, 5_000, NOON)
        for metric in state.evidence:
            metric.add([(10**9, 10**9, 1, 1)] * len(metric.leaves), t=1.0, epoch=epoch, settled=True)
    assert len(json.dumps(to_json(state))) < 500_000


def test_the_evidence_of_the_cases_survives() -> None:
    for counts in (GOOD, BAD, FEW):
        assert from_json(to_json(make_evidence(counts))) == make_evidence(counts)
