"""Stories of a stable without a Ready pod, and of the canary that is to fix it."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import Behaviour
from serin.rollout.phases import Phase
from tests.stories.story import HELD, Story

FIXED: dict[str, Any] = HELD | {"replicas": 2}
ADAPTIVE: dict[str, Any] = FIXED | {"rollout": {"ramp": {"adaptive": {}}, "drainTimeout": "10s"}}


class DeadStory(Story):
    """The stable may carry traffic without Ready pods: it has nowhere else to go."""

    def _check_pods(self, engine: str, weight: int) -> None:
        if self.world.status().get("stable", {}).get("engineRevision") != engine:
            super()._check_pods(engine, weight)


async def _dead(change: dict[str, Any], **behaviour: Any) -> DeadStory:
    """The stable has just died, and the user has applied a fix that behaves so."""
    story = DeadStory()
    story.world.behaviours["good"] = Behaviour()
    story.world.user_applies(spec(**change))
    await story.until_phase(Phase.STABLE)
    story.world.behaviours["good"].crash = "CrashLoopBackOff"
    story.world.behaviours["fix"] = Behaviour(**behaviour)
    await story.run(1)
    story.world.user_applies(spec("fix", **change))
    return story


@pytest.mark.parametrize("change", [FIXED, ADAPTIVE], ids=["fixed", "adaptive"])
async def test_ready_canary_takes_over_from_dead_stable(change: dict[str, Any]) -> None:
    story = await _dead(change)
    await story.until_phase(Phase.STABLE, minutes=8)
    assert story.world.status()["stable"]["weight"] == "100%"
    assert any("TakenOver" in line for line in story.transcript)


async def test_canary_of_stable_that_flaps_stays_on_trial() -> None:
    story = await _dead(FIXED)
    for _ in range(4):
        story.world.behaviours["good"].crash = None
        await story.run(1)
        story.world.behaviours["good"].crash = "CrashLoopBackOff"
        await story.run(4)
    assert story.world.status()["canary"]["weight"] == "25%"


async def test_trial_goes_on_when_stable_comes_back() -> None:
    story = await _dead(FIXED, schedulable=False)
    await story.run(8)
    assert story.conditions["Reconciling"] == ("True", "TakingOver")
    story.world.behaviours["good"].crash = None
    story.world.behaviours["fix"].schedulable = True
    await story.run(8)
    assert story.world.status()["canary"]["weight"] == "25%"


@pytest.mark.parametrize("behaviour", [{"crash": "CrashLoopBackOff"}, {"crash": "OOMKilled"}])
async def test_canary_that_crashes_does_not_replace_dead_stable(behaviour: dict[str, Any]) -> None:
    story = await _dead(FIXED, **behaviour)
    await story.until_phase(Phase.ROLLED_BACK, minutes=3)
    await story.run(15)
    assert story.phase is Phase.ROLLED_BACK


async def test_paused_spec_keeps_canary_from_taking_over() -> None:
    story = await _dead(FIXED | {"paused": True})
    await story.run(10)
    assert story.phase is Phase.PAUSED
    story.world.user_applies(spec("fix", **FIXED))
    await story.until_phase(Phase.STABLE, minutes=2)


async def test_stable_scaled_to_zero_is_not_dead() -> None:
    story = await _dead(FIXED | {"replicas": 0})
    await story.run(10)
    assert not any("Tak" in line for line in story.transcript)


async def test_take_over_ends_alike_after_crash_at_any_write() -> None:
    story = await _dead(FIXED)
    story.writes = 0
    await story.until_phase(Phase.STABLE, minutes=8)
    for crash_at in range(story.writes):
        again = await _dead(FIXED)
        again.writes, again.crash_at = 0, crash_at
        await again.until_phase(Phase.STABLE, minutes=9)
        assert again.world.status()["stable"]["weight"] == "100%"
