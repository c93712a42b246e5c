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


@EVERY_RAMP
async def test_canary_that_loses_30_percent_before_the_pod_is_not_promoted(rollout: dict[str, Any], seed: int) -> None:
    trial = await play(replace(TRAFFIC, lost_on_the_way=0.3), seed, minutes=60, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is None
    reason, message = reconciling(trial)
    assert reason == Reason.REQUESTS_MISSING
    assert "did not arrive at the canary" in message


@EVERY_RAMP
@pytest.mark.parametrize("seconds", [300.0, math.inf], ids=["for 300 s", "for ever"])
async def test_canary_that_stalls_40_percent_is_not_promoted(
    rollout: dict[str, Any], seed: int, seconds: float
) -> None:
    load = replace(TRAFFIC, canary_durations=stalls(0.4, seconds))
    trial = await play(load, seed, minutes=60, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is None
    reason, message = reconciling(trial)
    assert reason == Reason.REQUESTS_MISSING
    assert "arrived at the canary and have not ended" in message


@EVERY_RAMP
@pytest.mark.parametrize("load", [TRAFFIC, Load(40, slow_successes)], ids=["ordinary answers", "slow answers"])
async def test_identical_canary_is_promoted_and_never_held_for_missing_requests(
    load: Load, rollout: dict[str, Any], seed: int
) -> None:
    trial = await play(load, seed, minutes=90, rollout=rollout, analysis=ERRORS)
    assert trial.outcome is Phase.STABLE
    assert not trial.missing
