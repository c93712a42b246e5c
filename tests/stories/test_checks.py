"""A canary whose answers all have status 200 is judged by a check of its answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.traffic import Load
from serin.analysis.measurement import How
from serin.rollout.phases import Phase
from tests.stories.story import QUICK, Story
from tests.stories.test_split import quick
from tests.stories.trials import play

FORMAT: dict[str, Any] = {"name": "format", "check": {"kind": "Regex", "pattern": "^{"}}
STEPS: dict[str, Any] = {"ramp": {"steps": [{"weight": weight, "hold": "10m"} for weight in (5, 25, 50)]}}
ADAPTIVE: dict[str, Any] = {"ramp": {"adaptive": {}}}
TRAFFIC = Load(60, bad_rate=lambda _seconds: 0.0)
ENTRY = {"name": "format", "kind": "Regex", "pattern": "^{"}


@pytest.mark.parametrize("rollout", [STEPS, ADAPTIVE], ids=["steps", "adaptive"])
async def test_canary_whose_answers_fail_a_check_is_rolled_back(rollout: dict[str, Any]) -> None:
    load = replace(TRAFFIC, failing=(0.01, 0.5))
    trial = await play(load, 1, minutes=15, rollout=rollout, analysis={"metrics": [FORMAT]})
    assert trial.outcome is Phase.ROLLED_BACK
    assert "failed the check" in trial.world.status()["rejected"]["message"]
    assert trial.state.metrics[0].measurement.how is How.CHECK


async def test_canary_whose_answers_are_as_good_is_promoted() -> None:
    load = replace(TRAFFIC, failing=(0.02, 0.02))
    trial = await play(load, 1, minutes=60, rollout=ADAPTIVE, analysis={"metrics": [FORMAT]})
    assert trial.outcome is Phase.STABLE


@pytest.mark.parametrize("rollout", [STEPS, ADAPTIVE], ids=["steps", "adaptive"])
async def test_canary_whose_answers_cannot_be_judged_is_held(rollout: dict[str, Any]) -> None:
    """The few that can be judged are good."""
    load = replace(TRAFFIC, failing=(0.01, 0.01), skipped=(0.01, 0.9))
    trial = await play(load, 1, minutes=60, rollout=rollout, analysis={"metrics": [FORMAT]})
    assert trial.outcome is None
    status = trial.world.status()
    assert "format-skipped: more of the canary's answers than of the stable's could not be judged" in json.dumps(status)


async def test_pods_are_asked_what_the_trial_began_with_until_it_ends() -> None:
    metrics = [{"name": "errors", "preset": "ErrorRate"}, FORMAT | {"mode": "Advisory"}]
    before, after = ({**QUICK, "analysis": {"metrics": each}} for each in (metrics, metrics[:1]))
    story = quick()
    story.world.user_applies(spec(**before))
    await story.until_phase(Phase.STABLE, 5)
    assert asked(story) == [(ENTRY,)]

    story.world.user_applies(spec("better", **before))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    story.world.user_applies(spec("better", **after))
    await story.run(0.5)
    assert asked(story) == [(ENTRY,), (ENTRY,)]

    await story.until_phase(Phase.STABLE, 10)
    await story.run(1)
    assert asked(story) == [()]


def asked(story: Story) -> list[tuple[Any, ...]]:
    """What the pods are asked, for each document."""
    return [document.checks for document in story.world.documents().values()]
