"""The simulated pods of `bench.podsim`: the engine, the load of a request, the series, and the compiled comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.decision.kernel import parameters
from bench.podsim import compare
from bench.podsim.engine import Requests, draw, mean_load, serve
from bench.podsim.trial import SCRAPE, Scenario, load_bucket, play
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.slices import Slice

SHORT = Scenario("tpot", 4, 2, steps=((0, 2500), (300, 5000)), seconds=600)


def requests(n: int, gap: float) -> Requests:
    """`n` equal requests, `gap` seconds apart."""
    return Requests(np.arange(n) * gap, np.full(n, 100), np.full(n, 50), np.zeros(n))


def test_lone_request_is_slower_only_by_slower_steps() -> None:
    once, twice = serve(requests(1, 1.0)), serve(requests(1, 1.0), slow=2.0)

    assert once.admitted[0] == 0
    assert 0 < once.first[0] < once.ended[0]
    assert twice.ended[0] == pytest.approx(2 * once.ended[0])


def test_more_load_makes_every_latency_longer() -> None:
    sparse, dense = serve(requests(200, 2.0)), serve(requests(200, 0.02))
    begin, close = np.arange(200) * 2.0, np.arange(200) * 0.02

    assert (dense.ended - close).mean() > 1.2 * (sparse.ended - begin).mean()
    assert (dense.ended - dense.first).mean() > 1.2 * (sparse.ended - sparse.first).mean()


def test_mean_load_is_the_time_average_with_the_request_itself() -> None:
    arrived, ended = np.array([0.0, 1.0, 2.0]), np.array([4.0, 3.0, 6.0])

    load = mean_load(arrived, ended, arrived, ended)

    # The first one: alone for 1 s, two for 1 s, three for 1 s, two for 1 s.
    assert load == pytest.approx([2.0, 2.5, (3 + 2 + 1 + 1) / 4])


@pytest.mark.parametrize(
    ("load", "bucket"), [(0.5, 0), (0.999, 0), (1.0, 1), (1.29, 1), (1.3, 2), (1.69, 3), (1e9, 19)]
)
def test_load_bucket_is_that_of_the_contract(load: float, bucket: int) -> None:
    assert load_bucket(np.array([load]), 1.0, 1.3)[0] == bucket


def test_trial_is_reproducible_and_depends_on_the_seed() -> None:
    first, again, other = play(SHORT, 1), play(SHORT, 1), play(SHORT, 2)

    assert np.array_equal(first.requests, again.requests)
    assert np.array_equal(first.above, again.above)
    assert not np.array_equal(first.requests[:50], other.requests[:50])


def test_series_of_a_trial_are_consistent() -> None:
    series = play(SHORT, 1)

    assert (np.diff(series.slice) >= 0).all()
    assert series.slice.max() < SHORT.seconds / SCRAPE
    assert (series.above <= series.requests[:, None, None]).all()
    # Fewer requests are above a higher boundary, and above 1.25 times a boundary.
    assert (np.diff(series.above, axis=2) <= 0).all()
    assert (np.diff(series.above, axis=1) <= 0).all()
    # Buckets are cumulative, and +Inf holds all.
    assert (np.diff(series.within, axis=1) >= 0).all()
    assert np.array_equal(series.within[:, -1], series.requests)
    assert set(np.unique(series.cached)) == {0}
    assert 0 <= series.load.min() <= series.load.max() < 20


def test_cached_prompts_are_counted_apart_and_miss_while_the_canary_is_cold() -> None:
    warm = Scenario("ttft", 4, 2, steps=((0, 5000),), seconds=600, hit=0.5)
    cold = Scenario("ttft", 4, 2, steps=((0, 5000),), seconds=600, hit=0.5, cold_seconds=1e6)

    def high(scenario: Scenario, *, canary: bool) -> float:
        series = play(scenario, 1)
        mine = series.canary == canary
        return float(series.requests[mine & (series.cached == 1)].sum() / series.requests[mine].sum())

    assert high(warm, canary=True) == pytest.approx(0.5, abs=0.1)
    assert high(cold, canary=True) < 0.05
    assert high(cold, canary=False) == pytest.approx(0.5, abs=0.1)


def test_surge_gives_the_canary_more_load_per_pod() -> None:
    series = play(Scenario("ttft", 4, 4, steps=((0, 5000),), seconds=600), 1)

    pods = {int(side): len(np.unique(series.pod[series.canary == side])) for side in (0, 1)}

    assert pods == {1: 2, 0: 4}
    load = {side: np.average(series.load[series.canary == side], weights=series.requests[series.canary == side])
            for side in (0, 1)}  # fmt: skip
    assert load[1] > load[0] + 1


@pytest.mark.parametrize(
    ("pods", "weight", "canary", "stable"),
    [
        ("least", 500, 1, 4),
        ("least", 2500, 1, 4),
        ("least", 5000, 2, 4),
        ("least", 9800, 4, 4),
        ("sized", 500, 1, 4),
        ("sized", 2500, 1, 4),
        ("sized", 5000, 4, 4),
        ("sized", 9800, 4, 4),
        ("shared", 5000, 4, 4),
        ("shared", 2500, 2, 6),
    ],
)
def test_pods_of_both_sides(pods: str, weight: int, canary: int, stable: int) -> None:
    sides = Scenario("ttft", 4, 4, steps=((0, weight),), pods=pods).pods_by_epoch()

    assert [each.tolist() for each in sides] == [[canary], [stable]]


def test_compiled_comparison_agrees_with_the_conditional_test() -> None:
    random = np.random.default_rng(3)
    n = 240
    slices, stratum = np.repeat(np.arange(n // 4), 4), np.tile(np.arange(4), n // 4)
    n1, n0 = random.poisson(6, n), random.poisson(10, n)
    x1, x0 = random.binomial(n1, 0.45), random.binomial(n0, 0.25)
    began = np.array([0.0, 0.0, 300.0, 300.0])
    test = ConditionalTest(Parameters(alpha=0.001))
    rolled = None
    for cell in range(n):
        end = float(SCRAPE * (slices[cell] + 1))
        young = end - SCRAPE - began[stratum[cell]] < 25.0
        counts = (int(each[cell]) for each in (n1, x1, n0, x0))
        test = test.add(Slice(*counts, t=end, epoch=int(stratum[cell])), young=young)
        if test.rolled_back and rolled is None:
            rolled = slices[cell]

    at_load = True
    at, _, log_e = compare.run(
        slices, stratum, began, n1, x1, n0, x0, parameters(0.001, 1.0, 0.5), 25.0, 30.0, 1.0, 0.005, at_load
    )

    assert log_e == pytest.approx(test.log_e, abs=1e-6)
    assert at == (-1 if rolled is None else rolled)
    assert rolled is not None


def test_mixed_loads_reject_an_identical_canary_and_equal_loads_do_not() -> None:
    series = play(Scenario("tpot", 6, 4), 1)

    mixed, alike = compare.plain(series), compare.by_load(series)

    assert mixed.rolled_back is not None
    assert alike.rolled_back is None
    assert alike.proven
    assert not alike.noisy
    assert mixed.overlap == 1.0 > alike.overlap


def test_by_load_rejects_an_engine_slower_by_half() -> None:
    assert compare.by_load(play(Scenario("tpot", 4, 4, slow=1.5), 1)).rolled_back is not None


def test_draw_has_the_rate_and_the_lengths_asked_for() -> None:
    drawn = draw(np.random.default_rng(1), 10.0, 1000.0)

    assert len(drawn) == pytest.approx(10_000, rel=0.05)
    assert math.isclose(float(np.median(drawn.output)), 150, rel_tol=0.1)
    assert drawn.output.min() >= 1
