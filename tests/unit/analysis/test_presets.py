"""From the spec to what is read and tested, and from what was read to counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Baseline, Interval, Names, Point, Tally
from serin.analysis.measurement import Generated, How, Measurement
from serin.analysis.presets import (
    DEFAULT_SERIES,
    Series,
    answer_seconds,
    durations,
    measurements,
    requests,
    tallies,
    throughputs,
)
from serin.analysis.presets import optional as optional_tallies
from serin.analysis.stored_state import StoredMeasurement
from serin.analysis.trial_state import MetricState, ThroughputState
from serin.api.analysis import Analysis
from serin.evidence.metric import MetricParameters
from serin.evidence.slices import Counts
from tests.unit.rollout.cases import NOON, A, B, make_evidence

OUTCOMES = Tally("serin_requests_total", by="outcome")
CODES = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)
TTFT = Tally("serin_time_to_first_token_seconds_bucket", by="le")
ANSWERS = Tally("serin_e2e_request_latency_seconds_bucket", by="le")
NOTHING = Baseline(NOON, 0.0)
SPEED = {"name": "speed", "preset": "Throughput", "mode": "Advisory"}
SEEN = Baseline(NOON, 10.0, {TTFT: {"0.1": 40, "0.5": 80, "1.0": 99, "2.0": 100, "+Inf": 100}})


def made(*metrics: Mapping[str, Any], baseline: Baseline = NOTHING, measured: bool = True) -> tuple[Measurement, ...]:
    analysis = Analysis.model_validate({"metrics": list(metrics)} if metrics else {})
    return measurements(analysis, DEFAULT_SERIES, baseline, measured=measured)


def throughput_tallies() -> tuple[Tally, ...]:
    analysis = Analysis.model_validate({"metrics": [{"name": "e", "preset": "ErrorRate"}, SPEED]})
    (speed,) = throughputs(analysis, DEFAULT_SERIES)
    return speed.tallies


def one(metric: Mapping[str, Any], **facts: Any) -> Measurement:
    return made({"name": "m"} | metric, **facts)[0]


def interval(tally: Tally, points: Mapping[Point, int], **more: Any) -> Interval:
    return Interval(NOON, NOON, {tally: points} | more)


@pytest.mark.parametrize(
    ("metrics", "optional"),
    [
        pytest.param([], {TTFT}, id="the default"),
        pytest.param(
            [{"name": "e", "preset": "ErrorRate"}, {"name": "t", "preset": "TimeToFirstToken"}], set(), id="all"
        ),
        pytest.param(
            [
                {"name": "e", "preset": "ErrorRate", "mode": "Advisory"},
                {"name": "t", "preset": "TimeToFirstToken", "mode": "Advisory"},
                {"name": "limit", "ceiling": {"of": "t", "rate": 0.1, "aboveSeconds": 1}},
            ],
            set(),
            id="what a ceiling limits",
        ),
        pytest.param(
            [
                {"name": "e", "preset": "ErrorRate"},
                {"name": "own", "ratio": {"bad": "b", "total": "t"}, "mode": "Advisory"},
                SPEED,
            ],
            {Tally("b"), Tally("t"), *throughput_tallies()},
            id="a ratio and a speed",
        ),
    ],
)
def test_what_decides_nothing_may_be_left_out(metrics: list[dict[str, Any]], optional: set[Tally]) -> None:
    analysis = Analysis.model_validate({"metrics": metrics} if metrics else {})
    assert set(optional_tallies(analysis, DEFAULT_SERIES, measured=True)) == optional
    pinned = measurements(analysis, DEFAULT_SERIES, NOTHING, measured=True)
    state = make_evidence(
        metrics=tuple(map(MetricState.begin, pinned)),
        throughputs=tuple(map(ThroughputState, throughputs(analysis, DEFAULT_SERIES))),
    )
    assert set(state.optional) - {OUTCOMES} == optional - {OUTCOMES}


def test_half_of_a_pair_counts_for_nothing() -> None:
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


# Counts ------------------------------------------------------------------------------------------------------------


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
        ("excluded", None),
    ],
)
def test_an_outcome_of_the_model_server_is_bad_good_or_neither(outcome: str, counts: tuple[int, int] | None) -> None:
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
        ("401", None),
        ("403", None),
        ("404", None),
        ("408", None),
        ("429", None),
        ("499", None),
        ("0", None),
        ("5xx", None),
        ("", None),
        ("²00", None),
    ],
)
def test_a_response_code_is_bad_good_or_neither(code: str, counts: tuple[int, int] | None) -> None:
    metric = one({"preset": "ErrorRate"}, measured=False)
    found = metric.counts(interval(CODES, {(A, None, code): 1}))
    assert found == ({(A, None): (Counts(*counts),)} if counts else {})


def test_outcomes_add_up_by_revision_and_epoch() -> None:
    points = {(A, 1, "ok"): 90, (A, 1, "aborted"): 10, (A, 2, "ok"): 5, (B, 1, "excluded"): 7, (B, 2, "rejected"): 1}
    found = one({"preset": "ErrorRate"}).counts(interval(OUTCOMES, points))
    assert found == {(A, 1): (Counts(100, 10),), (A, 2): (Counts(5, 0),), (B, 2): (Counts(1, 1),)}


RATIO = {"ratio": {"bad": "my_bad_total", "total": "my_total"}}


@pytest.mark.parametrize(
    ("bad", "counts"), [(0, (100, 0)), (3, (100, 3)), (101, (100, 101))], ids=["none", "some", "a moment ahead"]
)
def test_two_counters_make_a_pair(bad: int, counts: tuple[int, int]) -> None:
    """Bad requests can be counted later than all requests; the excess waits (`MetricEvidence.carried_over`)."""
    metric = one(RATIO)
    read = {Tally("my_total"): {(A, 2, ""): 100}} | ({Tally("my_bad_total"): {(A, 2, ""): bad}} if bad else {})
    assert metric.counts(Interval(NOON, NOON, read)) == {(A, 2): (Counts(*counts),)}


def test_bad_ones_without_a_total_wait_for_one() -> None:
    assert one(RATIO).counts(interval(Tally("my_bad_total"), {(A, 2, ""): 5})) == {(A, 2): (Counts(0, 5),)}


def test_a_counter_without_an_epoch_takes_the_other_ones_from_it() -> None:
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
def test_a_histogram_counts_what_is_above_each_boundary(buckets: dict[str, int], above: list[int]) -> None:
    metric = one({"preset": "TimeToFirstToken"}, baseline=SEEN)
    assert metric.parameters.boundaries == (0.1, 0.5, 1.0, 2.0)
    found = metric.counts(interval(TTFT, {(B, 4, le): count for le, count in buckets.items()}))
    assert found == {(B, 4): tuple(Counts(10, x) for x in above)}


def test_a_boundary_that_is_no_bound_is_taken_at_the_next_one_below() -> None:
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
def test_sides_with_other_buckets_are_cut_where_both_can_be(
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


def test_what_one_process_showed_is_told_as_the_whole_is() -> None:
    apart = {OUTCOMES: {"10.0.0.1:8000": {(A, 3, "ok"): 4}, "10.0.0.2:8000": {(A, 3, "ok"): 1, (A, 3, "aborted"): 2}}}
    found = one({"preset": "ErrorRate"}).counts_by_process(replace(interval(OUTCOMES, {}), apart=apart))
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


def test_a_histogram_that_nobody_can_cut_is_seen_and_compares_nothing() -> None:
    metric = one({"histogram": {"buckets": "my_seconds_bucket"}})
    assert (metric.parameters.boundaries, metric.comparable) == ((), False)
    found = metric.counts(interval(Tally("my_seconds_bucket", by="le"), {(A, 1, "5"): 3, (A, 1, "+Inf"): 9}))
    assert found == {(A, 1): (Counts(9, 0),)}


les = st.dictionaries(st.sampled_from(["0.1", "0.5", "1.0", "2.0", "7"]), st.integers(0, 50), max_size=5)


@settings(max_examples=60)
@given(les, st.integers(0, 50))
def test_whatever_buckets_are_read_no_more_are_bad_than_there_are(buckets: dict[str, int], n: int) -> None:
    points = {(B, 1, le): count for le, count in (buckets | {"+Inf": n}).items() if count}
    for counts in one({"preset": "TimeToFirstToken"}, baseline=SEEN).counts(interval(TTFT, points)).values():
        assert all(0 <= leaf.bad <= leaf.requests for leaf in counts)


def test_what_no_tally_shows_counts_for_nothing() -> None:
    for metric in made(
        {"name": "e", "preset": "ErrorRate"}, {"name": "t", "preset": "QueueTime"}, {"name": "r"} | RATIO
    ):
        assert metric.counts(Interval(NOON, NOON, {})) == {}


# What is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "measured", "how", "total"),
    [
        pytest.param({"preset": "ErrorRate"}, True, How.OUTCOME, OUTCOMES, id="errors by the model server"),
        pytest.param({"preset": "ErrorRate"}, False, How.CODE, CODES, id="errors by the gateway"),
        pytest.param(
            {"preset": "ErrorRate", "source": "Gateway"}, True, How.CODE, CODES, id="the gateway, if it is named"
        ),
        pytest.param(
            {"preset": "ErrorRate", "source": "ModelServer"},
            False,
            How.OUTCOME,
            OUTCOMES,
            id="the model server, if it is named",
        ),
        pytest.param({"preset": "TimeToFirstToken"}, True, How.ABOVE, TTFT, id="a latency by the model server"),
        pytest.param(
            {"preset": "TimeToFirstToken"},
            False,
            How.ABOVE,
            Tally("vllm:time_to_first_token_seconds_bucket", by="le", names=Names.ENGINE),
            id="a latency by vLLM",
        ),
        pytest.param(
            {"preset": "TimePerOutputToken", "source": "Engine"},
            True,
            How.ABOVE,
            Tally("vllm:request_time_per_output_token_seconds_bucket", by="le", names=Names.ENGINE),
            id="per request and not per token",
        ),
        pytest.param(
            {"preset": "QueueTime"},
            True,
            How.ABOVE,
            Tally("serin_request_queue_time_seconds_bucket", by="le"),
            id="queue time",
        ),
        pytest.param({"preset": "EndToEndLatency"}, True, How.ABOVE, ANSWERS, id="end to end"),
        pytest.param(RATIO, False, How.PAIR, Tally("my_total"), id="a ratio of one's own"),
        pytest.param(
            {"histogram": {"buckets": 'my_bucket{job="x"}'}},
            False,
            How.ABOVE,
            Tally('my_bucket{job="x"}', by="le"),
            id="a histogram of one's own",
        ),
    ],
)
def test_where_a_metric_is_read(metric: dict[str, Any], measured: bool, how: How, total: Tally) -> None:  # noqa: FBT001
    found = one(metric, measured=measured)
    assert (found.how, found.total) == (how, total)
    assert (found.bad is not None) == (how is How.PAIR)
    read = tallies(Analysis.model_validate({"metrics": [{"name": "m"} | metric]}), DEFAULT_SERIES, measured=measured)
    assert set(found.tallies) <= set(read)
    assert {requests(DEFAULT_SERIES, measured=measured), durations(DEFAULT_SERIES, measured=measured)} <= set(read)
    assert len(set(read)) == len(read)


def test_a_ceiling_reads_nothing_of_its_own() -> None:
    metrics = [{"name": "errors", "preset": "ErrorRate"}, {"name": "slo", "ceiling": {"of": "errors", "rate": 0.02}}]
    errors, slo = made(*metrics)
    assert (slo.how, slo.total, slo.parameters.ceiling) == (errors.how, errors.total, 0.02)
    analysis = Analysis.model_validate({"metrics": metrics})
    assert tallies(analysis, DEFAULT_SERIES, measured=True) == (OUTCOMES, ANSWERS)


def test_the_operator_says_how_series_are_called() -> None:
    series = Series(model_server="my_", engine="their:", requests="rq", code_label="code")
    assert requests(series, measured=True).selector == "my_requests_total"
    assert requests(series, measured=False) == Tally("rq", by="code", names=Names.BACKEND)
    assert durations(series, measured=True).selector == "my_e2e_request_latency_seconds_bucket"
    assert durations(series, measured=False).selector == "their:e2e_request_latency_seconds_bucket"


# How it is tested --------------------------------------------------------------------------------------------------


def test_required_metrics_share_the_budget_and_advisory_ones_get_it_whole() -> None:
    found = made(
        {"name": "a", "preset": "ErrorRate", "share": 4},
        {"name": "b", "preset": "QueueTime", "share": 1},
        {"name": "c", "ceiling": {"of": "a", "rate": 0.1}, "share": 5},
        {"name": "d", "preset": "EndToEndLatency", "mode": "Advisory", "share": 7},
    )
    assert [m.parameters.alpha for m in found] == pytest.approx([0.004, 0.001, 0.005, 0.01])
    assert [m.required for m in found] == [True, True, True, False]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.001, 1000), st.booleans()), min_size=1, max_size=15),
    st.floats(0.0001, 0.2),
)
def test_whatever_the_shares_the_required_ones_spend_the_budget_and_no_more(
    shares: list[tuple[float, bool]], alpha: float
) -> None:
    metrics = [
        {"name": f"m{i}", "preset": "ErrorRate", "share": share, "mode": "Required" if required else "Advisory"}
        for i, (share, required) in enumerate([*shares, (1.0, True)])
    ]
    analysis = Analysis.model_validate({"metrics": metrics, "falseRollbackRate": alpha})
    found = measurements(analysis, DEFAULT_SERIES, NOTHING, measured=True)
    assert math.fsum(m.parameters.alpha for m in found if m.required) == pytest.approx(alpha)
    assert all(m.parameters.alpha == alpha for m in found if not m.required)


@pytest.mark.parametrize(
    ("metric", "margin", "ratio", "absolute"),
    [
        pytest.param({"preset": "ErrorRate"}, 1.1, 1.25, 0.005, id="errors"),
        pytest.param({"preset": "QueueTime"}, 1.25, 1.25, 0.005, id="a latency"),
        pytest.param(RATIO, 1.25, 1.25, 0.005, id="a ratio of one's own"),
        pytest.param(
            {"preset": "ErrorRate", "margin": 1.0, "tolerance": {"ratio": 2, "absolute": 0}},
            1.0,
            2.0,
            0.0,
            id="as wished",
        ),
    ],
)
def test_margin_and_tolerance(metric: dict[str, Any], margin: float, ratio: float, absolute: float) -> None:
    p = one(metric).parameters
    assert (p.margin, p.ratio, p.absolute) == (margin, ratio, absolute)


@pytest.mark.parametrize(
    ("preset", "boundaries"),
    [
        ("TimeToFirstToken", (0.1, 0.5, 2.5, 10.0)),
        ("EndToEndLatency", (1.0, 5.0, 20.0, 60.0)),
        ("TimePerOutputToken", (0.025, 0.1, 0.3, 1.0)),
        ("QueueTime", (0.3, 2.5, 10.0, 60.0)),
    ],
)
def test_a_latency_that_the_stable_has_not_shown_is_cut_where_it_usually_lies(
    preset: str, boundaries: tuple[float, ...]
) -> None:
    unseen = {"0.1": 0.0, "+Inf": 0.0}
    assert one({"preset": preset}).parameters.boundaries == boundaries
    tally = one({"preset": preset}).total
    assert one({"preset": preset}, baseline=Baseline(NOON, 0.0, {tally: unseen})).parameters.boundaries == boundaries


def test_a_histogram_of_ones_own_without_a_single_observation_is_cut_in_the_middle() -> None:
    tally = Tally("my_seconds_bucket", by="le")
    baseline = Baseline(NOON, 0.0, {tally: {"1": 0.0, "2": 0.0, "5": 0.0, "+Inf": 0.0}})
    assert one({"histogram": {"buckets": "my_seconds_bucket"}}, baseline=baseline).parameters.boundaries == (2.0,)


@pytest.mark.parametrize(
    ("of", "above", "cut"),
    [
        pytest.param("ttft", 0.9, (1.0,), id="the nearest bound of the stable's histogram"),
        pytest.param("ttft", 0.3, (0.1,), id="the lower one of two"),
        pytest.param("queue", 0.9, (0.9,), id="as written, if the stable has shown none"),
        pytest.param("errors", None, (), id="none for errors"),
    ],
)
def test_a_ceiling_is_cut_at_one_boundary(of: str, above: float | None, cut: tuple[float, ...]) -> None:
    ceiling = {"of": of, "rate": 0.05} | ({"aboveSeconds": above} if above else {})
    *_, slo = made(
        {"name": "ttft", "preset": "TimeToFirstToken"},
        {"name": "queue", "preset": "QueueTime"},
        {"name": "errors", "preset": "ErrorRate"},
        {"name": "slo", "ceiling": ceiling},
        baseline=SEEN,
    )
    assert (slo.parameters.boundaries, slo.parameters.leaves) == (cut, 1)


def test_how_long_answers_take_is_read_off_the_stable() -> None:
    baseline = Baseline(NOON, 1.0, {ANSWERS: {"1": 900, "10": 989, "60": 998, "120": 1000, "+Inf": 1000}})
    assert answer_seconds(baseline, ANSWERS, 0.99) == 60.0
    assert answer_seconds(baseline, ANSWERS, 0.999) == 120.0
    assert answer_seconds(NOTHING, ANSWERS, 0.99) == 0.0


# Kept --------------------------------------------------------------------------------------------------------------

tally_strategy = st.builds(
    Tally, st.text(min_size=1, max_size=30), st.none() | st.sampled_from(["le", "outcome"]), st.sampled_from(Names)
)
positive = st.floats(0.0001, 1000, allow_nan=False)
measurement_strategy = st.builds(
    Measurement,
    name=st.text(max_size=20),
    how=st.sampled_from(How),
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
def test_a_measurement_comes_back_as_it_was_written(measurement: Measurement) -> None:
    assert (
        StoredMeasurement.model_validate_json(StoredMeasurement.of(measurement).model_dump_json()).measurement()
        == measurement
    )
