"""Engines that die: in a loop, now and then, before the trial began, and under an operator whose clock is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import Behaviour
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.stories.story import HELD, Story
from tests.stories.woken import WokenStory

GONE = {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
AHEAD = pytest.mark.parametrize("ahead", [0.0, 2.0, 60.0, -60.0])


async def under_traffic(ahead: float = 0.0, **behaviour: Any) -> WokenStory:
    """A canary that has 25 % of the traffic."""
    story = WokenStory(operator_ahead=ahead)
    story.world.behaviours["flaky"] = Behaviour(load_seconds=20, **behaviour)
    story.world.user_applies(spec(**HELD))
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("flaky", **HELD))
    await story.run(20, has_traffic)
    return story


def has_traffic(story: Story) -> bool:
    return story.world.status().get("weight") == "25%"


async def nothing(_story: WokenStory) -> None: ...


async def trial_state_is_lost(story: WokenStory) -> None:
    story.world.evidence_is_lost()
    await story.run(1)
    await story.run(5, has_traffic)


async def spec_goes_back_and_forth(story: WokenStory) -> None:
    """The pods do not change: they still drain."""
    story.world.user_applies(spec(**HELD))
    await story.run(0.1)
    story.world.user_applies(spec("flaky", **HELD))
    await story.run(5, has_traffic)


@AHEAD
@pytest.mark.parametrize("before", [nothing, trial_state_is_lost, spec_goes_back_and_forth])
async def test_crash_loop_rejects_pods_older_than_the_trial(
    before: Callable[[WokenStory], Awaitable[None]], ahead: float
) -> None:
    story = await under_traffic(ahead)
    await before(story)
    story.world.behaviours["flaky"].crash = "CrashLoopBackOff"
    await story.run(0.1, lambda s: s.phase in GONE)
    assert story.world.status()["rejected"]["reason"] == Reason.CANARY_CRASHED


@AHEAD
async def test_crash_from_the_start_rejects_whatever_the_clocks_say(ahead: float) -> None:
    story = WokenStory(operator_ahead=ahead)
    story.world.behaviours["crash"] = Behaviour(crash="CrashLoopBackOff")
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("crash"))
    await story.run(0.2, lambda s: s.phase in GONE)
    assert story.world.status()["rejected"]["reason"] == Reason.CANARY_CRASHED


async def test_pod_that_dies_every_eight_minutes_is_rejected_at_its_third_death() -> None:
    story = await under_traffic()
    flaky = story.world.behaviours["flaky"]
    for deaths in (1, 2, 3):
        await story.run(8)
        assert story.phase not in GONE
        flaky.exits = deaths
        await story.run(0.1)
    assert story.phase in GONE
    rejected = story.world.status()["rejected"]
    assert rejected["reason"] == Reason.CANARY_CRASHED
    assert "the engine exited 3 times since the trial began" in rejected["message"]


async def test_deaths_before_the_trial_began_do_not_reject() -> None:
    story = await under_traffic()
    flaky = story.world.behaviours["flaky"]
    flaky.exits = 2
    await story.run(1)
    await trial_state_is_lost(story)  # the next attempt begins, with the same pods
    assert story.world.status()["canary"]["attempt"] == 2
    flaky.exits = 4
    await story.run(1)
    assert story.phase not in GONE
    flaky.exits = 5
    await story.run(0.1, lambda s: s.phase in GONE)
