"""What a comparison cannot see: the sentences about noise and about requests that go astray."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from serin.analysis.trial_state import Arrived, Epoch
from serin.evidence.slices import Counts, RequestsBySide
from serin.reporting.caveats import NOISY, caveats
from serin.rollout.decide import decide
from serin.rollout.snapshot import Snapshot
from tests.unit.rollout.cases import GOOD, HOUR, MINUTE, NOON, canary_at, make_evidence


def told(snapshot: Snapshot) -> tuple[str, ...]:
    decision = decide(snapshot)
    assert decision.canary
    return caveats(snapshot, decision, decision.canary)


def arrived(canary: int, stable: int, *, weight: int = 500, lately: int = 0, age: timedelta = 24 * HOUR) -> Snapshot:
    epochs = {1: Epoch(NOON - age, weight)}
    state = make_evidence(
        GOOD, epochs=epochs, arrived=RequestsBySide(canary, stable), newest_arrivals=(Arrived(NOON, lately),)
    )
    return replace(canary_at(), saved_state=state)


@pytest.mark.parametrize(
    ("snapshot", "side"),
    [
        (arrived(500, 9_500), None),
        (arrived(470, 9_530), None),
        (arrived(200, 9_800), "canary"),
        (arrived(0, 9_800), "canary"),
        (arrived(1_000, 9_000), "stable"),
        (arrived(0, 6_000, lately=6_000), None),
        (arrived(270, 9_000, lately=4_500), None),
        (arrived(3_800, 95_000, lately=2_000), "canary"),
        (arrived(3_000, 6_000, weight=5_000, age=MINUTE), None),
        (arrived(5_000, 10_000, weight=5_000, lately=2_000, age=2 * MINUTE), None),
        (arrived(1_000, 2_000, weight=9_000, age=MINUTE), None),
        (arrived(2_000, 10_000, weight=5_000, lately=3_000, age=2 * MINUTE), "canary"),
        (arrived(0, 0), None),
        (arrived(500, 0, weight=10_000), None),
        (arrived(0, 500, weight=0), None),
    ],
    ids=[
        *("as it should be", "about", "half is lost", "all are lost", "twice as many", "all of them just now"),
        *("half of them just now", "a fifth is lost", "an epoch of four scrapes", "three scrapes behind of eight"),
        *("two scrapes behind of four", "two thirds are lost in two minutes"),
        *("nobody came", "everything is the canary's", "nothing is"),
    ],
)
def test_requests_that_do_not_follow_the_weight_are_warned_of(snapshot: Snapshot, side: str | None) -> None:
    astray = [sentence for sentence in told(snapshot) if "reached the canary" in sentence]
    assert [f"lost on the way to the {side}" in sentence for sentence in astray] == [True] * (side is not None)


def test_a_noisy_metric_is_named() -> None:
    state = make_evidence(GOOD)
    noise = state.metrics[0].noise
    for _ in range(40):
        noise = noise.add({"a": [Counts(100, 50)], "b": [Counts(100, 5)]}, 15.0)
    state = replace(state, metrics=(replace(state.metrics[0], noise=noise), *state.metrics[1:]))
    assert f"{NOISY} errors." in told(replace(canary_at(), saved_state=state))
