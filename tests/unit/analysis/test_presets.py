"""What `spec.analysis` reads, and with which parameters it is tested."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Baseline, Names, Tally
from serin.analysis.measurement import MOST_BOUNDARIES, How
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
from serin.analysis.trial_state import MetricState, ThroughputState
from serin.api.analysis import Analysis
from tests.unit.analysis.measured import (
    ANSWERS,
    CODES,
    NOTHING,
    OUTCOMES,
    RATIO,
    SEEN,
    SPEED,
    TTFT,
    made,
    one,
    throughput_tallies,
)
from tests.unit.rollout.cases import NOON, make_evidence

# What is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "optional"),
    [
        pytest.param([], {TTFT}, id="the default"),
        pytest.param(
            [{"name": "e", "preset": "ErrorRate"}, {"name": "t", "preset": "TimeToFirstToken", "source": "Engine"}],
            set(),
            id="all",
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
def test_tallies_that_no_decision_needs_are_optional(metrics: list[dict[str, Any]], optional: set[Tally]) -> None:
    analysis = Analysis.model_validate({"metrics": metrics} if metrics else {})
    assert set(optional_tallies(analysis, DEFAULT_SERIES, measured=True)) == optional
    pinned = measurements(analysis, DEFAULT_SERIES, NOTHING, measured=True)
    state = make_evidence(
        metrics=tuple(map(MetricState.begin, pinned)),
        throughputs=tuple(map(ThroughputState, throughputs(analysis, DEFAULT_SERIES))),
    )
    assert set(state.optional) - {OUTCOMES} == optional - {OUTCOMES}


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
def test_metric_is_read_from_its_source(metric: dict[str, Any], measured: bool, how: How, total: Tally) -> None:  # noqa: FBT001
    found = one(metric, measured=measured)
    assert (found.how, found.total) == (how, total)
    assert (found.bad is not None) == (how is How.PAIR)
    read = tallies(Analysis.model_validate({"metrics": [{"name": "m"} | metric]}), DEFAULT_SERIES, measured=measured)
    assert set(found.tallies) <= set(read)
    assert {requests(DEFAULT_SERIES, measured=measured), durations(DEFAULT_SERIES, measured=measured)} <= set(read)
    assert len(set(read)) == len(read)


def test_ceiling_reads_tallies_of_its_metric() -> None:
    metrics = [{"name": "errors", "preset": "ErrorRate"}, {"name": "slo", "ceiling": {"of": "errors", "rate": 0.02}}]
    errors, slo = made(*metrics)
    assert (slo.how, slo.total, slo.parameters.ceiling) == (errors.how, errors.total, 0.02)
    analysis = Analysis.model_validate({"metrics": metrics})
    assert tallies(analysis, DEFAULT_SERIES, measured=True) == (OUTCOMES, ANSWERS)


def test_series_names_are_settings_of_the_operator() -> None:
    series = Series(model_server="my_", engine="their:", requests="rq", code_label="code")
    assert requests(series, measured=True).selector == "my_requests_total"
    assert requests(series, measured=False) == Tally("rq", by="code", names=Names.BACKEND)
    assert durations(series, measured=True).selector == "my_e2e_request_latency_seconds_bucket"
    assert durations(series, measured=False).selector == "their:e2e_request_latency_seconds_bucket"


# How it is tested --------------------------------------------------------------------------------------------------


def test_required_metrics_share_alpha_and_advisory_ones_get_all() -> None:
    found = made(
        {"name": "a", "preset": "ErrorRate", "share": 4},
        {"name": "b", "preset": "QueueTime", "share": 1},
        {"name": "c", "ceiling": {"of": "a", "rate": 0.1}, "share": 5},
        {"name": "d", "preset": "EndToEndLatency", "mode": "Advisory", "share": 7},
        at_load=True,
    )
    assert [m.parameters.alpha for m in found] == pytest.approx([0.004, 0.001, 0.005, 0.01])
    assert [m.required for m in found] == [True, True, True, False]


@pytest.mark.parametrize(
    ("metrics", "cuts"),
    [
        pytest.param([{"margin": 1.25, "tolerance": {"ratio": 1.25}}], [3], id="margin and tolerance alike"),
        pytest.param([{"margin": 1.25, "tolerance": {"ratio": 1.5}}], [2], id="margin and tolerance differ"),
        pytest.param([{}, {}], [1, 1], id="two metrics of one latency"),
    ],
)
def test_pods_of_both_sides_list_the_boundaries_of_both(metrics: list[dict[str, Any]], cuts: list[int]) -> None:
    named = [{"name": f"m{i}", "preset": "TimeToFirstToken", **metric} for i, metric in enumerate(metrics)]
    found = made(*named, at_load=True, same_pods=True)
    assert [len(m.parameters.boundaries) for m in found] == cuts
    lists = [m.at_load for m in found]
    assert all(each and each.stable == each.canary and len(each.stable) <= MOST_BOUNDARIES for each in lists)
    assert len(set(lists)) == 1
    assert not any(m.demoted for m in found)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.001, 1000), st.booleans()), min_size=1, max_size=15),
    st.floats(0.0001, 0.2),
)
def test_alphas_of_required_metrics_sum_to_budget_for_any_shares(
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
        pytest.param({"preset": "ErrorRate"}, 1.1, 1.5, 0.005, id="errors"),
        pytest.param({"preset": "QueueTime"}, 1.25, 1.5, 0.005, id="a latency"),
        pytest.param(RATIO, 1.25, 1.5, 0.005, id="a ratio of one's own"),
        pytest.param(
            {"preset": "ErrorRate", "margin": 1.0, "tolerance": {"ratio": 2, "absolute": 0}},
            1.0,
            2.0,
            0.0,
            id="as wished",
        ),
    ],
)
def test_margin_and_tolerance_have_defaults_by_preset(
    metric: dict[str, Any], margin: float, ratio: float, absolute: float
) -> None:
    p = one(metric).parameters
    assert (p.margin, p.ratio, p.absolute) == (margin, ratio, absolute)


@pytest.mark.parametrize(("rps", "absolute"), [(0.0, 0.005), (4.9, 0.005), (5.0, 0.002), (200.0, 0.002)])
def test_default_tolerance_follows_traffic_before_the_trial(rps: float, absolute: float) -> None:
    def tolerance(**written: float) -> tuple[float, float]:
        analysis = Analysis.model_validate({"metrics": [{"name": "one", "preset": "ErrorRate", "tolerance": written}]})
        [measurement] = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, rps), measured=True)
        return measurement.parameters.ratio, measurement.parameters.absolute

    assert tolerance() == (1.5, absolute)
    assert tolerance(ratio=1.25) == (1.25, absolute)
    assert tolerance(absolute=0.0) == (1.5, 0.0)


@pytest.mark.parametrize(
    ("preset", "boundaries"),
    [
        ("TimeToFirstToken", (0.1, 0.5, 2.5, 10.0)),
        ("EndToEndLatency", (1.0, 5.0, 20.0, 60.0)),
        ("TimePerOutputToken", (0.025, 0.1, 0.3, 1.0)),
        ("QueueTime", (0.3, 2.5, 10.0, 60.0)),
    ],
)
def test_latency_without_samples_has_usual_boundaries(preset: str, boundaries: tuple[float, ...]) -> None:
    unseen = {"0.1": 0.0, "+Inf": 0.0}
    assert one({"preset": preset}).parameters.boundaries == boundaries
    tally = one({"preset": preset}).total
    assert one({"preset": preset}, baseline=Baseline(NOON, 0.0, {tally: unseen})).parameters.boundaries == boundaries


def test_user_histogram_without_observations_has_middle_boundary() -> None:
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
def test_ceiling_has_one_boundary(of: str, above: float | None, cut: tuple[float, ...]) -> None:
    ceiling = {"of": of, "rate": 0.05} | ({"aboveSeconds": above} if above else {})
    *_, slo = made(
        {"name": "ttft", "preset": "TimeToFirstToken"},
        {"name": "queue", "preset": "QueueTime"},
        {"name": "errors", "preset": "ErrorRate"},
        {"name": "slo", "ceiling": ceiling},
        baseline=SEEN,
    )
    assert (slo.parameters.boundaries, slo.parameters.leaves) == (cut, 1)


def test_answer_seconds_are_quantiles_of_the_baseline() -> None:
    baseline = Baseline(NOON, 1.0, {ANSWERS: {"1": 900, "10": 989, "60": 998, "120": 1000, "+Inf": 1000}})
    assert answer_seconds(baseline, ANSWERS, 0.99) == 60.0
    assert answer_seconds(baseline, ANSWERS, 0.999) == 120.0
    assert answer_seconds(NOTHING, ANSWERS, 0.99) == 0.0
