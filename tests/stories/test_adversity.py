"""The same stories with the operator dying after every single write, and with the status lost in every phase.

A crash before a write leaves the same world as a crash after the write before it, so one of the two is enough.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from fakes.operator_in_memory import spec
from fakes.world import Behaviour
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, POD_DISRUPTION_BUDGET, SERVICE
from serin.rollout.phases import Phase
from tests.stories.story import QUICK, Story


def prepare(story: Story) -> None:
    """Everything loads and drains within a tick or two; with so much traffic a proof waits for its time only."""
    quick = {"load_seconds": 5, "drain_seconds": 5}
    story.world.behaviours = {
        "good": Behaviour(**quick),
        "better": Behaviour(**quick),
        "bad": Behaviour(**quick, error_rate=0.5),
        "crash": Behaviour(crash="CrashLoopBackOff"),
    }
    story.world.traffic.rps = 1_000
    story.world.user_applies(spec(**QUICK))


async def install(story: Story) -> None:
    await story.until_phase(Phase.STABLE, 5)


async def promotion(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(1)
    await story.until_phase(Phase.STABLE, 10)


async def cautious_promotion(story: Story) -> None:
    """An adaptive ramp in a few moves, then a holdback."""
    await install(story)
    rollout = QUICK["rollout"] | {
        "ramp": {"adaptive": {"blastBudget": 1000, "maxWeight": 50}},
        "holdback": {"weight": 20, "for": "10s"},
    }
    story.world.user_applies(spec("better", **QUICK | {"rollout": rollout}))
    await story.run(1)
    await story.until_phase(Phase.STABLE, 10)


async def rollback(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("bad", **QUICK))
    await story.until_phase(Phase.ROLLED_BACK, 10)


async def crash_loop(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("crash", **QUICK))
    await story.until_phase(Phase.ROLLED_BACK, 10)


async def change_of_mind(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("bad", **QUICK))
    await story.run(0.5)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(1)
    await story.until_phase(Phase.STABLE, 10)


Tell = Callable[[Story], Awaitable[None]]
STORIES: tuple[Tell, ...] = (install, promotion, cautious_promotion, rollback, crash_loop, change_of_mind)


def outcome(story: Story) -> tuple[Phase | None, dict[str, int], dict[str, list[str]]]:
    """What must be the same in the end: phase, split, and exactly the wanted children."""
    kinds = (DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET, CONTROLLER_REVISION, HTTP_ROUTE)
    children = {str(kind): [obj["metadata"]["name"] for obj in story.world.cluster.all(kind)] for kind in kinds}
    return story.phase, story.world.weights(), children


async def rest(story: Story) -> None:
    """Give what was interrupted last the time to be finished."""
    await story.run(1)


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_crash_after_any_write_leads_to_same_end(tell: Tell) -> None:
    calm = Story(crash_at=None)
    prepare(calm)
    await tell(calm)
    writes = calm.writes
    assert writes > 0
    await rest(calm)
    for number in range(writes):
        story = Story(crash_at=number)
        prepare(story)
        await tell(story)
        await rest(story)
        assert story.crash_at is None, f"write {number} of {writes} was never made"
        assert outcome(story) == outcome(calm), f"crash after write {number}:\n" + "\n".join(story.transcript)


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_status_lost_in_any_phase_leads_to_same_end(tell: Tell) -> None:
    calm = Story()
    prepare(calm)
    await tell(calm)
    forgetful = Story(each_tick=lambda story: story.world.status_is_lost())
    prepare(forgetful)
    await tell(forgetful)
    assert outcome(forgetful) == outcome(calm)
