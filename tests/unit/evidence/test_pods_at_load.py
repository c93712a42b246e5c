"""Stable pods that differ for long at equal load are found; queues that come and go are not."""

from __future__ import annotations

import json
import random

import pytest

from serin.evidence.metric import MarginOf, MetricParameters
from serin.evidence.noise import MOST_PROCESSES
from serin.evidence.pods_at_load import MOST_CELLS, PodsAtLoad
from serin.evidence.slices import Counts

PARAMETERS = MetricParameters(0.01, 1.25, 1.25, 0.005, boundaries=(0.2, 0.8), margin_of=MarginOf.TIMES)


def played(seed: int, *, slow_pod: float = 1.0, bursts: bool = True, minutes: int = 60, pods: int = 4) -> PodsAtLoad:
    """An hour of the stable: whole scrapes of one pod are above the boundary while it has a queue."""
    draw, state = random.Random(seed), PodsAtLoad(PARAMETERS)
    for _ in range(minutes * 4):
        processes = {}
        for pod in range(pods):
            load = draw.randrange(6)
            rate = min(0.95, 0.1 * (1 + load) * (slow_pod if pod == 0 else 1.0))
            if bursts and draw.random() < 0.2:
                rate = min(0.95, rate * draw.choice((0.2, 2.5)))
            bad = sum(draw.random() < rate for _ in range(40))
            processes[f"pod-{pod}"] = {load: (Counts(40, bad), Counts(40, bad // 4))}
        state = state.add(processes, 15.0)
    return state


def test_equal_pods_with_queues_are_not_noisy() -> None:
    assert sum(played(seed).noisy for seed in range(20)) <= 1


@pytest.mark.parametrize("bursts", [False, True])
def test_pod_that_is_slower_all_the_time_is_named(*, bursts: bool) -> None:
    assert [played(seed, slow_pod=1.8, bursts=bursts).outlier for seed in range(4)] == ["pod-0"] * 4


def test_two_pods_can_differ() -> None:
    assert played(1, slow_pod=1.8, pods=2).noisy


def test_pod_with_more_load_is_not_noisy() -> None:
    state = PodsAtLoad(PARAMETERS)
    for _ in range(240):
        busy, idle = {5: (Counts(60, 48), Counts(60, 12))}, {1: (Counts(20, 2), Counts(20, 0))}
        state = state.add({"busy": busy, "idle": idle}, 15.0)
    assert not state.noisy


def test_short_time_says_nothing() -> None:
    assert not played(2, slow_pod=3.0, minutes=10).noisy


def test_state_round_trips_and_is_bounded() -> None:
    state = played(3, minutes=5)
    written = json.loads(json.dumps(state.state()))
    assert PodsAtLoad.from_state(PARAMETERS, written) == state
    for pod in range(100):
        state = state.add({f"pod-{pod}": {cell: (Counts(5, 1), Counts(5, 0)) for cell in range(100)}}, 15.0)
    assert len(state.processes) <= MOST_PROCESSES
    assert len(state.usual) <= MOST_CELLS


@pytest.mark.parametrize(
    "damage", [{"usual": 3}, {"processes": {"a": [[1]]}}, {"seconds": "x"}, {"processes": {"a": []}}]
)
def test_damaged_state_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="stored state"):
        PodsAtLoad.from_state(PARAMETERS, played(4, minutes=1).state() | damage)
