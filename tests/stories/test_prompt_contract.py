"""Pods that were made before prompts were applied: an upgrade moves nothing, and the first prompt makes new pods."""

from __future__ import annotations

from typing import Any

import pytest

import serin.resolve
from fakes.operator_in_memory import spec
from serin.cluster.port import DEPLOYMENT
from serin.rollout.phases import Phase
from tests.stories.story import Story
from tests.stories.test_split import QUICK, no_request_is_lost, quick


def renders_no_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates of a version whose middleware did not apply prompts."""
    render = serin.resolve.render_pod_template

    def render_as_before(*arguments: Any) -> dict[str, Any]:
        template: dict[str, Any] = render(*arguments)
        engine = template["spec"]["containers"][0]
        engine["env"] = [entry for entry in engine["env"] if entry["name"] != "SERIN_PROMPTS"]
        return template

    monkeypatch.setattr(serin.resolve, "render_pod_template", render_as_before)


async def upgraded(monkeypatch: pytest.MonkeyPatch, **written: Any) -> Story:
    """A stable of older pods with this spec, under the new operator."""
    story = quick()
    story.each_tick = no_request_is_lost
    story.world.user_writes_prompt("triage-1", "Triage the ticket.")
    story.world.user_writes_prompt("triage-2", "Triage the ticket. Answer in JSON.")
    with monkeypatch.context() as before:
        renders_no_prompts(before)
        before.setattr("serin.manifests.engine_defaults.EngineDefaults.serve_prompts", False)
        story.world.user_applies(spec(**QUICK))
        await story.until_phase(Phase.STABLE, 5)
        story.world.user_applies(spec(**QUICK, **written))
        await story.run(0.5)
    return story


def deployments(story: Story) -> dict[str, int]:
    return {d["metadata"]["name"]: d["metadata"]["generation"] for d in story.world.cluster.all(DEPLOYMENT)}


def prompts(story: Story) -> list[str]:
    """The first message of the prompt of each revision that a pod serves."""
    served = [prompt for document in story.world.documents().values() for prompt in document.prompts.values()]
    return [prompt["triage"]["messages"][0]["content"] for prompt in served]


async def test_first_prompt_on_older_pods_is_an_engine_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await upgraded(monkeypatch)
    older = deployments(story)
    story.world.user_applies(spec(prompt={"name": "triage-1"}, **QUICK))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    assert story.conditions["Accepted"] == ("True", "Accepted")
    assert deployments(story).items() > older.items(), "the stable's pods stay, the canary has its own"
    assert prompts(story) == ["Triage the ticket."]
    await story.until_phase(Phase.STABLE, 10)
    await story.run(1)
    (newer,) = deployments(story)
    assert newer not in older
    # From now on prompts are tried in these pods.
    story.world.user_applies(spec(prompt={"name": "triage-2"}, **QUICK))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    assert list(deployments(story)) == [newer]
    assert prompts(story) == ["Triage the ticket.", "Triage the ticket. Answer in JSON."]
    # And no prompt is tried in them, too.
    story.world.user_applies(spec(**QUICK))
    await story.run(10, lambda s: not prompts(s))
    assert list(deployments(story)) == [newer]


async def test_upgrade_starts_no_canary_for_a_prompt_that_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await upgraded(monkeypatch, prompt={"name": "triage-1"})
    older, weights = deployments(story), story.world.weights()
    await story.run(1)
    assert (deployments(story), story.world.weights(), prompts(story)) == (older, weights, [])
    assert story.conditions["Accepted"] == ("True", "PromptNotServed")
    story.world.user_deletes_prompt("triage-1")
    await story.run(0.5)
    assert (deployments(story), story.world.weights()) == (older, weights)
    assert story.conditions["Accepted"] == ("True", "PromptSourceMissing")
    story.world.user_applies(spec(prompt={"name": "triage-2"}, **QUICK))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    assert len(deployments(story)) == 2
    assert prompts(story) == ["Triage the ticket. Answer in JSON."]
    await story.until_phase(Phase.STABLE, 10)
    # Also the prompt of before gets pods that apply it, now that there are some.
    story.world.user_writes_prompt("triage-1", "Triage the ticket.")
    story.world.user_applies(spec(prompt={"name": "triage-1"}, **QUICK))
    await story.run(10, lambda s: prompts(s) == ["Triage the ticket."])
    assert len(deployments(story)) == 1
