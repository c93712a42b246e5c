"""ControllerRevisions, or what they remember, are lost: the stable stays the stable, and a canary stays on trial."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE
from serin.kube_types import Object
from serin.manifests.engine_defaults import EngineDefaults
from serin.reconciler import Reconciler
from serin.rollout.phases import Phase
from tests.stories.story import Story

QUICK: dict[str, Any] = {
    "replicas": 1,
    "rollout": {"ramp": {"steps": [{"weight": 60, "hold": "5h"}]}, "drainTimeout": "10s", "minimumBake": "0s"},
    "analysis": {"metrics": [{"name": "errors", "preset": "ErrorRate"}]},
}
PROMPT = "triage-1"


@pytest.fixture(scope="module")
def worlds() -> dict[str, Story]:
    return {}


@pytest.fixture
async def story(worlds: dict[str, Story]) -> Story:
    """A canary with 60 %; the stable is the second revision, the record of the first is there without pods."""
    if not worlds:
        made = Story()
        made.world.behaviours = {
            name: Behaviour(load_seconds=5, drain_seconds=5) for name in ("first", "second", "third")
        }
        made.world.traffic.rps = 1_000
        made.world.user_applies(spec("first", **QUICK))
        await made.until_phase(Phase.STABLE)
        made.world.user_writes_prompt(PROMPT, "Be brief.")
        made.world.user_applies(spec("second", **QUICK, prompt={"name": PROMPT}))
        await made.until_phase(Phase.RAMPING, 5)
        made.world.user_commands(f"promote@{made.canary}#1")
        await made.run(2, lambda s: s.phase is Phase.STABLE and len(s.world.cluster.all(DEPLOYMENT)) == 1)
        made.world.user_applies(spec("third", **QUICK))
        await made.run(10, lambda s: s.world.status().get("weight") == "60%")
        worlds["on trial"] = made
    story = copy.deepcopy(worlds["on trial"])
    story.world.cluster.clock = lambda: story.world.now
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None
    return story


def sides(story: Story) -> tuple[str, str]:
    return story.world.status()["stable"]["revision"], story.canary


def pods_of_stable(story: Story) -> tuple[str, int]:
    found = story.world.cluster.find(
        DEPLOYMENT, NAMESPACE, f"{NAME}-{story.world.status()['stable']['engineRevision']}"
    )
    assert found
    return found["metadata"]["uid"], found["metadata"]["generation"]


def remove_record(story: Story, revision: str) -> Object:
    found = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{revision}")
    assert found
    story.world.cluster.remove(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{revision}")
    return found


async def test_lost_record_of_the_stable_is_rebuilt_and_the_trial_goes_on(story: Story) -> None:
    (stable, canary), before = sides(story), pods_of_stable(story)
    lost = remove_record(story, stable)
    await story.run(0.1)
    found = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{stable}")
    assert found
    assert found["data"]["prompt"] == lost["data"]["prompt"]
    assert (sides(story), pods_of_stable(story)) == ((stable, canary), before)
    assert story.world.weights() == {stable: 4_000, canary: 6_000}
    story.world.behaviours["third"].error_rate = 0.5
    await story.until_phase(Phase.ROLLED_BACK, 3)
    assert story.world.weights() == {stable: 10_000}


async def test_lost_record_of_the_stable_is_rebuilt_without_its_route(story: Story) -> None:
    """Deleting the route was once the advice; the canary must not take over, nor the first revision."""
    (stable, canary), before = sides(story), pods_of_stable(story)
    remove_record(story, stable)
    story.world.cluster.remove(HTTP_ROUTE, *KEY)
    await story.run(0.1)
    assert (sides(story), pods_of_stable(story)) == ((stable, canary), before)
    assert story.world.weights()[stable] >= 4_000


async def test_lost_record_of_the_canary_starts_its_trial_again(story: Story) -> None:
    stable, canary = sides(story)
    remove_record(story, canary)
    await story.run(0.1)
    assert story.world.weights()[canary] == 0
    story.world.behaviours["third"].error_rate = 0.5
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert story.world.weights() == {stable: 10_000}


async def test_lost_annotations_of_all_records_promote_no_canary(story: Story) -> None:
    (stable, canary), before = sides(story), pods_of_stable(story)
    for obj in story.world.cluster.all(CONTROLLER_REVISION):
        story.world.cluster.put(obj | {"metadata": obj["metadata"] | {"annotations": {}}}, manager="somebody")
    await story.run(0.1)
    assert (sides(story), pods_of_stable(story)) == ((stable, canary), before)
    assert story.world.weights()[stable] >= 4_000


async def test_rebuilt_record_has_the_template_that_runs(story: Story) -> None:
    """The operator was upgraded meanwhile: rendering the spec again would restart the pods of the stable."""
    (stable, _), before = sides(story), pods_of_stable(story)
    story.world.user_applies(spec("second", **QUICK, prompt={"name": PROMPT}))
    await story.run(1, lambda s: s.world.weights() == {stable: 10_000})
    newer = EngineDefaults(image="vllm:newer", model_server_image="serin:newer")
    upgraded = Reconciler(**vars(story.reconciler()) | {"defaults": newer})
    remove_record(story, stable)
    await upgraded.reconcile(KEY)
    assert pods_of_stable(story)[0] == before[0]
    (serving,) = [d for d in story.world.cluster.all(DEPLOYMENT) if d["metadata"]["uid"] == before[0]]
    assert serving["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm:test"


async def without_prompt(story: Story) -> Object:
    """The stable's record and its PromptVersion are deleted."""
    stable, canary = sides(story)
    lost = remove_record(story, stable)
    story.world.user_deletes_prompt(PROMPT)
    await story.run(0.5)
    assert (story.phase, story.conditions["Stalled"]) == (Phase.BLOCKED, ("True", "StableRecordMissing"))
    assert "without its ownerReferences, or create the PromptVersion again" in story.world.status()["message"]
    assert story.world.weights() == {stable: 4_000, canary: 6_000}
    assert len(story.world.cluster.all(DEPLOYMENT)) == 2
    return lost


async def test_advice_to_restore_the_record_works(story: Story) -> None:
    stable, canary = sides(story)
    lost = await without_prompt(story)
    fields = ("name", "namespace", "labels", "annotations")
    story.world.cluster.put(lost | {"metadata": {name: lost["metadata"][name] for name in fields}}, manager="restore")
    await story.until_phase(Phase.RAMPING, 1)
    assert sides(story) == (stable, canary)


async def test_advice_to_create_the_promptversion_again_works(story: Story) -> None:
    stable, canary = sides(story)
    await without_prompt(story)
    story.world.user_writes_prompt(PROMPT, "Be brief.")
    await story.until_phase(Phase.RAMPING, 1)
    assert sides(story) == (stable, canary)


async def test_unknown_stable_without_route_is_neither_replaced_nor_deleted(story: Story) -> None:
    await without_prompt(story)
    story.world.cluster.remove(HTTP_ROUTE, *KEY)
    before = {d["metadata"]["uid"] for d in story.world.cluster.all(DEPLOYMENT)}
    await story.run(2)
    assert {d["metadata"]["uid"] for d in story.world.cluster.all(DEPLOYMENT)} == before
    assert story.phase is Phase.BLOCKED
