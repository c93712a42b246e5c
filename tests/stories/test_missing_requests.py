"""Requests that no metric counts, lost before the pod or stalled in it, hold the canary, and status says which."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from fakes.traffic import Load, slow_successes, stalls
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.stories.trials import Trial, play

QUICK: dict[str, Any] = {
    "ramp": {"steps": [{"weight": weight, "hold": "2m"} for weight in (5, 25, 50)]}, "minimumBake": "5m",
}  # fmt: skip
STEPS: dict[str, Any] = {"ramp": {"steps": [{"weight": weight, "hold": "10m"} for weight in (5, 25, 50)]}}
ADAPTIVE: dict[str, Any] = {"ramp": {"adaptive": {}}}
ERRORS = {"metrics": [{"name": "errors", "preset": "ErrorRate"}]}
TRAFFIC = Load(60)
EVERY_RAMP = pytest.mark.parametrize(
    ("rollout", "seed"), [(QUICK, 1), (QUICK, 2), (STEPS, 1), (ADAPTIVE, 1), (ADAPTIVE, 2)],
    ids=["two minutes a step", "and another seed", "ten minutes a step", "adaptive", "adaptive, another seed"],
)  # fmt: skip


def reconciling(trial: Trial) -> tuple[str, str]:
    condition = next(c for c in trial.world.status()["conditions"] if c["type"] == "Reconciling")
    return condition["reason"], condition["message"]


def off_after(trial: Trial) -> bool:
    """Whether the canary has no weight any more and is not promoted."""
    weights = trial.world.weights()
    return trial.outcome is not Phase.STABLE and weights[trial.world.first or ""] == 10_000


@EVERY_RAMP
async def test_canary_that_loses_30_percent_before_the_pod_loses_its_weight(rollout: dict[str, Any], seed: int) -> None:
    trial = await play(replace(TRAFFIC, lost_on_the_way=0.3), seed, minutes=25, rollout=rollout, analysis=ERRORS)
    assert off_after(trial)
    reason, message = reconciling(trial)
    assert reason == Reason.REQUESTS_LOST
    assert "did not arrive at the canary" in message
    assert "serin.dev/do=resume@" in message


@EVERY_RAMP
@pytest.mark.parametrize("seconds", [300.0, math.inf], ids=["for 300 s", "for ever"])
async def test_canary_that_stalls_40_percent_is_not_promoted_by_old_pods(
    rollout: dict[str, Any], seed: int, seconds: float
) -> None:
    load = replace(TRAFFIC, canary_durations=stalls(0.4, seconds), old_pods=True)
    trial = await play(load, seed, minutes=60, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is None
    reason, message = reconciling(trial)
    assert reason == Reason.REQUESTS_MISSING
    assert "arrived at the canary and have not ended" in message


@pytest.mark.parametrize("rollout", [STEPS, ADAPTIVE], ids=["default steps", "adaptive"])
@pytest.mark.parametrize(
    ("load", "said"),
    [
        (replace(TRAFFIC, canary_durations=stalls(0.3, math.inf)), "silent for 30 s or longer"),
        (replace(TRAFFIC, excluded=(0.0, 1.0)), "excluded (answered 401, 404, 429, 3xx or the like)"),
        (replace(TRAFFIC, lost_on_the_way=0.5, gateway=True), "failed at the gateway"),
    ],
    ids=["30 % hang", "all are answered 404", "the gateway fails half"],
)
async def test_canary_whose_failures_are_no_bad_answers_is_rolled_back(
    load: Load, said: str, rollout: dict[str, Any]
) -> None:
    trial = await play(load, 1, minutes=15, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is Phase.ROLLED_BACK
    assert said in trial.world.status()["rejected"]["message"]


async def test_clients_that_leave_the_canary_hold_it() -> None:
    trial = await play(replace(TRAFFIC, left=(0.0, 0.4)), 1, minutes=40, rollout=QUICK, analysis=ERRORS)
    assert trial.outcome is None
    assert trial.world.weights()[trial.world.first or ""] < 10_000
    assert "Clients left" in reconciling(trial)[1]


@EVERY_RAMP
@pytest.mark.parametrize("load", [TRAFFIC, Load(40, slow_successes)], ids=["ordinary answers", "slow answers"])
async def test_identical_canary_is_promoted_and_never_held_for_missing_requests(
    load: Load, rollout: dict[str, Any], seed: int
) -> None:
    trial = await play(load, seed, minutes=90, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is Phase.STABLE
    assert not trial.missing
