"""The proof that few of the canary's requests are lost, from arrivals that pods show at different times."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from serin.analysis.arrivals_proof import arrivals_proof, arrivals_unproven
from serin.analysis.trial_state import Arrived, Epoch, TrialState
from serin.evidence.slices import RequestsBySide
from tests.unit.analysis.scraped_pods import Traffic, states
from tests.unit.rollout.cases import GOOD, MINUTE, NOON, make_evidence

SECOND = timedelta(seconds=1)
BEGAN = NOON - 10 * MINUTE
SETTLED = RequestsBySide(2_000, 2_200)
"""What arrived before the newest arrivals: too little for a proof, and all of it known."""


def state(*newest: Arrived, **changes: Any) -> TrialState:
    """Half of the requests are the canary's; one pod of each side is sampled every 15 s."""
    arrived = RequestsBySide(
        SETTLED.canary + sum(each.canary for each in newest),
        SETTLED.stable + sum(each.requests - each.canary for each in newest),
    )
    facts: dict[str, Any] = {
        "epochs": {1: Epoch(BEGAN, 5_000)},
        "arrived": arrived,
        "newest_arrivals": newest,
        "until": NOON,
    }
    return make_evidence(GOOD, **(facts | changes))


def proven(of: TrialState) -> bool:
    proof = arrivals_proof(of)
    assert proof
    return proof.proven


def shown(seconds: int, canary: int, stable: int, samples: tuple[int, int] | None) -> Arrived:
    """Arrivals of an interval that ended so many seconds before noon, with the times of the samples, before noon."""
    times = [NOON - each * SECOND for each in samples] if samples else [None, None]
    return Arrived(NOON - seconds * SECOND, canary + stable, canary, *times)


CANARY_FIRST = (shown(12, 2_000, 0, (14, 21)), shown(7, 0, 1_800, (14, 8)), shown(1, 2_000, 0, (2, 8)))
"""The canary's sample, 6 s later the stable's, and again 6 s later the canary's."""


def test_arrivals_of_the_canary_count_once_the_stable_was_sampled_after_them() -> None:
    assert proven(state(*CANARY_FIRST[:2]))
    assert not proven(state(CANARY_FIRST[0])), "the stable's sample is older"
    older = replace(CANARY_FIRST[1], stable_sampled=NOON - 15 * SECOND)
    assert not proven(state(CANARY_FIRST[0], older)), "one pod of the stable was not sampled since"


def test_arrivals_after_the_newest_common_moment_are_not_counted() -> None:
    """Those of the canary that follow would prove everything, those of the stable nothing any more."""
    much = shown(1, 50_000, 0, (2, 8))
    lost = shown(12, 0, 1_800, (14, 8))
    assert not proven(state(lost, much))
    assert proven(state(*CANARY_FIRST[:2], shown(1, 0, 4_000, (14, 1)))), "the canary's part of them is not known yet"


@pytest.mark.parametrize(
    ("age", "holds"), [(MINUTE + 7 * SECOND, False), (MINUTE + 8 * SECOND, True)], ids=["before", "after"]
)
def test_first_four_scrapes_of_an_epoch_prove_nothing(age: timedelta, *, holds: bool) -> None:
    """Until then the samples may be those of one pod of the stable, and others not sampled yet."""
    began = NOON - age
    assert proven(state(*CANARY_FIRST[:2], epochs={1: Epoch(began, 5_000)})) is holds


def test_newest_arrivals_without_times_of_samples_do_not_count_for_the_canary() -> None:
    without = [replace(each, canary_sampled=None, stable_sampled=None) for each in CANARY_FIRST]
    assert not proven(state(*without))
    assert proven(state(arrived=RequestsBySide(4_000, 4_000))), "all of them are older than four scrapes"


# Simulated pods ----------------------------------------------------------------------------------------------------

RUNS = 40


def share_proven(traffic: Traffic, runs: int = RUNS) -> float:
    gen = np.random.default_rng(20261130)
    return sum(any(map(proven_at_all, states(traffic, gen))) for _ in range(runs)) / runs


def proven_at_all(of: TrialState) -> bool:
    proof = arrivals_proof(of)
    return proof is not None and proof.proven


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({}, id="plain"),
        pytest.param({"rps": 20.0, "weight": 0.25}, id="few requests"),
        pytest.param({"pods": (2, 4)}, id="several pods"),
        pytest.param({"scrape": 5.0}, id="scraped as often as read"),
        pytest.param({"scrape_fails": 0.25}, id="a quarter of the scrapes fails"),
        pytest.param({"scrape_fails": 0.4, "pods": (1, 4)}, id="two fifths of the scrapes fail"),
        pytest.param({"scrape_fails": 0.4, "lists_pods": False}, id="scrapes fail, pods unknown"),
        pytest.param({"bursts": True, "scrape_fails": 0.05}, id="bursts"),
        pytest.param({"restart": 80.0}, id="a canary pod restarts"),
        pytest.param({"joins": 80.0, "scrape_fails": 0.25}, id="a stable pod joins"),
        pytest.param({"leaves": 80.0, "scrapes": 30}, id="a stable pod leaves"),
        pytest.param({"leaves": 80.0, "scrapes": 30, "scrape_fails": 0.25}, id="a stable pod leaves, scrapes fail"),
    ],
)
def test_a_tenth_lost_is_proven_in_one_of_twenty_trials_at_most(case: dict[str, Any]) -> None:
    assert share_proven(Traffic(kept=0.9, **case)) <= 0.05


@pytest.mark.parametrize(
    ("case", "scrapes"),
    [
        pytest.param({}, 18, id="half, two stable pods"),
        pytest.param({"weight": 0.25, "scrape": 5.0}, 25, id="a quarter, scraped every 5 s"),
        pytest.param({"scrape_fails": 0.25}, 22, id="scrapes fail"),
        pytest.param({"leaves": 80.0}, 60, id="a stable pod leaves"),
    ],
)
def test_identical_canary_is_proven_after_few_scrapes(case: dict[str, Any], scrapes: int) -> None:
    assert share_proven(Traffic(scrapes=scrapes, **case)) >= 0.9


def says_lost(of: TrialState) -> bool:
    return " did not arrive at it" in (arrivals_unproven(of) or "")


@pytest.mark.parametrize("scrape", [5.0, 15.0])
@pytest.mark.parametrize("rps", [50.0, 400.0])
def test_the_sentence_does_not_say_that_requests_are_lost_while_none_is(rps: float, scrape: float) -> None:
    """Right after a scrape of the stable, and before the canary's, the sums differ by a scrape interval's requests."""
    gen = np.random.default_rng(20261130)
    said = [says_lost(of) for _ in range(10) for of in states(Traffic(rps=rps, scrape=scrape), gen)]
    assert sum(said) <= len(said) / 100


def test_the_sentence_says_that_a_fifth_is_lost() -> None:
    gen = np.random.default_rng(20261130)
    last = [list(states(Traffic(rps=400.0, kept=0.8), gen))[-1] for _ in range(5)]
    assert all(map(says_lost, last))
