"""Every request is counted once, in the epoch in which it arrived, whatever happens in between."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import EPOCHS, Baseline, Interval, Point, Tally
from serin.analysis.measurement import Generated
from serin.analysis.presets import DEFAULT_SERIES, measurements, throughputs
from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import Arrived, Epoch, MetricState, ThroughputState, begin_epoch
from serin.analysis.verdict import Verdict, judge
from serin.api.analysis import Analysis
from serin.evidence.slices import NOTHING, RequestsBySide, Totals
from tests.unit.analysis.trial_states import (
    BOTH,
    CODES,
    SLICE,
    THROUGHPUT,
    after,
    comparison,
    fresh,
    grown,
    totals,
)
from tests.unit.rollout.cases import HOUR, MINUTE, NOON, A, B, C
from tests.unit.rollout.worlds import REQUESTS

# Once --------------------------------------------------------------------------------------------------------------


def test_repeated_interval_is_counted_once() -> None:
    first, second = grown(BOTH), grown(BOTH, begin=NOON + SLICE)
    state = after(fresh(), first, second)
    assert totals(state) == Totals(20, 2, 384, 4)
    assert state.until == NOON + 2 * SLICE
    assert after(state, first, second) == state
    assert after(after(fresh(), first), first, second) == state


@pytest.mark.parametrize(
    "begin", [NOON - SLICE, NOON + SLICE, NOON + timedelta(seconds=1)], ids=["before", "after a gap", "overlapping"]
)
def test_interval_that_does_not_follow_is_ignored(begin: datetime) -> None:
    assert after(fresh(), grown(BOTH, begin=begin)) == fresh()


def test_intervals_after_gap_are_ignored() -> None:
    state = after(fresh(), grown(BOTH), grown(BOTH, begin=NOON + 2 * SLICE), grown(BOTH, begin=NOON + 3 * SLICE))
    assert (state.until, totals(state)) == (NOON + SLICE, Totals(10, 1, 192, 2))


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
def test_crash_between_intervals_neither_loses_nor_doubles_requests(
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
        pytest.param({(B, 1, "excluded"): 5}, (5, 0, 0, 0), id="what is neither good nor bad"),
        pytest.param({(B, 1, "ok"): 5, (B, 7, "rejected"): 5, (A, 1, "ok"): 9}, (5, 0, 9, 0), id="some of them"),
    ],
)
def test_counts_of_other_trials_and_revisions_are_ignored(
    points: dict[Point, int], expected: tuple[int, int, int, int]
) -> None:
    state = after(fresh(epochs={1: Epoch(NOON, 500), 2: Epoch(NOON, 0)}), grown(points))
    assert (totals(state), state.until) == (Totals(*expected), NOON + SLICE)


def test_late_answers_count_in_epoch_of_arrival() -> None:
    state = begin_epoch(fresh(), 2, 2_500, NOON)
    state = after(state, grown({(B, 1, "ok"): 2, (A, 1, "ok"): 30, (B, 2, "ok"): 2, (A, 2, "ok"): 30}))
    test = comparison(state).test
    assert test.open == {1: Totals(2, 0, 30, 0), 2: Totals(2, 0, 30, 0)}
    state = after(state, grown({(B, 1, "rejected"): 1}, begin=NOON + SLICE))
    closed = comparison(state).test
    assert set(closed.open) == {2}
    assert closed.closed.n1 == 3


# Settled and blank -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "proves"), [(15, False), (29, False), (30, True), (300, True)], ids=["early", "just", "settled", "late"]
)
def test_only_slices_after_settle_time_count_for_proof(seconds: int, *, proves: bool) -> None:
    begin = NOON + timedelta(seconds=seconds) - SLICE
    state = fresh(until=begin)
    seen = after(state, grown(BOTH, begin=begin))
    assert totals(seen) == Totals(10, 1, 192, 2)
    before, now = comparison(state), comparison(seen)
    assert now.proof.logs == before.proof.logs, "one side may show the rest of it an interval later"
    later = comparison(after(seen, grown({}, begin=begin + SLICE)))
    assert (later.proof.logs != before.proof.logs) == proves
    assert now.test.closed.n1 == 10, "it counts against the canary at once"


@pytest.mark.parametrize(
    ("seconds", "believed"), [(0, False), (19, False), (20, True), (60, True)], ids=["at once", "just", "then", "later"]
)
def test_series_without_epoch_is_ignored_for_blank_seconds(seconds: int, *, believed: bool) -> None:
    begin = NOON + timedelta(seconds=seconds)
    state = fresh(measured=False, until=begin, blank_seconds=20.0)
    seen = after(state, grown({(B, None, "500"): 4, (A, None, "200"): 90}, begin=begin, tally=CODES))
    assert (totals(seen), seen.until) == (Totals(4, 4, 90, 0) if believed else NOTHING, begin + SLICE)


def test_series_without_epoch_is_ignored_across_change_of_weight() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 2_500, NOON + timedelta(seconds=40))
    begin = NOON + timedelta(seconds=30)
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 4, (A, None, "200"): 9}, begin=begin, tally=CODES)
    )
    assert totals(seen) == NOTHING


def test_series_without_epoch_is_ignored_at_weight_zero() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 0, NOON + MINUTE)
    begin = NOON + 2 * MINUTE
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 1, (A, None, "200"): 99}, begin=begin, tally=CODES)
    )
    assert totals(seen) == NOTHING


# Silence -----------------------------------------------------------------------------------------------------------


def test_one_stable_request_at_two_percent_expects_four_canary_requests() -> None:
    state = begin_epoch(fresh(), 2, 9_800, NOON)
    assert after(state, grown({(A, 2, "ok"): 1})).expected_without_sample == pytest.approx(3.91, abs=0.01)


def test_stable_requests_raise_expected_canary_requests() -> None:
    state = after(fresh(), grown({(A, 1, "ok"): 190}))
    assert (state.expected_without_sample, state.silent_for) == (pytest.approx(9.75, abs=0.01), SLICE)
    state = after(state, grown({(A, 1, "ok"): 190}, begin=NOON + SLICE))
    assert (state.expected_without_sample, state.silent_for) == (pytest.approx(19.49, abs=0.01), 2 * SLICE)
    state = after(state, grown({(A, 1, "ok"): 190, (B, 1, "ok"): 1}, begin=NOON + 2 * SLICE))
    assert (state.expected_without_sample, state.silent_for, state.canary_requests) == (0.0, timedelta(), 1)
    state = after(state, grown({}, begin=NOON + 3 * SLICE))
    assert (state.expected_without_sample, state.silent_for) == (0.0, SLICE)


# Epochs ------------------------------------------------------------------------------------------------------------


def test_arrivals_of_other_epochs_are_not_in_newest() -> None:
    arrivals = Tally("serin_requests_started_total")
    points: dict[Point, int] = {(B, 1, ""): 5, (A, 1, ""): 95, (B, 0, ""): 7, (C, 1, ""): 9}
    state = after(
        fresh(arrivals=arrivals), grown(points, tally=arrivals), grown(points, begin=NOON + SLICE, tally=arrivals)
    )
    assert state.arrived == RequestsBySide(10, 190)
    assert state.newest_arrivals == (Arrived(NOON + SLICE, 100, 5), Arrived(NOON + 2 * SLICE, 100, 5))
    sampled = {B: {"b": NOON + SLICE, "c": NOON}, A: {"a": NOON + SLICE, "d": NOON + 2 * SLICE}}
    timed = after(fresh(arrivals=arrivals), replace(grown(points, tally=arrivals), sampled=sampled))
    assert timed.newest_arrivals == (Arrived(NOON + SLICE, 100, 5, NOON + SLICE, NOON + SLICE),)
    third = after(state, grown({}, begin=NOON + 2 * SLICE, span=4 * SLICE))
    assert third.newest_arrivals == ()
    begun = begin_epoch(state, 2, 900, NOON + MINUTE)
    assert (begun.arrived, begun.newest_arrivals) == (RequestsBySide(), ())


def test_throughput_sums_only_intervals_of_one_epoch() -> None:
    analysis = Analysis.model_validate({"metrics": [{"name": "e", "preset": "ErrorRate"}, THROUGHPUT]})
    (shown,) = throughputs(analysis, DEFAULT_SERIES)
    counts = {
        shown.milliseconds: {(B, None, ""): 1_000, (A, None, ""): 9_000},
        shown.tokens: {(B, None, ""): 30, (A, None, ""): 300},
    }
    begun = fresh(throughputs=(ThroughputState(shown),), blank_seconds=10.0)
    state = after(begun, Interval(NOON, NOON + SLICE, counts), Interval(NOON + SLICE, NOON + 2 * SLICE, counts))
    assert state.throughputs == (ThroughputState(shown, Generated(1_000, 30), Generated(9_000, 300)),)
    assert state.canary_requests == 0


def test_stable_pods_are_compared_for_required_comparisons() -> None:
    processes = {REQUESTS: {"a": {(A, 1, "ok"): 90, (A, 1, "aborted"): 10}, "b": {(A, 1, "ok"): 100}}}
    whole: dict[Point, int] = {(A, 1, "ok"): 190, (A, 1, "aborted"): 10, (B, 1, "ok"): 20}
    state = fresh()
    for number in range(40):
        begin = NOON + number * SLICE
        state = after(state, replace(grown(whole, begin=begin), by_process=processes))
    assert [metric.noise.noisy for metric in state.metrics] == [True, False]
    assert from_json(json.loads(json.dumps(to_json(state)))) == state


def test_ceilings_and_user_metrics_are_not_compared_between_pods() -> None:
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
    state = fresh(metrics=tuple(map(MetricState.begin, pinned)))
    assert state.tallies_by_process == ()
    processes = {REQUESTS: {"a": {(A, 1, "aborted"): 90}, "b": {(A, 1, "ok"): 100}}}
    state = after(state, replace(grown({(A, 1, "ok"): 100, (A, 1, "aborted"): 90}), by_process=processes))
    assert [metric.noise.halves for metric in state.metrics] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        ({"0.3": 5, "+Inf": 5}, {"0.5": 90, "+Inf": 95}),
        ({"0.5": 5}, {"0.5": 90, "+Inf": 95}),
        ({"0.5": 5, "+Inf": 5}, {"0.5": 90}),
        ({"0.5": 5}, {"0.5": 90}),
    ],
    ids=["no bucket in common", "canary without +Inf", "stable without +Inf", "neither has +Inf"],
)
def test_histograms_without_common_bucket_stay_incomparable(canary: dict[str, int], stable: dict[str, int]) -> None:
    analysis = Analysis.model_validate({"metrics": [{"name": "t", "preset": "TimeToFirstToken", "source": "Engine"}]})
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    begun = fresh(metrics=tuple(map(MetricState.begin, pinned)))
    points: dict[Point, int] = {(side, 1, le): n for side, each in ((B, canary), (A, stable)) for le, n in each.items()}
    bounds = {pinned[0].total: {B: frozenset(canary), A: frozenset(stable)}}
    state = after(begun, replace(grown(points, tally=pinned[0].total), bounds=bounds))
    assert judge(state).verdict is Verdict.INCONCLUSIVE
    assert "no bucket in common" in judge(state).message
    assert from_json(json.loads(json.dumps(to_json(state)))) == state


@pytest.mark.parametrize(
    ("began", "live"),
    [
        ({}, set(range(EPOCHS))),
        ({3: 0}, {3, 4, 5, 6, 7}),
        ({30: 0, 31: 10, 0: 80, 1: 95}, {0, 1, 2, 3, 4, 5}),
        ({30: 0, 31: 10, 0: 70}, {31, 0, 1, 2, 3, 4}),
    ],
    ids=["none yet", "one", "the first ended long ago", "across the end of the ring"],
)
def test_live_epochs_are_those_with_requests_that_can_end(began: dict[int, int], live: set[int]) -> None:
    epochs = {epoch: Epoch(NOON + minutes * MINUTE, 500) for epoch, minutes in began.items()}
    state = fresh(epochs=epochs, until=NOON + 100 * MINUTE if len(began) == 4 else NOON + 75 * MINUTE)
    assert set(state.live_epochs) == live


@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(0, EPOCHS - 1))
def test_state_holds_at_most_one_epoch_per_label_value(changes: int, first: int) -> None:
    state = fresh(epochs={})
    for number in range(changes):
        state = begin_epoch(state, (first + number) % EPOCHS, 100 + number, NOON + number * MINUTE)
    assert len(state.epochs) == min(changes, EPOCHS)
    assert state.newest == (first + changes - 1) % EPOCHS
    assert state.epochs[state.newest] == Epoch(NOON + (changes - 1) * MINUTE, 99 + changes)
