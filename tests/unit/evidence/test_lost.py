"""Requests that are lost on the way to the canary: the proof that they are few, and the test that finds many."""

from __future__ import annotations

import random

import pytest

from serin.evidence.lost import (
    BEYOND_DOUBT,
    NOTHING_LOST,
    PROVEN,
    Arrivals,
    LostTest,
    log_e_of_few_lost,
    still_needed,
)


def arrivals(requests: int, weight: float, kept: float) -> Arrivals:
    """The expected arrivals of both sides."""
    return Arrivals(round(requests * weight * kept), round(requests * (1 - weight)), weight)


@pytest.mark.parametrize("weight", [0.05, 0.25, 0.5])
@pytest.mark.parametrize(
    ("kept", "proven"), [(1.0, True), (0.96, True), (0.92, False), (0.9, False), (0.5, False)],
)  # fmt: skip
def test_only_less_than_eight_percent_lost_is_proven(weight: float, kept: float, *, proven: bool) -> None:
    assert (log_e_of_few_lost([arrivals(400_000, weight, kept)]) >= PROVEN) is proven


def test_proof_of_a_tenth_lost_is_fair() -> None:
    """The expectation of the e-value is 1 at a tenth lost, and less beyond, so it is wrong in one of twenty at most."""
    for kept in (0.9, 0.7):
        odds = 0.25 / 0.75 * kept
        share, n = odds / (1 + odds), 60
        rng = random.Random(7)
        wrong = 0
        for _ in range(400):
            total = [0, 0]
            ever = False
            for _ in range(n):
                at_canary = sum(rng.random() < share for _ in range(20))
                total = [total[0] + at_canary, total[1] + 20 - at_canary]
                ever |= log_e_of_few_lost([Arrivals(total[0], total[1], 0.25)]) >= PROVEN
            wrong += ever
        assert wrong <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_estimate_of_requests_needed_is_none_if_too_many_are_lost() -> None:
    assert still_needed(0.0, 0.9, 0.25) is None
    needed = still_needed(0.0, 1.0, 0.25)
    assert needed
    assert log_e_of_few_lost([arrivals(round(needed * 1.05), 0.25, 1.0)]) >= PROVEN


def minutes_until_found(kept: float, per_minute: int, weight: float, *, before: int = 0) -> int | None:
    test = NOTHING_LOST
    for minute in range(1, 121):
        share = 1.0 if minute <= before else kept
        test = test.add([arrivals(per_minute, weight, share)], 60.0 * minute)
        if test.beyond_doubt:
            return minute - before
    return None


@pytest.mark.parametrize(
    ("kept", "per_minute", "weight", "most"),
    [(0.1, 1_200, 0.05, 4), (0.0, 1_200, 0.05, 3), (0.7, 1_200, 0.25, 8), (0.0, 120, 0.05, 10), (0.7, 12_000, 0.25, 3)],
)
@pytest.mark.parametrize("before", [0, 60], ids=["from the start", "after an hour"])
def test_loss_is_found_in_minutes_whenever_it_begins(
    kept: float, per_minute: int, weight: float, most: int, before: int
) -> None:
    found = minutes_until_found(kept, per_minute, weight, before=before)
    assert found is not None
    assert found <= most


@pytest.mark.parametrize("kept", [1.0, 0.95, 0.92])
def test_small_loss_is_never_beyond_doubt(kept: float) -> None:
    assert minutes_until_found(kept, 12_000, 0.25) is None


def test_outage_of_a_minute_is_not_beyond_doubt() -> None:
    test: LostTest = NOTHING_LOST.add([arrivals(12_000, 0.25, 0.0)], 60.0).add([arrivals(12_000, 0.25, 0.0)], 120.0)
    assert not test.beyond_doubt
    assert test.add([arrivals(12_000, 0.25, 1.0)], 180.0) == LostTest(since=180.0)


def test_identical_canary_is_never_found_to_lose_requests() -> None:
    rng = random.Random(3)
    for weight in (0.05, 0.25, 0.5):
        highest = 0.0
        test = NOTHING_LOST
        for minute in range(1, 2_001):
            n = 120
            at_canary = sum(rng.random() < weight for _ in range(n))
            test = test.add([Arrivals(at_canary, n - at_canary, weight)], 60.0 * minute)
            highest = max(highest, test.log_e)
        assert highest < BEYOND_DOUBT
