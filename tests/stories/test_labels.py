"""Somebody takes a label off a child, or changes it: nothing that is in use is deleted, and the label comes back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
)
from serin.rollout.phases import Phase
from tests.stories.story import HELD, OURS, Story


@pytest.fixture(scope="module")
def worlds() -> dict[str, Story]:
    return {}


@pytest.fixture(params=["settled", "rolled back", "on trial"])
async def prepared(worlds: dict[str, Story], request: pytest.FixtureRequest) -> Story:
    """A world at rest, made once: tests take copies."""
    if request.param not in worlds:
        story = Story()
        quick: dict[str, Any] = {"load_seconds": 5, "drain_seconds": 5}
        story.world.behaviours = {"good": Behaviour(**quick), "turning": Behaviour(**quick)}
        story.world.user_applies(spec(**HELD))
        await story.until_phase(Phase.STABLE)
        await story.run(0.5)
        if request.param != "settled":
            story.world.user_applies(spec("turning", **HELD))
            await story.run(10, lambda s: s.world.status().get("weight") == "25%")
        if request.param == "rolled back":
            story.world.behaviours["turning"].error_rate = 0.9
            await story.until_phase(Phase.ROLLED_BACK)
        worlds[request.param] = story
    return worlds[request.param]


def copy_of(prepared: Story) -> Story:
    story = copy.deepcopy(prepared)
    story.world.cluster.clock = lambda: story.world.now
    return story


def marks(story: Story) -> Iterator[tuple[Kind, str, str]]:
    """Every label of every child that Serin writes."""
    for kind in OURS:
        for obj in story.world.cluster.all(kind):
            for label in obj["metadata"]["labels"]:
                yield kind, obj["metadata"]["name"], label


def edit(story: Story, kind: Kind, name: str, label: str, value: str | None) -> None:
    obj = story.world.cluster.find(kind, NAMESPACE, name)
    assert obj
    if value is None:
        del obj["metadata"]["labels"][label]
    else:
        obj["metadata"]["labels"][label] = value
    story.world.cluster.put(obj, manager="kubectl-label")


def children(story: Story) -> dict[tuple[Kind, str], tuple[str, Any]]:
    """Identity and labels of whatever Serin writes."""
    return {
        (kind, obj["metadata"]["name"]): (obj["metadata"]["uid"], obj["metadata"]["labels"])
        for kind in OURS
        for obj in story.world.cluster.all(kind)
    }


@pytest.mark.parametrize("value", [None, "something"], ids=["removed", "changed"])
async def test_removed_label_of_any_child_is_restored(prepared: Story, value: str | None) -> None:
    before, weights = children(prepared), prepared.world.weights()
    found = set(marks(prepared))
    assert {kind for kind, _, _ in found} >= {*OURS} - {CONFIG_MAP}
    for kind, name, label in sorted(found, key=str):
        story, what = copy_of(prepared), f"{label} of {kind} {name}"
        count = len(story.world.cluster.writes)
        edit(story, kind, name, label, value)
        await story.run(0.25)
        assert [str(c) for c in story.world.cluster.writes[count:] if c.verb == "delete"] == [], what
        assert children(story) == before, what
        assert story.world.weights() == weights, what
        assert story.world.status().get("rejected") == prepared.world.status().get("rejected"), what
        assert story.phase is prepared.phase, what


@pytest.mark.parametrize("prepared", ["on trial"], indirect=True)
@pytest.mark.parametrize("value", [None, "something"], ids=["removed", "changed"])
async def test_pod_without_its_label_is_replaced_and_its_deployment_stays(prepared: Story, value: str | None) -> None:
    """Its controller lets go of it; Serin deletes neither the pod nor what made it."""
    for pod in prepared.world.cluster.all(POD):
        for label in pod["metadata"]["labels"]:
            story, before = copy_of(prepared), children(prepared)
            count = len(story.world.cluster.writes)
            edit(story, POD, pod["metadata"]["name"], label, value)
            for _ in range(4):
                await story.reconciler().reconcile(KEY)
                story.world.pass_time(5)
            deleted = [str(c) for c in story.world.cluster.writes[count:] if c.verb == "delete"]
            assert deleted == [], f"{label} of {pod['metadata']['name']}"
            assert children(story) == before
            await story.run(0.5, lambda s: s.world.ready_pods(stable_name(s).removeprefix(f"{NAME}-")) >= 1)


@pytest.mark.parametrize("kind", [DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, CONTROLLER_REVISION], ids=str)
@pytest.mark.parametrize("value", [None, "something"], ids=["removed", "changed"])
async def test_canary_without_label_is_removed_completely(kind: Kind, value: str | None) -> None:
    calm = Story()
    calm.world.behaviours = {"turning": Behaviour(error_rate=0.9)}
    calm.world.user_applies(spec(**HELD))
    await calm.until_phase(Phase.STABLE)
    stable = children(calm)
    calm.world.user_applies(spec("turning", **HELD))
    await calm.run(10, lambda s: 0 in s.world.weights().values() and s.phase is Phase.ROLLING_BACK)
    for _, name, label in [m for m in marks(calm) if m[0] is kind and (m[0], m[1]) not in stable]:
        story = copy_of(calm)
        edit(story, kind, name, label, value)
        await story.until_phase(Phase.ROLLED_BACK, 3)
        await story.run(1)
        left = [str(k) for k, n in children(story) if (k, n) not in stable]
        expected = {str(CONTROLLER_REVISION), str(CONFIG_MAP), str(HTTP_ROUTE)}
        assert set(left) <= expected, f"{label} of {kind} {name}"


async def test_deployment_that_serin_did_not_make_is_neither_scaled_nor_deleted() -> None:
    story = Story()
    story.world.user_applies(spec(**HELD))
    await story.until_phase(Phase.STABLE)
    (made,) = story.world.cluster.all(DEPLOYMENT)
    other = copy.deepcopy(made)
    other["metadata"]["name"] = f"{NAME}-by-hand"
    story.world.cluster.put(other)
    count = len(story.world.cluster.writes)
    await story.reconciler().reconcile(KEY)
    assert [str(c) for c in story.world.cluster.writes[count:]] == []


@pytest.mark.parametrize("prepared", ["on trial"], indirect=True)
async def test_budget_of_deployment_deleted_by_hand_is_deleted(prepared: Story) -> None:
    story = copy_of(prepared)
    story.world.behaviours["turning"].error_rate = 0.9
    await story.run(2, lambda s: len(s.world.weights()) == 1)
    (leaving,) = [d for d in story.world.cluster.all(DEPLOYMENT) if d["metadata"]["name"] not in stable_name(story)]
    story.world.cluster.remove(DEPLOYMENT, NAMESPACE, leaving["metadata"]["name"])
    await story.until_phase(Phase.ROLLED_BACK, 2)
    assert [b["metadata"]["name"] for b in story.world.cluster.all(POD_DISRUPTION_BUDGET)] == [stable_name(story)]


def stable_name(story: Story) -> str:
    return f"{NAME}-{story.world.status()['stable']['engineRevision']}"
