"""What a measurement counts as requests and bad requests, and how it is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Interval, Names, Tally
from serin.analysis.measurement import Generated, How, Measurement
from serin.analysis.presets import (
    DEFAULT_SERIES,
    measurements,
    tallies,
    throughputs,
)
from serin.analysis.stored_state import StoredMeasurement
from serin.api.analysis import Analysis
from serin.evidence.metric import MetricParameters
from serin.evidence.slices import Counts
from tests.unit.analysis.measured import (
    CODES,
    NOTHING,
    OUTCOMES,
    RATIO,
    SEEN,
    SPEED,
    TTFT,
    interval,
    made,
    one,
)
from tests.unit.rollout.cases import NOON, A, B


def test_metric_with_unread_tally_has_no_counts() -> None:
    own = one({"ratio": {"bad": "b", "total": "t"}})
    whole = interval(Tally("t"), {(A, 1, ""): 40, (B, 1, ""): 4})
    assert own.counts(whole) == {(A, 1): (Counts(40, 0),), (B, 1): (Counts(4, 0),)}
    assert own.counts(replace(whole, unread=frozenset({Tally("b")}))) == {}
    (speed,) = throughputs(
        Analysis.model_validate({"metrics": [{"name": "e", "preset": "ErrorRate"}, SPEED]}), DEFAULT_SERIES
    )
    counted = interval(speed.tokens, {(A, 1, ""): 40})
    assert speed.generated(counted) == {(A, 1): Generated(0, 40)}
    assert speed.generated(replace(counted, unread=frozenset({speed.milliseconds}))) == {}


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        ("ok", (1, 0)),
        ("truncated", (1, 0)),
        ("server_error", (1, 1)),
        ("rejected", (1, 1)),
        ("stream_error", (1, 1)),
        ("aborted", (1, 1)),
        ("timed_out", (1, 1)),
        ("excluded", (1, 0)),
        ("left", (1, 0)),
    ],
)
def test_outcome_is_bad_good_or_not_counted(outcome: str, counts: tuple[int, int] | None) -> None:
    found = one({"preset": "ErrorRate"}).counts(interval(OUTCOMES, {(A, 3, outcome): 1}))
    assert found == ({(A, 3): (Counts(*counts),)} if counts else {})


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("200", (1, 0)),
        ("302", (1, 0)),
        ("500", (1, 1)),
        ("503", (1, 1)),
        ("504", (1, 1)),
        ("400", (1, 1)),
        ("413", (1, 1)),
        ("422", (1, 1)),
        ("402", (1, 0)),
        ("401", (1, 0)),
        ("403", (1, 0)),
        ("404", (1, 0)),
        ("408", (1, 0)),
        ("429", (1, 0)),
        ("499", (1, 0)),
        ("0", None),
        ("5xx", None),
        ("", None),
        ("²00", None),
    ],
)
def test_response_code_is_bad_good_or_not_counted(code: str, counts: tuple[int, int] | None) -> None:
    metric = one({"preset": "ErrorRate"}, measured=False)
    found = metric.counts(interval(CODES, {(A, None, code): 1}))
    assert found == ({(A, None): (Counts(*counts),)} if counts else {})


def test_outcomes_are_summed_by_revision_and_epoch() -> None:
    points = {(A, 1, "ok"): 90, (A, 1, "aborted"): 10, (A, 2, "ok"): 5, (B, 1, "excluded"): 7, (B, 2, "rejected"): 1}
    found = one({"preset": "ErrorRate"}).counts(interval(OUTCOMES, points))
    assert found == {
        (A, 1): (Counts(100, 10),),
        (A, 2): (Counts(5, 0),),
        (B, 1): (Counts(7, 0),),
        (B, 2): (Counts(1, 1),),
    }
    before = replace(one({"preset": "ErrorRate"}), all_answers=False).counts(interval(OUTCOMES, points))
    assert before == {key: counts for key, counts in found.items() if key != (B, 1)}, "as version 0.1 began it"


@pytest.mark.parametrize(
    ("bad", "counts"), [(0, (100, 0)), (3, (100, 3)), (101, (100, 101))], ids=["none", "some", "a moment ahead"]
)
def test_two_counters_give_requests_and_bad_requests(bad: int, counts: tuple[int, int]) -> None:
    """Bad requests can be counted later than all requests; the excess waits (`MetricEvidence.carried_over`)."""
    metric = one(RATIO)
    read = {Tally("my_total"): {(A, 2, ""): 100}} | ({Tally("my_bad_total"): {(A, 2, ""): bad}} if bad else {})
    assert metric.counts(Interval(NOON, NOON, read)) == {(A, 2): (Counts(*counts),)}


def test_bad_requests_without_requests_are_counted() -> None:
    assert one(RATIO).counts(interval(Tally("my_bad_total"), {(A, 2, ""): 5})) == {(A, 2): (Counts(0, 5),)}


def test_epoch_is_ignored_if_one_of_two_counters_lacks_it() -> None:
    read = {Tally("my_total"): {(A, 2, ""): 60, (A, 3, ""): 40}, Tally("my_bad_total"): {(A, None, ""): 80}}
    assert one(RATIO).counts(Interval(NOON, NOON, read)) == {(A, None): (Counts(100, 80),)}


@pytest.mark.parametrize(
    ("buckets", "above"),
    [
        pytest.param({"0.1": 4, "0.5": 8, "1.0": 9, "2.0": 10, "+Inf": 10}, [6, 2, 1, 0], id="all buckets"),
        pytest.param({"1.0": 9, "2.0": 9, "+Inf": 10}, [10, 10, 1, 1], id="those that did not grow are absent"),
        pytest.param({"+Inf": 10}, [10, 10, 10, 10], id="all above the last boundary"),
        pytest.param({"0.1": 3, "+Inf": 10}, [7, 7, 7, 7], id="those between are absent and grew as much as below"),
        pytest.param(
            {"0.1": 4, "0.25": 6, "0.5": 8, "1": 9, "2.0": 10, "+Inf": 10}, [6, 2, 1, 0], id="written otherwise"
        ),
        pytest.param({"0.1": 12, "+Inf": 10}, [0, 0, 0, 0], id="a moment ahead"),
        pytest.param({"0.1": 4, "le": 5, "+Inf": 10}, [6, 6, 6, 6], id="what is no number is left out"),
    ],
)
def test_histogram_counts_observations_above_each_boundary(buckets: dict[str, int], above: list[int]) -> None:
    metric = one({"preset": "TimeToFirstToken"}, baseline=SEEN)
    assert metric.parameters.boundaries == (0.1, 0.5, 1.0, 2.0)
    found = metric.counts(interval(TTFT, {(B, 4, le): count for le, count in buckets.items()}))
    assert found == {(B, 4): tuple(Counts(10, x) for x in above)}


def test_boundary_without_bucket_uses_next_lower_bucket() -> None:
    metric = one({"preset": "TimeToFirstToken"}, baseline=SEEN)
    found = metric.counts(interval(TTFT, {(B, 4, "0.4"): 6, (B, 4, "3.0"): 9, (B, 4, "+Inf"): 10}))
    assert found == {(B, 4): (Counts(10, 10), *[Counts(10, 4)] * 3)}


@pytest.mark.parametrize(
    ("canary", "stable", "above"),
    [
        (("0.1", "0.5", "1.0", "2.0"), ("0.1", "0.5", "1.0", "2.0"), ([9, 6, 3, 0], [9, 6, 3, 0])),
        (("0.1", "0.25", "2.0"), ("0.1", "0.5", "1.0", "2.0"), ([9, 9, 9, 0], [9, 9, 9, 0])),
        (("0.5", "2.0"), ("0.1", "0.5", "1.0", "2.0"), ([6, 6, 6, 0], [6, 6, 6, 0])),
        (("0.3",), ("0.1", "0.5", "1.0", "2.0"), None),
    ],
    ids=["alike", "one lacks some", "one lacks the lowest", "none is shared"],
)
def test_different_buckets_are_compared_at_common_bounds(
    canary: tuple[str, ...], stable: tuple[str, ...], above: tuple[list[int], list[int]] | None
) -> None:
    # The same answers on both sides: one at or below 0.1, three more up to each of 0.5, 1 and 2.
    within = {"0.1": 1, "0.25": 2, "0.3": 2, "0.5": 4, "1.0": 7, "2.0": 10, "+Inf": 10}
    sides = {B: (*canary, "+Inf"), A: (*stable, "+Inf")}
    points = {(side, 4, le): within[le] for side, bounds in sides.items() for le in bounds}
    bounds = {TTFT: {side: frozenset(each) for side, each in sides.items()}}
    found = one({"preset": "TimeToFirstToken"}, baseline=SEEN).counts(replace(interval(TTFT, points), bounds=bounds))
    assert found == (
        {(side, 4): tuple(Counts(10, x) for x in xs) for side, xs in zip((B, A), above, strict=True)} if above else {}
    )


def test_counts_by_process_are_classified_like_all_counts() -> None:
    processes = {
        OUTCOMES: {"10.0.0.1:8000": {(A, 3, "ok"): 4}, "10.0.0.2:8000": {(A, 3, "ok"): 1, (A, 3, "aborted"): 2}}
    }
    found = one({"preset": "ErrorRate"}).counts_by_process(replace(interval(OUTCOMES, {}), by_process=processes))
    assert found == {"10.0.0.1:8000": {(A, 3): (Counts(4, 0),)}, "10.0.0.2:8000": {(A, 3): (Counts(3, 2),)}}


def test_throughput_is_read_and_not_tested() -> None:
    analysis = Analysis.model_validate(
        {"metrics": [{"name": "m", "preset": "ErrorRate"}, {"name": "t", "preset": "Throughput", "mode": "Advisory"}]}
    )
    (shown,) = throughputs(analysis, DEFAULT_SERIES)
    assert {shown.tokens, shown.milliseconds} <= set(tallies(analysis, DEFAULT_SERIES, measured=True))
    assert [m.name for m in measurements(analysis, DEFAULT_SERIES, NOTHING, measured=True)] == ["m"]
    points = {shown.tokens: {(B, None, ""): 90}, shown.milliseconds: {(B, None, ""): 3_000}}
    assert shown.generated(Interval(NOON, NOON, points)) == {(B, None): Generated(3_000, 90)}


def test_histogram_without_boundaries_is_counted_not_compared() -> None:
    metric = one({"histogram": {"buckets": "my_seconds_bucket"}})
    assert (metric.parameters.boundaries, metric.comparable) == ((), False)
    found = metric.counts(interval(Tally("my_seconds_bucket", by="le"), {(A, 1, "5"): 3, (A, 1, "+Inf"): 9}))
    assert found == {(A, 1): (Counts(9, 0),)}


les = st.dictionaries(st.sampled_from(["0.1", "0.5", "1.0", "2.0", "7"]), st.integers(0, 50), max_size=5)


@settings(max_examples=60)
@given(les, st.integers(0, 50))
def test_histogram_never_has_more_bad_requests_than_requests(buckets: dict[str, int], n: int) -> None:
    points = {(B, 1, le): count for le, count in (buckets | {"+Inf": n}).items() if count}
    for counts in one({"preset": "TimeToFirstToken"}, baseline=SEEN).counts(interval(TTFT, points)).values():
        assert all(0 <= leaf.bad <= leaf.requests for leaf in counts)


def test_interval_without_growth_has_no_counts() -> None:
    for metric in made(
        {"name": "e", "preset": "ErrorRate"}, {"name": "t", "preset": "QueueTime"}, {"name": "r"} | RATIO
    ):
        assert metric.counts(Interval(NOON, NOON, {})) == {}


# Stored ------------------------------------------------------------------------------------------------------------

tally_strategy = st.builds(
    Tally, st.text(min_size=1, max_size=30), st.none() | st.sampled_from(["le", "outcome"]), st.sampled_from(Names)
)
positive = st.floats(0.0001, 1000, allow_nan=False)
measurement_strategy = st.builds(
    Measurement,
    name=st.text(max_size=20),
    how=st.sampled_from([how for how in How if how is not How.AT_LOAD]),
    total=tally_strategy,
    bad=st.none() | tally_strategy,
    parameters=st.builds(
        MetricParameters,
        alpha=st.floats(1e-9, 0.9),
        margin=st.floats(1, 10),
        ratio=st.floats(1, 10),
        absolute=st.floats(0, 0.5),
        boundaries=st.lists(positive, max_size=6, unique=True).map(sorted).map(tuple),
        ceiling=st.none() | st.floats(0.001, 0.999),
    ),
    required=st.booleans(),
    unit=st.sampled_from(["", "s"]),
)


@settings(max_examples=100)
@given(measurement_strategy)
def test_measurement_round_trips_through_json(measurement: Measurement) -> None:
    assert (
        StoredMeasurement.model_validate_json(StoredMeasurement.of(measurement).model_dump_json()).measurement()
        == measurement
    )
