"""Latencies at equal load: what the pods count, what is compared with what, and what is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis import stored_state, update
from serin.analysis.counts import Baseline, Interval, Point, Tally
from serin.analysis.measurement import MOST_BOUNDARIES, How, Measurement, times
from serin.analysis.pod_counters import measure_for
from serin.analysis.trial_state import Epoch, MetricState, TrialState, without_clocks
from serin.analysis.verdict import Verdict, judge
from serin.evidence.metric import MarginOf
from serin.evidence.slices import stratum
from tests.unit.analysis.measured import NOTHING, SEEN, made
from tests.unit.rollout.cases import NOON, A, B, make_evidence

TTFT = {"name": "ttft", "preset": "TimeToFirstToken"}
REQUESTS = Tally('serin_latency_requests_total{metric="ttft"}', by="cached,load")
ABOVE = Tally('serin_latency_above_total{metric="ttft"}', by="cached,load,boundary")
CANARY, STABLE = B, A
SLICE = timedelta(seconds=15)


def ttft(baseline: Baseline = SEEN, **more: Any) -> Measurement:
    return made({"name": "e", "preset": "ErrorRate"}, TTFT | more, baseline=baseline, at_load=True)[1]


def trial(*measurements: Measurement) -> TrialState:
    return make_evidence(
        metrics=tuple(map(MetricState.begin, measurements)),
        since=NOON,
        until=NOON,
        epochs={3: Epoch(NOON, 5000)},
        settle_seconds=0.0,
        young_seconds=0.0,
    )


Sent = Mapping[tuple[str, str], tuple[int, int]]
"""By revision and cell (`low,3`), requests and those above every boundary."""


def after(state: TrialState, sent: Sent, slices: int = 1) -> TrialState:
    """The state after so many slices with these requests each."""
    for _ in range(slices):
        n: dict[Point, int] = {(revision, 3, cell): counts[0] for (revision, cell), counts in sent.items()}
        x: dict[Point, int] = {
            (revision, 3, f"{cell},{number}"): counts[1]
            for (revision, cell), counts in sent.items()
            for number in range(MOST_BOUNDARIES)
        }
        interval = Interval(state.until, state.until + SLICE, {REQUESTS: n, ABOVE: x})
        state = update.advance(state, [interval], canary=CANARY, stable=STABLE)
    return state


def test_boundaries_are_interpolated_quantiles_and_their_multiples() -> None:
    found = ttft()
    assert found.how is How.AT_LOAD
    assert (found.total, found.bad) == (REQUESTS, ABOVE)
    assert found.parameters.margin_of is MarginOf.TIMES
    # Half of 100 requests: 40 are below 0.1 and 80 below 0.5, so the 50th is a quarter of the way.
    assert found.parameters.boundaries[0] == pytest.approx(0.2)
    assert found.at_load is not None
    assert found.at_load.stable == found.parameters.boundaries
    assert found.at_load.canary == tuple(times(bound, 1.25) for bound in found.parameters.boundaries)


def test_document_lists_what_each_side_counts() -> None:
    state = trial(ttft(), *made({"name": "e", "preset": "ErrorRate"}))
    stable, canary = measure_for(state, canary=False), measure_for(state, canary=True)
    assert stable is not None
    assert canary is not None
    assert stable["load"] == canary["load"] == {"from": 1.0, "ratio": 1.3}
    assert canary["boundaries"]["ttft"] == [times(bound, 1.25) for bound in stable["boundaries"]["ttft"]]
    assert json.loads(json.dumps(stable)) == stable
    assert measure_for(None, canary=True) is None
    assert measure_for(trial(*made({"name": "e", "preset": "ErrorRate"})), canary=True) is None


@pytest.mark.parametrize(
    "metrics",
    [
        [TTFT],
        [TTFT | {"margin": 1.5}],
        [TTFT, TTFT | {"name": "b", "mode": "Advisory"}],
        [TTFT | {"name": f"m{i}", "margin": 1 + i / 10} for i in range(16)],
        [TTFT, {"name": "tpot", "preset": "TimePerOutputToken"}, {"name": "e2e", "preset": "EndToEndLatency"}],
    ],
)
@pytest.mark.parametrize("baseline", [SEEN, NOTHING])
def test_document_never_lists_more_than_six_boundaries(metrics: list[dict[str, Any]], baseline: Baseline) -> None:
    found = made(*metrics, baseline=baseline, at_load=True)
    state = trial(*found)
    for canary in (False, True):
        measure = measure_for(state, canary=canary)
        assert measure is not None
        assert all(0 < len(bounds) <= MOST_BOUNDARIES for bounds in measure["boundaries"].values())
    assert [metric.required for metric in found] == [
        not metric.demoted and given.get("mode") != "Advisory" for metric, given in zip(found, metrics, strict=True)
    ]


def test_proof_has_boundaries_of_its_own_where_margin_and_tolerance_differ() -> None:
    found = ttft(margin=2.0, tolerance={"ratio": 1.5})
    assert found.at_load is not None
    cuts = found.parameters.boundaries
    assert found.at_load.canary == tuple(sorted({times(cut, k) for cut in cuts for k in (1.5, 2.0)}))
    numbers = {bound: str(number) for number, bound in enumerate(found.at_load.canary)}
    above: dict[Point, int] = {
        (CANARY, 3, f"low,4,{numbers[times(cuts[0], 1.5)]}"): 7,
        (CANARY, 3, f"low,4,{numbers[cuts[0] * 2]}"): 5,
    }
    interval = Interval(NOON, NOON + SLICE, {REQUESTS: {(CANARY, 3, "low,4"): 10}, ABOVE: above})
    (test,) = found.by_cell(interval, canary=CANARY).values()
    (proof,) = found.by_cell(interval, canary=CANARY, for_proof=True).values()
    assert (test[0].bad, proof[0].bad) == (5, 7)
    state = update.advance(trial(found), [interval], canary=CANARY, stable=STABLE)
    assert state.metrics[0].tests.totals[0].x1 == 5
    (comparison, *_) = state.metrics[0].tests.comparisons
    assert [pool.x1 for pool in comparison.pools.values()] == [7]


def test_only_requests_at_the_same_load_are_compared() -> None:
    # The canary is busier. At each load both are alike; together the canary would look slower.
    sent = {
        (CANARY, "low,8"): (30, 27),
        (STABLE, "low,8"): (4, 4),
        (CANARY, "low,2"): (4, 0),
        (STABLE, "low,2"): (30, 0),
    }
    state = after(trial(ttft()), sent, slices=80)
    assert judge(state).verdict is Verdict.PASS, judge(state).message
    assert state.metrics[0].tests.evidence < 0.2


def test_cold_prompts_are_compared_with_cold_ones() -> None:
    sent = {
        (CANARY, "low,2"): (30, 27),
        (STABLE, "low,2"): (4, 4),
        (CANARY, "high,2"): (4, 0),
        (STABLE, "high,2"): (30, 0),
    }
    assert judge(after(trial(ttft()), sent, slices=80)).verdict is Verdict.PASS


def test_slower_canary_fails_at_equal_load() -> None:
    sent = {(CANARY, "low,5"): (20, 14), (STABLE, "low,5"): (20, 7)}
    judgement = judge(after(trial(ttft()), sent, slices=40))
    assert judgement.verdict is Verdict.FAIL
    assert "more than 1.25 times as slow as the stable at equal load" in judgement.message
    assert "above 0.25 s" in judgement.message
    assert "above 0.2 s" in judgement.message


def test_advisory_metric_differs_and_never_fails() -> None:
    sent = {(CANARY, "low,5"): (20, 14), (STABLE, "low,5"): (20, 7)}
    (metric,) = judge(after(trial(ttft(mode="Advisory")), sent, slices=40)).metrics
    assert metric.verdict is Verdict.DIFFERS
    assert "decides nothing" in metric.message


def test_without_overlap_nothing_is_proven_and_it_says_why() -> None:
    sent = {
        (CANARY, "low,9"): (30, 0),
        (STABLE, "low,2"): (30, 0),
        (CANARY, "low,2"): (3, 0),
        (STABLE, "low,9"): (0, 0),
    }
    state = after(trial(ttft()), sent, slices=200)
    judgement = judge(state)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not comparable: load per pod differs; only 9 %" in judgement.message


def test_old_pods_make_the_metric_advisory() -> None:
    (metric,) = made(TTFT, baseline=SEEN)
    assert (metric.how, metric.required, metric.demoted) == (How.ABOVE, False, True)
    judgement = judge(trial(metric))
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_metrics_without_load_stay_as_they_were() -> None:
    engine, own = made(
        TTFT | {"source": "Engine"}, {"name": "own", "histogram": {"buckets": "my_bucket"}}, baseline=SEEN, at_load=True
    )
    for metric in (engine, own):
        assert (metric.how, metric.required, metric.demoted) == (How.ABOVE, True, False)
        assert metric.parameters.margin_of is MarginOf.RATES
        assert metric.ignores_load


def test_strata_of_an_epoch_are_closed_with_it() -> None:
    state = after(trial(ttft()), {(CANARY, "low,5"): (2, 1), (STABLE, "low,5"): (2, 1)})
    (comparison, *_) = state.metrics[0].tests.comparisons
    assert list(comparison.test.open) == [stratum(3, 11)]
    closed = state.metrics[0].tests.close_epoch(3)
    assert all(not leaf.strata for leaf in closed.comparisons)


def test_state_at_load_round_trips_and_stays_small() -> None:
    state = trial(ttft(), ttft(name="b", mode="Advisory"))
    sent = {
        (side, f"{cached},{load}"): (5, load % 3)
        for side in (CANARY, STABLE)
        for cached in ("low", "high")
        for load in range(20)
    }
    state = after(state, sent, slices=3)
    written = json.dumps(stored_state.to_json(state))
    assert stored_state.from_json(json.loads(written)) == state
    assert len(written) < 100_000


def test_only_clocks_of_the_state_move_while_nothing_is_counted() -> None:
    """`without_clocks` finds that nothing was counted, in stretches and minutes that begin or end meanwhile."""
    sent = {(CANARY, "low,5"): (20, 14), (STABLE, "low,5"): (20, 7)}
    busy = after(trial(ttft()), sent, slices=3)
    idle = after(busy, {}, slices=8)  # ends what is open
    later = [after(idle, {}, slices=slices) for slices in range(1, 9)]
    assert all(state != idle and without_clocks(state) == without_clocks(idle) for state in later)
    assert without_clocks(after(idle, sent)) != without_clocks(idle)


@pytest.mark.parametrize("cell", ["", "low", "low,", "low,20", "low,-1", "warm,3", "low,x", "low,3,4"])
def test_unknown_cells_are_ignored(cell: str) -> None:
    interval = Interval(NOON, NOON + SLICE, {REQUESTS: {(CANARY, 3, cell): 10}})
    assert ttft().by_cell(interval, canary=CANARY) == {}


def test_damaged_boundaries_do_not_become_a_measurement() -> None:
    found = ttft()
    assert found.at_load is not None
    with pytest.raises(ValueError, match="not in"):
        replace(found, at_load=replace(found.at_load, canary=(1.0,)))
