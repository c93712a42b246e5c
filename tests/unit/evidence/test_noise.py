"""Noise on the stable alone: equal pods are not noisy, different ones are."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from serin.analysis.presets import ERROR_MARGIN, OTHER_MARGIN
from serin.evidence.metric import MetricParameters
from serin.evidence.noise import MOST_PROCESSES, Dispersion, Noise
from serin.evidence.slices import Counts

ERRORS = MetricParameters(alpha=0.01, margin=ERROR_MARGIN, ratio=1.25, absolute=0.005)
LATENCY = MetricParameters(
    alpha=0.01, margin=OTHER_MARGIN, ratio=1.25, absolute=0.005, boundaries=(0.1, 0.5, 2.5, 10.0)
)
ABOVE = (0.5, 0.25, 0.1, 0.03)
SLICE = 15.0

Rate = Callable[[np.random.Generator, str, int], float]
"""Factor on the bad rate, by process and slice."""


def alike(_random: np.random.Generator, _process: str, _slice: int) -> float:
    return 1.0


def played(  # noqa: PLR0917 - a scenario fits on one line
    seed: int, parameters: MetricParameters, rps: float, processes: int, slices: int, factor: Rate = alike
) -> Noise:
    random, noise = np.random.default_rng(seed), Noise(parameters)
    names = [f"10.0.0.{number}:8000" for number in range(processes)]
    shares = ABOVE if parameters.boundaries else (0.01,)
    for number in range(slices):
        drift = 1 + 0.5 * np.sin(number / 20)  # the base rate, common to all processes
        counts = {}
        for name in names:
            n, times = int(random.poisson(rps * SLICE / processes)), factor(random, name, number) * drift
            above, left, before = [], n, 1.0
            for share in shares:  # a request above a boundary is above the lower ones, too
                left = int(random.binomial(left, min(1.0, share * times) / before)) if before else 0
                before = min(1.0, share * times)
                above.append(Counts(n, left))
            counts[name] = above
        noise = noise.add(counts, SLICE)
    return noise


@pytest.mark.parametrize("parameters", [ERRORS, LATENCY], ids=["errors", "latency"])
@pytest.mark.parametrize(("rps", "processes", "slices"), [(200, 2, 160), (20, 3, 160), (200, 10, 80), (2, 2, 480)])
def test_equal_pods_are_rarely_noisy(parameters: MetricParameters, rps: float, processes: int, slices: int) -> None:
    runs = 100
    assert sum(played(seed, parameters, rps, processes, slices).noisy for seed in range(runs)) <= 5


def test_one_worse_pod_is_noisy() -> None:
    def one_is_slow(_random: np.random.Generator, process: str, _slice: int) -> float:
        return 1.8 if process.startswith("10.0.0.1:") else 0.9

    found = [played(seed, LATENCY, 20, 3, 160, one_is_slow) for seed in range(5)]
    assert all(noise.noisy and noise.halves_differ for noise in found)


@pytest.mark.parametrize("phases", [(3, 4), (3, 9), (2, 13)])
@pytest.mark.parametrize("pooled", [15.0, 0.0])
def test_halves_that_are_never_scraped_in_one_read_are_compared(phases: tuple[int, int], pooled: float) -> None:
    """Reads every five seconds, scrapes every fifteen, each pod at its own phase; one pod fails ten times as often."""
    random, noise = np.random.default_rng(3), Noise(ERRORS)
    for second in range(5, 3600, 5):
        scraped = {
            f"pod-{phase}": [Counts(n, int(random.binomial(n, rate)))]
            for phase, rate in zip(phases, (0.01, 0.10), strict=True)
            if (second - phase) % 15 < 5 and (n := int(random.poisson(100)))
        }
        noise = noise.add(scraped, 5.0, pooled=pooled)
    assert noise.halves_differ or not pooled
    restored = Noise.from_state(ERRORS, json.loads(json.dumps(noise.state())))
    assert restored == noise


def test_pool_needs_as_much_time_as_a_scrape_interval() -> None:
    noise = Noise(ERRORS).add({}, 5.0, pooled=15.0)
    assert noise == Noise(ERRORS)
    noise = noise.add({"a": [Counts(10, 1)]}, 5.0, pooled=15.0).add({}, 5.0, pooled=15.0)
    assert (noise.pool_seconds, noise.leaves) == (10.0, ())
    noise = noise.add({"b": [Counts(10, 1)]}, 5.0, pooled=15.0)
    assert (noise.pool_seconds, dict(noise.pool), len(noise.halves)) == (0.0, {}, 2)


def test_bursts_in_changing_pods_are_noisy() -> None:
    def hiccups(random: np.random.Generator, _process: str, _slice: int) -> float:
        return 20.0 if random.random() < 0.04 else 0.2

    found = [played(seed, ERRORS, 200, 4, 160, hiccups) for seed in range(5)]
    assert all(noise.dispersion is not None and noise.dispersion > 1.3 for noise in found)


def test_single_pod_is_not_noisy_nor_compared_with_later_pod() -> None:
    noise = Noise(ERRORS)
    for _ in range(100):
        noise = noise.add({"a": [Counts(500, 50)]}, SLICE)
    assert not noise.noisy
    for _ in range(100):  # the errors end when the second pod starts
        noise = noise.add({"a": [Counts(250, 0)], "b": [Counts(250, 0)]}, SLICE)
    assert not noise.noisy


def test_dispersion_is_pearson_statistic_per_degree_of_freedom() -> None:
    dispersion = Dispersion()
    dispersion = dispersion.add({"a": Counts(60, 3), "b": Counts(50, 4)}, 200.0)
    assert dispersion.freedom == 0  # too few bad requests
    dispersion = dispersion.add({"a": Counts(40, 7), "b": Counts(50, 16), "c": Counts(200, 30)}, 1.0)
    rate, spread = 60 / 400, 0.0
    for n, x in ((100, 10), (100, 20), (200, 30)):
        spread += (x - n * rate) ** 2 / (n * rate * (1 - rate))
    assert (dispersion.statistic, dispersion.freedom) == (pytest.approx(spread * 399 / 400), 2)
    assert dispersion.open == {}


def test_significant_difference_within_margin_is_not_noisy() -> None:
    def slightly(_random: np.random.Generator, process: str, _slice: int) -> float:
        return 1.05 if process.startswith("10.0.0.1:") else 0.95

    assert not any(played(seed, LATENCY, 400, 2, 320, slightly).noisy for seed in range(5))


@pytest.mark.parametrize("bad", [20, 51, 149])
def test_one_burst_in_one_pod_is_not_noisy(bad: int) -> None:
    noise = Noise(ERRORS)
    for number in range(60):
        noise = noise.add(
            {"a": [Counts(150, bad if number == 5 else number % 2)], "b": [Counts(150, (number + 1) % 2)]}, SLICE
        )
        assert not noise.noisy


def test_common_bursts_in_different_scrapes_are_not_noisy() -> None:
    """Two equal pods, scraped five seconds apart; twenty requests fail within two seconds of every minute."""
    random, noise = np.random.default_rng(3), Noise(ERRORS)
    bursts = np.arange(0, 7200, 60) + random.uniform(0, 58, 120)
    counts = {}
    for name, offset in (("a", 0.0), ("b", 5.0)):
        scrapes = np.arange(offset, 7200 + offset, SLICE)
        failed = np.sort(np.concatenate([burst + random.uniform(0, 2, random.binomial(20, 0.5)) for burst in bursts]))
        counts[name] = np.diff(np.searchsorted(failed, scrapes))
    for one, other in zip(counts["a"], counts["b"], strict=True):
        noise = noise.add({"a": [Counts(150 + int(one), int(one))], "b": [Counts(150 + int(other), int(other))]}, SLICE)
    assert not noise.noisy


def test_replaced_pod_leaves_both_halves_with_one() -> None:
    noise = Noise(ERRORS)
    noise = noise.add({"a": [Counts(5, 0)], "b": [Counts(5, 0)]}, SLICE)
    noise = noise.add({"a": [Counts(5, 0)], "c": [Counts(5, 0)]}, SLICE)
    assert noise.halves["a"] != noise.halves["c"]


def test_more_pods_than_limit_uses_first_ones() -> None:
    noise, pods = Noise(ERRORS), [f"pod{number:03}" for number in range(MOST_PROCESSES + 20)]
    for _ in range(40):
        noise = noise.add({pod: [Counts(100, 30 if pod == "pod000" else 2)] for pod in pods}, SLICE)
    assert set(noise.halves) == set(pods[:MOST_PROCESSES])
    assert noise.dispersion is not None


def test_more_pods_than_limit_may_miss_scrapes() -> None:
    random, noise, pods = np.random.default_rng(5), Noise(ERRORS), [f"pod{number:03}" for number in range(80)]
    for _ in range(160):
        counts = {pod: int(random.binomial(100, 0.09 if pod == "pod007" else 0.02)) for pod in pods}
        noise = noise.add({pod: [Counts(100, x)] for pod, x in counts.items() if random.random() > 0.02}, SLICE)
    assert noise.leaves[0].dispersion.freedom > 500


def test_nearly_idle_pod_changes_nothing() -> None:
    def slightly(_random: np.random.Generator, process: str, _slice: int) -> float:
        return 1.05 if process.startswith("10.0.0.1:") else 0.95

    def noisy(seed: int) -> bool:
        noise = played(seed, LATENCY, 400, 2, 40, slightly)
        noise = noise.add({"idle": [Counts(2, 2)] * 4}, SLICE)
        random = np.random.default_rng(seed)
        for _ in range(160):
            counts = {}
            for name, factor in (("10.0.0.0:8000", 0.95), ("10.0.0.1:8000", 1.05)):
                counts[name] = [Counts(3000, int(random.binomial(3000, share * factor))) for share in ABOVE]
            noise = noise.add(counts, SLICE)
        return noise.noisy

    assert not any(noisy(seed) for seed in range(5))


def test_noise_restored_from_json_is_equal_and_bounded() -> None:
    noise = played(1, LATENCY, 20, 3, 40)
    stored = json.loads(json.dumps(noise.state()))
    again = Noise.from_state(LATENCY, stored)
    assert again == noise
    many = {f"pod{number}": [Counts(5, 1)] * 4 for number in range(3 * MOST_PROCESSES)}
    noise = noise.add(many, SLICE)
    assert len(noise.halves) == MOST_PROCESSES
    assert len(noise.leaves[0].dispersion.open) <= MOST_PROCESSES
    with pytest.raises(ValueError, match=r"^The stored state of the [a-z ]+ is damaged: "):
        Noise.from_state(LATENCY, stored | {"leaves": [{}]})
