"""From the tests of all metrics to one verdict, and a sentence for each that a tired person understands."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Baseline, Names, Tally
from serin.analysis.measurement import Generated, Throughput
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.proof_time import about, canary_rate, proof_time, significant
from serin.analysis.trial_state import MetricState, ThroughputState, TrialState
from serin.analysis.verdict import NOTHING_YET, Judgement, Verdict, against_more_weight, judge
from serin.api.analysis import Analysis
from serin.evidence.slices import Counts, Totals
from tests.unit.rollout.cases import BAD, DOUBTFUL, FEW, GOOD, NOON, NOTHING, A, B, make_evidence

TTFT = Tally("vllm:time_to_first_token_seconds_bucket", by="le", names=Names.ENGINE)
SEEN = Baseline(NOON, 10.0, {TTFT: {"0.5": 60, "1.0": 95, "5.0": 100, "+Inf": 100}})
ERRORS = {"name": "errors", "preset": "ErrorRate"}
LATENCY = {"name": "ttft", "preset": "TimeToFirstToken", "source": "Engine"}
ADVISORY = {"mode": "Advisory"}
SLO = {"name": "slo", "ceiling": {"of": "errors", "rate": 0.05}}
OWN = {"name": "own", "histogram": {"buckets": "my_seconds_bucket"}}
Shown = tuple[int, int, int, int]


def shown(*metrics: tuple[dict[str, Any], list[Shown]], baseline: Baseline = SEEN) -> TrialState:
    """A trial with these metrics, and what each showed in ten settled slices, by leaf."""
    analysis = Analysis.model_validate({"metrics": [metric for metric, _ in metrics]})
    pinned = measurements(analysis, DEFAULT_SERIES, baseline, measured=True)
    states = []
    for state, (_, leaves) in zip(map(MetricState.begin, pinned), metrics, strict=True):
        tests = state.tests
        for part in range(10):
            now = [Totals(*(n * (part + 1) // 10 - n * part // 10 for n in leaf)) for leaf in leaves]
            tests = tests.add(now, t=15.0 * part, epoch=1, settled=True)
        states.append(replace(state, tests=tests.nothing_ended(())))
    return make_evidence(NOTHING, metrics=tuple(states))


def with_noise(state: TrialState, metric: int, by_process: dict[str, list[Counts]]) -> TrialState:
    """The state after the stable's processes had these counts in 40 intervals."""
    noise = state.metrics[metric].noise
    for _ in range(40):
        noise = noise.add(by_process, 15.0)
    noisy = replace(state.metrics[metric], noise=noise)
    return replace(state, metrics=(*state.metrics[:metric], noisy, *state.metrics[metric + 1 :]))


def judged(*metrics: tuple[dict[str, Any], list[Shown]], baseline: Baseline = SEEN) -> Judgement:
    return judge(shown(*metrics, baseline=baseline))


WELL, BADLY, LITTLE, NOBODY = (9_000, 90, 9_000, 90), (3_000, 900, 3_000, 30), (30, 0, 300, 1), (0, 0, 0, 0)
FAST = [(9_000, 3_600, 9_000, 3_600), (9_000, 450, 9_000, 450), (9_000, 0, 9_000, 0)]
SLOW = [(3_000, 2_400, 3_000, 1_200), (3_000, 150, 3_000, 150), (3_000, 0, 3_000, 0)]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        pytest.param([(ERRORS, [WELL])], Verdict.PASS, id="proven"),
        pytest.param([(ERRORS, [BADLY])], Verdict.FAIL, id="worse"),
        pytest.param([(ERRORS, [LITTLE])], Verdict.INCONCLUSIVE, id="too few"),
        pytest.param([(ERRORS, [NOBODY])], Verdict.INCONCLUSIVE, id="silence"),
        pytest.param([(ERRORS, [(0, 0, 9_000, 90)])], Verdict.INCONCLUSIVE, id="only the stable speaks"),
        pytest.param([(ERRORS, [(600, 600, 0, 0)])], Verdict.INCONCLUSIVE, id="nothing to compare with"),
        pytest.param([(ERRORS, [(600, 600, 600, 0)])], Verdict.FAIL, id="600 of 600"),
        pytest.param([(ERRORS, [(600, 0, 600, 600)])], Verdict.PASS, id="the canary heals"),
        pytest.param([(ERRORS, [WELL]), (LATENCY, FAST)], Verdict.PASS, id="both proven"),
        pytest.param([(ERRORS, [WELL]), (LATENCY, SLOW)], Verdict.FAIL, id="one of two fails"),
        pytest.param([(ERRORS, [LITTLE]), (LATENCY, SLOW)], Verdict.FAIL, id="a fail decides while others wait"),
        pytest.param([(ERRORS, [WELL]), (LATENCY | ADVISORY, SLOW)], Verdict.PASS, id="an advisory fail"),
        pytest.param([(ERRORS, [WELL]), (LATENCY, [NOBODY] * 3)], Verdict.PASS, id="not seen at all"),
        pytest.param(
            [(ERRORS, [NOBODY]), (LATENCY | ADVISORY, FAST)], Verdict.INCONCLUSIVE, id="only an advisory pass"
        ),
        pytest.param([(ERRORS, [WELL]), (SLO, [(9_000, 180, 9_000, 90)])], Verdict.PASS, id="below its ceiling"),
        pytest.param([(ERRORS, [WELL]), (SLO, [(3_000, 600, 3_000, 30)])], Verdict.FAIL, id="above its ceiling"),
        pytest.param(
            [(ERRORS, [WELL]), (SLO, [(3_000, 600, 3_000, 600)])], Verdict.INCONCLUSIVE, id="an outage that both share"
        ),
        pytest.param([(ERRORS, [WELL]), (OWN, [(3_000, 0, 3_000, 0)])], Verdict.INCONCLUSIVE, id="nobody can cut it"),
        pytest.param([(ERRORS, [WELL]), (OWN, [NOBODY])], Verdict.PASS, id="such a histogram, on neither side"),
    ],
)
def test_verdict(metrics: list[tuple[dict[str, Any], list[Shown]]], expected: Verdict) -> None:
    judgement = judged(*metrics)
    assert judgement.verdict is expected
    for metric in judgement.metrics:
        assert 0 <= metric.evidence <= 1
        assert metric.verdict is not Verdict.FAIL or metric.evidence == pytest.approx(1)
        assert metric.message.startswith(f"{metric.name}: ")


@pytest.mark.parametrize(
    ("metric", "leaves", "sentence"),
    [
        pytest.param(
            ERRORS,
            [WELL],
            "errors: the canary is proven to be no worse than 1.5 times the stable's error rate plus 0.2 percentage "
            "points: "
            "canary 90 bad of 9000, stable 90 bad of 9000.",
            id="a proof",
        ),
        pytest.param(
            ERRORS,
            [BADLY],
            "errors: the canary is worse than the stable: canary 900 bad of 3000, stable 30 bad of 3000.",
            id="a fail",
        ),
        pytest.param(
            LATENCY,
            SLOW,
            "ttft: the canary is worse than the stable: "
            "canary 2400 of 3000 above 0.5 s, stable 1200 of 3000 above 0.5 s.",
            id="a fail of the boundary that fired",
        ),
        pytest.param(
            OWN,
            [(3_000, 0, 3_000, 0)],
            "own: cannot be compared, because the stable had no samples that could be read when the canary began; wait "
            "until it has, or make the metric Advisory, then abort and retry: "
            "canary 0 bad of 3000, stable 0 bad of 3000.",
            id="nobody can cut it",
        ),
        pytest.param(
            ERRORS | {"tolerance": {"ratio": 1, "absolute": 0}},
            [LITTLE],
            "errors: at the observed rates, no number of requests can rule out 1 times the stable's error rate; "
            "abort the canary or widen the metric's tolerance: canary 0 bad of 30, stable 1 bad of 300.",
            id="no tolerance, no proof",
        ),
        pytest.param(
            ERRORS,
            [(0, 0, 400, 3)],
            "errors: no request of the canary has been counted yet; check that requests reach it and that its pods are "
            "scraped: canary 0 bad of 0, stable 3 bad of 400.",
            id="only the stable speaks",
        ),
        pytest.param(
            ERRORS,
            [(400, 3, 0, 0)],
            "errors: no request of the stable has been counted yet; check that requests reach it and that its pods are "
            "scraped: canary 3 bad of 400, stable 0 bad of 0.",
            id="only the canary speaks",
        ),
        pytest.param(ERRORS, [NOBODY], "errors: no samples on either side; this metric is ignored.", id="silence"),
    ],
)
def test_metric_message_says_finding_and_counts(metric: dict[str, Any], leaves: list[Shown], sentence: str) -> None:
    assert judged((metric, leaves)).metrics[0].message == sentence


@pytest.mark.parametrize(
    ("canary", "stable", "sentence"),
    [
        pytest.param(600, 30, "slo: the canary is above the limit of 5 %", id="above"),
        pytest.param(60, 30, "slo: the canary is proven to be below the limit of 5 %", id="below"),
        pytest.param(600, 600, "slo: the stable is above the limit of 5 % too", id="shared"),
    ],
)
def test_ceiling_message_names_its_limit(canary: int, stable: int, sentence: str) -> None:
    judgement = judged((ERRORS, [WELL]), (SLO, [(3_000, canary, 3_000, stable)]))
    assert judgement.metrics[1].message.startswith(sentence)
    assert ("is not the cause" in judgement.message) == (canary == stable == 600)


@pytest.mark.parametrize(("mode", "verdict"), [("Required", Verdict.INCONCLUSIVE), ("Advisory", Verdict.PASS)])
def test_noisy_required_metric_is_inconclusive_and_says_why(mode: str, verdict: Verdict) -> None:
    state = shown((ERRORS, [WELL]), (LATENCY | {"mode": mode}, FAST))
    judgement = judge(with_noise(state, 1, {"a": [Counts(100, 50)] * 3, "b": [Counts(100, 5)] * 3}))
    assert judgement.verdict is verdict
    assert ("no proof is possible, because the stable's own pods differ" in judgement.message) == (mode == "Required")
    assert [metric.noisy for metric in judgement.metrics] == [False, mode == "Required"]


def test_noisy_metric_can_still_fail() -> None:
    state = with_noise(shown((ERRORS, [BADLY])), 0, {"a": [Counts(100, 50)], "b": [Counts(100, 5)]})
    assert state.metrics[0].noise.noisy
    assert judge(state).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("generated", "verdict", "sentence"),
    [
        ((3_000, 90, 20_000, 700), Verdict.INCONCLUSIVE, "canary 30, stable 35"),
        ((0, 0, 20_000, 700), Verdict.INCONCLUSIVE, "canary no samples, stable 35"),
        ((0, 0, 0, 0), Verdict.NOT_APPLICABLE, "canary no samples, stable no samples"),
    ],
)
def test_throughput_is_displayed_and_does_not_decide(generated: Shown, verdict: Verdict, sentence: str) -> None:
    speed = Throughput("speed", Tally("tokens"), Tally("seconds", scale=1000))
    sides = Generated(*generated[:2]), Generated(*generated[2:])
    judgement = judge(replace(shown((ERRORS, [WELL])), throughputs=(ThroughputState(speed, *sides),)))
    assert judgement.verdict is Verdict.PASS
    assert (judgement.metrics[-1].verdict, judgement.metrics[-1].required) == (verdict, False)
    assert sentence in judgement.metrics[-1].message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 min"), (600, "10 min"), (5_900, "98 min"), (64_800, "18 h"), (172_800, "2 days"), (1e6, "12 days")],
)
def test_estimated_time_is_rounded(seconds: float, text: str) -> None:
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.004_58, 2, "0.0046"),
        (5, 2, "5"),
        (99.6, 2, "100"),
        (163.4, 2, "160"),
        (1_234.5, 3, "1230"),
        (2e7, 2, "20000000"),
    ],
)
def test_number_for_people_has_no_exponent(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def test_message_estimates_time_from_requests_and_weight() -> None:
    state = shown((ERRORS, [LITTLE]))
    [metric] = judge(state).metrics
    # 330 requests in an hour, of which the canary gets 5 %.
    assert canary_rate(state) == pytest.approx(330 / 3600 * 0.05)
    assert f"(about {about(metric.needed / (330 / 3600 * 0.05))} at its present 0.0046 requests/s)" in metric.message
    unknown = replace(state, epochs={1: replace(state.epochs[1], weight=0)})
    assert "requests to rule out" in judge(unknown).metrics[0].message


@pytest.mark.parametrize(
    ("rps", "weight", "stable", "hours"),
    [
        pytest.param(0.1, 5_000, Counts(), 10.4, id="little traffic, one percent assumed"),
        pytest.param(1.0, 5_000, Counts(), 1.04, id="ten times as much"),
        pytest.param(0.1, 2_500, Counts(), 14.1, id="a lower weight"),
        pytest.param(0.1, 5_000, Counts(10_000, 10), 5.33, id="the stable has shown its rate"),
        pytest.param(0.1, 5_000, Counts(100, 50), 10.4, id="too few to know it"),
    ],
)
def test_time_of_a_proof_follows_from_traffic_and_rate(rps: float, weight: int, stable: Counts, hours: float) -> None:
    state = shown((ERRORS, [(0, 0, stable.requests, stable.bad)]), baseline=Baseline(NOON, rps))
    found = proof_time(replace(state, requests_per_second=rps, since=NOON), weight)
    assert found is not None
    assert found.seconds / 3600 == pytest.approx(hours, rel=0.02)
    assert found.assumed is (stable.requests < 200)


def test_time_of_a_proof_is_unknown_without_traffic_or_proof() -> None:
    quiet = replace(shown((ERRORS, [NOBODY])), requests_per_second=0.0)
    assert proof_time(quiet, 5_000) is None
    strict = shown((ERRORS | {"tolerance": {"ratio": 1, "absolute": 0}}, [NOBODY]))
    assert proof_time(strict, 5_000) is None


def test_holdback_asks_for_no_second_proof() -> None:
    judgement = judged((ERRORS, [LITTLE]), (LATENCY, FAST)).in_holdback()
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == "errors: no second proof is needed: canary 0 bad of 30, stable 1 bad of 300."
    assert [metric.needed for metric in judgement.metrics] == [0.0, 0.0]
    failed = judged((ERRORS, [BADLY]))
    assert failed.in_holdback() == failed


def test_inconclusive_message_is_of_metric_that_needs_most() -> None:
    judgement = judged(
        (ERRORS, [(3_000, 30, 3_000, 30)]), (LATENCY, [(30, 12, 300, 120), (30, 1, 300, 15), (30, 0, 300, 0)])
    )
    needed = {metric.name: metric.needed for metric in judgement.metrics}
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == judgement.metrics[1].message
    assert needed["ttft"] > needed["errors"] > 0
    assert f"needs about {math.ceil(needed['ttft'])} more canary requests (about " in judgement.message
    assert " to rule out 1.5 times the stable's bad rate plus 0.2 percentage points: " in judgement.message


@pytest.mark.parametrize(("absolute", "points"), [(0.01, "1 percentage point"), (0.02, "2 percentage points")])
def test_tolerance_of_one_point_is_singular(absolute: float, points: str) -> None:
    judgement = judged((ERRORS | {"tolerance": {"absolute": absolute}}, [LITTLE]))
    assert f"plus {points}: " in judgement.message


def test_message_without_requests_names_required_metrics() -> None:
    message = judged((ERRORS, [NOBODY]), (LATENCY, [NOBODY] * 3), (OWN | ADVISORY, [NOBODY])).message
    assert message == (
        "No request has been counted yet on either side (errors, ttft); check that requests arrive and that the pods "
        "are scraped."
    )


def test_verdict_before_first_request_is_inconclusive() -> None:
    assert judge(None) == NOTHING_YET
    assert NOTHING_YET.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(GOOD, Verdict.PASS, id="good"),
        pytest.param(BAD, Verdict.FAIL, id="bad"),
        pytest.param(FEW, Verdict.INCONCLUSIVE, id="few"),
        pytest.param(DOUBTFUL, Verdict.INCONCLUSIVE, id="doubtful"),
        pytest.param(NOTHING, Verdict.INCONCLUSIVE, id="nothing"),
    ],
)
def test_named_cases_have_the_verdict_of_their_name(counts: dict[str, Counts], expected: Verdict) -> None:
    judgement = judge(make_evidence(counts))
    assert judgement.verdict is expected
    assert (judgement.metrics[0].canary, judgement.metrics[0].stable) == (counts[B], counts[A])


leaf = st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1), st.floats(0, 1)).map(
    lambda c: (c[0], round(c[0] * c[2]), c[1], round(c[1] * c[3]))
)


@settings(max_examples=25)
@given(st.lists(leaf, min_size=1, max_size=8))
def test_any_counts_give_finite_judgement(slices: list[Shown]) -> None:
    state = shown((ERRORS, [NOBODY]), (SLO, [NOBODY]))
    for number, each in enumerate(slices):
        facts: dict[str, Any] = {"t": 15.0 * number, "epoch": number % 3, "settled": number % 2 == 0}
        grown = (replace(metric, tests=metric.tests.add([Totals(*each)], **facts)) for metric in state.metrics)
        state = replace(state, metrics=tuple(grown))
        judgement = judge(state)
        assert all(math.isfinite(metric.evidence) and metric.needed >= 0 for metric in judgement.metrics)
        assert all(metric.message for metric in judgement.metrics)


@pytest.mark.parametrize(
    ("counts", "held"),
    [
        pytest.param((2, 2, 18, 0), True, id="both of the first two are bad"),
        pytest.param((1, 1, 18, 0), True, id="the first is bad"),
        pytest.param((2, 0, 18, 0), False, id="neither is bad"),
        pytest.param((2, 1, 18, 6), False, id="the stable is as bad"),
        pytest.param((2, 2, 0, 0), False, id="nothing of the stable to compare with"),
    ],
)
def test_first_bad_requests_hold_the_weight_before_their_stratum_closes(counts: Shown, *, held: bool) -> None:
    begun = MetricState.begin(
        measurements(Analysis.model_validate({"metrics": [ERRORS]}), DEFAULT_SERIES, SEEN, measured=True)[0]
    )
    state = replace(begun, tests=begun.tests.add([Totals(*counts)], t=5.0, epoch=1, settled=False))
    assert state.tests.comparisons[0].log_e == pytest.approx(0)
    assert bool(against_more_weight(make_evidence(NOTHING, metrics=(state,)))) is held
