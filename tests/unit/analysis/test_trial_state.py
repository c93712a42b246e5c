"""What a trial has shown: every request counted once, in the epoch that it arrived in, whatever happens in between."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import EPOCHS, Baseline, Interval, Names, Point, Tally
from serin.analysis.measurement import Generated
from serin.analysis.presets import DEFAULT_SERIES, measurements, throughputs
from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import Arrived, Epoch, MetricState, ThroughputState, TrialState, begin_epoch
from serin.analysis.update import advance
from serin.analysis.verdict import Verdict, judge
from serin.api.analysis import Analysis
from serin.errors import RecordError
from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import ConditionalTest
from serin.evidence.frozen_map import FrozenMap
from serin.evidence.metric import Comparison
from serin.evidence.noise import Dispersion
from serin.evidence.slices import NOTHING, RequestsBySide, Totals
from tests.unit.rollout.cases import BAD, FEW, GOOD, HOUR, MINUTE, NOON, A, B, C, make_evidence
from tests.unit.rollout.worlds import REQUESTS, saved_states

SLICE = timedelta(seconds=15)
ERRORS = {"name": "errors", "preset": "ErrorRate"}
LIMIT = {"name": "limit", "ceiling": {"of": "errors", "rate": 0.05}}
THROUGHPUT = {"name": "t", "preset": "Throughput", "mode": "Advisory"}
CODES = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)


def fresh(*, measured: bool = True, **changes: Any) -> TrialState:
    """Nothing counted yet; epoch 1 began at noon with 5 %."""
    pinned = measurements(Analysis(), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=measured)
    facts: dict[str, Any] = {
        "since": NOON,
        "until": NOON,
        "metrics": tuple(map(MetricState.begin, pinned)),
        "epochs": {1: Epoch(NOON, 500)},
    }
    return make_evidence(GOOD, **(facts | changes))


def grown(
    points: Mapping[Point, int], *, begin: datetime = NOON, tally: Tally = REQUESTS, span: timedelta = SLICE
) -> Interval:
    return Interval(begin, begin + span, {tally: points} if points else {})


def after(state: TrialState, *intervals: Interval) -> TrialState:
    return advance(state, intervals, canary=B, stable=A)


def totals(state: TrialState) -> Totals:
    """Of errors."""
    return state.metrics[0].tests.totals[0]


def comparison(state: TrialState) -> Comparison:
    """Of errors."""
    return state.metrics[0].tests.comparisons[0]


BOTH: dict[Point, int] = {(B, 1, "ok"): 9, (B, 1, "aborted"): 1, (A, 1, "ok"): 190, (A, 1, "server_error"): 2}


# Once --------------------------------------------------------------------------------------------------------------


def test_every_request_is_counted_once_however_often_it_is_told() -> None:
    first, second = grown(BOTH), grown(BOTH, begin=NOON + SLICE)
    state = after(fresh(), first, second)
    assert totals(state) == Totals(20, 2, 384, 4)
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
    assert (state.until, totals(state)) == (NOON + SLICE, Totals(10, 1, 192, 2))


def test_state_is_the_same_after_advance_and_begin_epoch() -> None:
    state = after(fresh(), grown(BOTH))
    before, written = hash(state), to_json(state)
    processes = {REQUESTS: {"a": {(A, 1, "ok"): 90}, "b": {(A, 1, "ok"): 100}}}
    changed = after(state, replace(grown(BOTH, begin=NOON + SLICE), apart=processes))
    reused = begin_epoch(state, 1, 900, NOON + MINUTE)
    assert len({state, changed, reused}) == 3
    assert (hash(state), to_json(state)) == (before, written)


def parts_of(value: Any) -> Iterator[Any]:
    """A value and everything in it."""
    yield value
    inside: Iterable[Any] = value if isinstance(value, tuple) else ()
    if is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inside = value.values()
    for part in inside:
        yield from parts_of(part)


def test_no_part_of_the_state_can_be_changed() -> None:
    analysis = Analysis.model_validate({"metrics": [ERRORS, LIMIT, THROUGHPUT]})
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    processes = {REQUESTS: {"a": {(A, 1, "ok"): 90}, "b": {(A, 1, "ok"): 100}}}
    state = after(
        fresh(
            metrics=tuple(map(MetricState.begin, pinned)),
            throughputs=tuple(map(ThroughputState, throughputs(analysis, DEFAULT_SERIES))),
        ),
        replace(grown(BOTH), apart=processes),
    )
    parts = list(parts_of(state))
    assert {Comparison, CeilingTest, Dispersion, ConditionalTest, FrozenMap} <= set(map(type, parts))
    for part in parts:
        assert not isinstance(part, list | dict | set)
        for field in fields(part) if is_dataclass(part) else ():
            with pytest.raises(FrozenInstanceError):
                setattr(part, field.name, getattr(part, field.name))
        if isinstance(part, FrozenMap):
            with pytest.raises(TypeError):
                part["key"] = 1  # type: ignore[index]


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
    assert (totals(state), state.until) == (Totals(*expected), NOON + SLICE)


def test_late_answers_count_with_those_that_arrived_under_the_same_weight() -> None:
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
def test_only_what_ends_after_the_settle_time_counts_for_the_proof(seconds: int, *, proves: bool) -> None:
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
def test_a_series_without_an_epoch_is_not_believed_for_a_while(seconds: int, *, believed: bool) -> None:
    begin = NOON + timedelta(seconds=seconds)
    state = fresh(measured=False, until=begin, blank_seconds=20.0)
    seen = after(state, grown({(B, None, "500"): 4, (A, None, "200"): 90}, begin=begin, tally=CODES))
    assert (totals(seen), seen.until) == (Totals(4, 4, 90, 0) if believed else NOTHING, begin + SLICE)


def test_a_series_without_an_epoch_is_not_believed_across_a_change_of_weight() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 2_500, NOON + timedelta(seconds=40))
    begin = NOON + timedelta(seconds=30)
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 4, (A, None, "200"): 9}, begin=begin, tally=CODES)
    )
    assert totals(seen) == NOTHING


def test_a_series_without_an_epoch_is_not_believed_while_the_canary_has_no_weight() -> None:
    state = begin_epoch(fresh(measured=False, blank_seconds=5.0), 2, 0, NOON + MINUTE)
    begin = NOON + 2 * MINUTE
    seen = after(
        replace(state, until=begin), grown({(B, None, "200"): 1, (A, None, "200"): 99}, begin=begin, tally=CODES)
    )
    assert totals(seen) == NOTHING


# Silence -----------------------------------------------------------------------------------------------------------


def test_one_request_of_a_stable_that_has_little_left_promises_few_of_the_canary_and_not_fifty() -> None:
    state = begin_epoch(fresh(), 2, 9_800, NOON)
    assert after(state, grown({(A, 2, "ok"): 1})).expected_without_sample == pytest.approx(3.91, abs=0.01)


def test_traffic_of_the_stable_makes_some_of_the_canary_expected() -> None:
    state = after(fresh(), grown({(A, 1, "ok"): 190}))
    assert (state.expected_without_sample, state.silent_for) == (pytest.approx(9.75, abs=0.01), SLICE)
    state = after(state, grown({(A, 1, "ok"): 190}, begin=NOON + SLICE))
    assert (state.expected_without_sample, state.silent_for) == (pytest.approx(19.49, abs=0.01), 2 * SLICE)
    state = after(state, grown({(A, 1, "ok"): 190, (B, 1, "ok"): 1}, begin=NOON + 2 * SLICE))
    assert (state.expected_without_sample, state.silent_for, state.canary_requests) == (0.0, timedelta(), 1)
    state = after(state, grown({}, begin=NOON + 3 * SLICE))
    assert (state.expected_without_sample, state.silent_for) == (0.0, SLICE)


# Epochs ------------------------------------------------------------------------------------------------------------


def test_what_arrives_is_counted_in_the_newest_epoch_only() -> None:
    arrivals = Tally("serin_requests_started_total")
    points: dict[Point, int] = {(B, 1, ""): 5, (A, 1, ""): 95, (B, 0, ""): 7, (C, 1, ""): 9}
    state = after(
        fresh(arrivals=arrivals), grown(points, tally=arrivals), grown(points, begin=NOON + SLICE, tally=arrivals)
    )
    assert state.arrived == RequestsBySide(10, 190)
    assert state.newest_arrivals == (Arrived(NOON + SLICE, 100), Arrived(NOON + 2 * SLICE, 100))
    third = after(state, grown({}, begin=NOON + 2 * SLICE, span=4 * SLICE))
    assert third.newest_arrivals == ()
    begun = begin_epoch(state, 2, 900, NOON + MINUTE)
    assert (begun.arrived, begun.newest_arrivals) == (RequestsBySide(), ())


def test_tokens_and_seconds_of_answering_are_summed_where_the_epoch_is_not_in_doubt() -> None:
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


def test_the_stables_processes_are_compared_with_each_other_where_a_proof_rests_on_it() -> None:
    apart = {REQUESTS: {"a": {(A, 1, "ok"): 90, (A, 1, "aborted"): 10}, "b": {(A, 1, "ok"): 100}}}
    whole: dict[Point, int] = {(A, 1, "ok"): 190, (A, 1, "aborted"): 10, (B, 1, "ok"): 20}
    state = fresh()
    for number in range(40):
        begin = NOON + number * SLICE
        state = after(state, replace(grown(whole, begin=begin), apart=apart))
    assert [metric.noise.noisy for metric in state.metrics] == [True, False]
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
    state = fresh(metrics=tuple(map(MetricState.begin, pinned)))
    assert state.tallies_by_process == ()
    apart = {REQUESTS: {"a": {(A, 1, "aborted"): 90}, "b": {(A, 1, "ok"): 100}}}
    state = after(state, replace(grown({(A, 1, "ok"): 100, (A, 1, "aborted"): 90}), apart=apart))
    assert [metric.noise.halves for metric in state.metrics] == [{}, {}, {}]


def test_histograms_without_a_bucket_in_common_are_not_comparable_from_then_on() -> None:
    analysis = Analysis.model_validate({"metrics": [{"name": "t", "preset": "TimeToFirstToken"}]})
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    begun = fresh(metrics=tuple(map(MetricState.begin, pinned)))
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
@given(saved_states())
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
    with pytest.raises(RecordError, match="The trial starts again"):
        from_json(data)


def test_what_is_kept_stays_small() -> None:
    """A ConfigMap holds a MiB; sixteen histograms with every epoch open are far from it."""
    metrics = [{"name": f"m{i}", "preset": "TimeToFirstToken"} for i in range(16)]
    pinned = measurements(
        Analysis.model_validate({"metrics": metrics}), DEFAULT_SERIES, Baseline(NOON, 1e6), measured=True
    )
    state = fresh(metrics=tuple(map(MetricState.begin, pinned)), epochs={})
    for epoch in range(EPOCHS):
        state = begin_epoch(state, epoch, 5_000, NOON)
        full: dict[str, Any] = {"t": 1.0, "epoch": epoch, "settled": True}
        grown = (replace(m, tests=m.tests.add([Totals(10**9, 10**9, 1, 1)] * 4, **full)) for m in state.metrics)
        state = replace(state, metrics=tuple(grown))
    assert len(json.dumps(to_json(state))) < 500_000


def test_the_evidence_of_the_cases_survives() -> None:
    for counts in (GOOD, BAD, FEW):
        assert from_json(to_json(make_evidence(counts))) == make_evidence(counts)
