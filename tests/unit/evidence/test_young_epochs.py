"""Strata of a young epoch stay open: slow answers may be missing on the side that was scraped first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from serin.analysis import presets, stored_state, update
from serin.analysis.counts import Baseline, Interval, Tally
from serin.analysis.trial_state import Epoch, TrialState
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.slices import Slice

SCRAPE, DURATION = 15.0, 30.0
"""Seconds between scrapes, and seconds that a good answer takes; a bad answer takes no time."""
RATE, BAD = 4.0, 0.05
"""Requests per second of the canary, and the bad rate of both sides."""
TIMES_MORE = 20
"""Requests of the stable per request of the canary."""
LASTS = 90.0
"""Duration of an epoch in seconds."""


Counter = Callable[[float], tuple[int, int]]
"""By time in seconds, the requests that Prometheus knows of a pod, and the bad requests among them."""


def pod(random: np.random.Generator, rate: float, offset: float) -> Counter:
    """Counts of a pod whose requests arrive from 0 s on, as of its last scrape."""
    number = random.poisson(rate * LASTS)
    bad = random.random(number) < BAD
    ends = random.random(number) * LASTS + np.where(bad, 0.0, DURATION)

    def at(moment: float) -> tuple[int, int]:
        scraped = ends <= moment - (moment - offset) % SCRAPE
        return int(scraped.sum()), int((scraped & bad).sum())

    return at


def rolled_back(seed: int, young_for: float) -> bool:
    """Whether an identical canary is rolled back if its pod is scraped 13 s before the stable's in each slice."""
    random, test = np.random.default_rng(seed), ConditionalTest(Parameters(alpha=0.01, margin=1.1))
    for epoch in range(12):
        canary, stable = pod(random, RATE, 1.0), pod(random, RATE * TIMES_MORE, 14.0)
        for end in np.arange(SCRAPE, LASTS + SCRAPE, SCRAPE):
            begin = end - SCRAPE
            (n1, x1), (m1, y1), (n0, x0), (m0, y0) = canary(end), canary(begin), stable(end), stable(begin)
            test = test.add(Slice(n1 - m1, x1 - y1, n0 - m0, x0 - y0, epoch=epoch), young=begin < young_for)
    return test.rolled_back


def test_identical_canary_rolls_back_only_if_young_strata_close() -> None:
    cut, pooled = (sum(rolled_back(seed, young_for) for seed in range(20)) for young_for in (0.0, DURATION + SCRAPE))
    assert cut >= 4
    assert pooled == 0


def test_young_stratum_is_tested_whole_once_it_is_old() -> None:
    young, whole = ConditionalTest(), ConditionalTest()
    young = young.add(Slice(10, 4, 50, 1, epoch=3), young=True)
    assert young.closed.n1 == 0
    young = young.add(Slice(5, 2, 40, 0, epoch=3))
    whole = whole.add(Slice(15, 6, 90, 1, epoch=3))
    assert (young.log_e, young.closed, young.open) == (whole.log_e, whole.closed, {})


def test_epoch_is_young_until_slow_answers_are_scraped() -> None:
    durations, noon = Tally("d_bucket", by="le"), datetime(2026, 3, 1, 12, tzinfo=UTC)
    shown = Baseline(noon, 10.0, {durations: {"1.0": 50.0, "5.0": 90.0, "20.0": 99.0, "+Inf": 100.0}})
    assert presets.young_seconds(shown, durations, 15.0) == 5.0 + 15.0
    assert presets.young_seconds(Baseline(noon, 10.0), durations, 15.0) == 0.0
    state = TrialState("b@1", noon, noon, (), {4: Epoch(noon, 500)}, 10.0, 30.0, 20.0, young_seconds=20.0)
    ages = {age: Interval(noon + timedelta(seconds=age), noon + timedelta(seconds=age + 15)) for age in (0, 19, 20)}
    assert [update.is_young(state, 4, interval.begin) for interval in ages.values()] == [True, True, False]
    assert stored_state.from_json(stored_state.to_json(state)) == state
