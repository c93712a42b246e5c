"""Children without their owner, as after a restore or a deletion: Serin adopts them and forgets nothing."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD,
    Kind,
)
from serin.errors import Forbidden
from serin.manifests.adoption import is_owned
from serin.manifests.evidence_map import name_of
from serin.manifests.owner import Owner
from serin.rollout.phases import Phase
from tests.stories.story import HELD, OURS, Story

CHILDREN = tuple(sorted(OURS, key=lambda kind: kind is not CONTROLLER_REVISION))
"""Records first, as a restore has them."""


async def on_trial(*, bad: bool = False) -> Story:
    """A canary with 25 %; a bad one is then rolled back."""
    story = Story()
    story.world.behaviours = {name: Behaviour(load_seconds=5, drain_seconds=5) for name in ("good", "next")}
    story.world.user_applies(spec(**HELD))
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("next", **HELD))
    await story.run(10, lambda s: s.world.status().get("weight") == "25%")
    if bad:
        story.world.behaviours["next"].error_rate = 0.9
        await story.until_phase(Phase.ROLLED_BACK)
    return story


def restore(story: Story, kinds: Collection[Kind] = CHILDREN, *, with_owners: bool = False) -> None:
    """Delete everything and create it again, as a backup has it: records first, no status, new uids."""
    cluster = story.world.cluster
    saved = [obj for kind in (*CHILDREN, LLMDEPLOYMENT) for obj in cluster.all(kind)]
    for kind in (*CHILDREN, LLMDEPLOYMENT, POD):
        for obj in cluster.all(kind):
            cluster.remove(kind, NAMESPACE, obj["metadata"]["name"])
    fields = {"name", "namespace", "labels", "annotations"} | ({"ownerReferences"} if with_owners else set())
    for obj in saved:
        if obj["kind"] in {kind.kind for kind in (*kinds, LLMDEPLOYMENT)}:
            obj.pop("status", None)
            cluster.put(
                obj | {"metadata": {k: v for k, v in obj["metadata"].items() if k in fields}}, manager="restore"
            )
    story._weights_before = {}
    story._most_ready = {}
    story.__dict__["_check"] = lambda: None  # it checks each tick, and pods take one to start


def unowned(story: Story) -> list[str]:
    owner = Owner(*KEY, story.uid)
    return [
        f"{obj['kind']} {obj['metadata']['name']}"
        for kind in CHILDREN
        for obj in story.world.cluster.all(kind)
        if not is_owned(obj, owner)
    ]


@pytest.mark.parametrize("with_owners", [False, True])
async def test_restored_canary_goes_on_and_everything_has_its_owner_again(with_owners: bool) -> None:  # noqa: FBT001
    story = await on_trial()
    stable, canary = story.world.status()["stable"]["revision"], story.canary
    restore(story, with_owners=with_owners)
    await story.run(1)
    assert unowned(story) == []
    assert story.world.status()["stable"]["revision"] == stable
    assert story.world.weights()[stable] >= 7_500
    await story.run(5, lambda s: s.world.status().get("weight") == "25%")
    assert story.canary == canary


@pytest.mark.parametrize("kinds", [CHILDREN, (CONTROLLER_REVISION,)], ids=["everything", "records"])
@pytest.mark.parametrize("with_owners", [False, True])
async def test_rejected_revision_is_not_installed_after_a_restore(
    kinds: Collection[Kind],
    with_owners: bool,  # noqa: FBT001
) -> None:
    story = await on_trial(bad=True)
    stable, rejected = story.world.status()["stable"]["revision"], story.world.status()["rejected"]
    restore(story, kinds, with_owners=with_owners)
    await story.run(3)
    assert story.phase is Phase.ROLLED_BACK
    assert story.world.weights() == {stable: 10_000}
    assert story.world.status()["rejected"] == rejected
    assert unowned(story) == []


async def test_records_are_adopted_first_and_conditionally() -> None:
    story = await on_trial()
    restore(story)
    count = len(story.world.cluster.writes)
    await story.reconciler().reconcile(KEY)
    adopted = [call for call in story.world.cluster.writes[count:] if call.verb == "adopt"]
    kinds = [call.kind for call in adopted]
    assert kinds[:2] == [CONTROLLER_REVISION, CONTROLLER_REVISION]
    assert kinds[-1] == HTTP_ROUTE
    assert all({"uid", "resourceVersion"} <= (call.body or {})["metadata"].keys() for call in adopted)
    assert [call.verb for call in story.world.cluster.writes[count:]][: len(adopted)] == ["adopt"] * len(adopted)


async def test_ended_trial_and_handled_rejection_can_be_cleared_after_a_restore() -> None:
    """The tool that restored them manages the annotations, so server-side apply alone would not remove them."""
    story = await on_trial(bad=True)
    restore(story)
    await story.run(1)
    story.world.behaviours["next"].error_rate = 0.01
    story.ever_failed = set()
    story.world.user_commands(f"retry@{story.world.status()['rejected']['revision']}#1")
    await story.run(5, lambda s: s.world.status().get("weight") == "25%")


@pytest.mark.parametrize("kind", CHILDREN, ids=str)
async def test_refused_adoption_stops_neither_stable_nor_rollback(kind: Kind) -> None:
    story = await on_trial()
    stable, canary = story.world.status()["stable"]["revision"], story.canary
    cluster = story.world.cluster
    for obj in [obj for kind in CHILDREN for obj in cluster.all(kind)]:
        cluster.put(obj | {"metadata": obj["metadata"] | {"ownerReferences": []}}, manager="somebody")

    def refuse(call: Call) -> None:
        if call.verb == "adopt" and call.kind is kind:
            raise Forbidden("No.")

    cluster.before = refuse
    story.__dict__["_check"] = lambda: None  # it checks the owners
    story.world.user_commands(f"abort@{canary}#1")
    await story.run(1)
    assert story.world.weights().get(canary, 0) == 0
    assert (story.phase, story.conditions["Stalled"]) == (Phase.BLOCKED, ("True", "ChildRefused"))
    assert story.world.status()["stable"]["revision"] == stable
    cluster.before = None
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert unowned(story) == []


async def test_nothing_is_installed_while_records_have_another_owner() -> None:
    story = await on_trial(bad=True)
    restore(story, (CONTROLLER_REVISION,))
    for obj in story.world.cluster.all(CONTROLLER_REVISION):
        other = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "other", "uid": "x", "controller": True}
        story.world.cluster.put(obj | {"metadata": obj["metadata"] | {"ownerReferences": [other]}})
    await story.run(1)
    assert (story.phase, story.conditions["Stalled"]) == (Phase.BLOCKED, ("True", "ChildRefused"))
    assert "is owned by StatefulSet other; remove its ownerReferences" in story.world.status()["message"]
    assert story.world.cluster.all(DEPLOYMENT) == []
    for obj in story.world.cluster.all(CONTROLLER_REVISION):  # what the message says
        story.world.cluster.put(obj | {"metadata": obj["metadata"] | {"ownerReferences": []}})
    await story.until_phase(Phase.ROLLED_BACK, 3)


@pytest.mark.parametrize("left", [(CONFIG_MAP,), CHILDREN], ids=["evidence", "everything"])
async def test_recreated_llmdeployment_is_not_held_up_by_what_is_left(left: Collection[Kind]) -> None:
    """The garbage collector may need a while for what the deleted object owned."""
    story = await on_trial()
    restore(story, left, with_owners=True)
    wanted = {Phase.INSTALLING} if left == (CONFIG_MAP,) else {Phase.PREPARING, Phase.RAMPING}
    await story.run(0.2, lambda s: s.phase in wanted)
    story.world.cluster.collect_garbage()
    assert unowned(story) == []
    await story.run(1, lambda s: sum(s.world.weights().values()) == 10_000)


async def test_configmap_of_others_blocks_a_canary_and_not_the_install() -> None:
    story = Story()
    meta = {"namespace": NAMESPACE, "name": name_of(NAME)}
    story.world.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}})
    story.world.user_applies(spec(**HELD))
    await story.run(5, lambda s: sum(s.world.weights().values()) == 10_000)
    await story.until_phase(Phase.BLOCKED, 1)
    assert "ConfigMap triage-serin-evidence exists" in story.world.status()["message"]
    story.world.cluster.remove(CONFIG_MAP, NAMESPACE, name_of(NAME))
    await story.until_phase(Phase.STABLE, 2)


async def test_unlabelled_route_of_others_is_not_adopted() -> None:
    story = Story()
    meta = {"namespace": NAMESPACE, "name": NAME}
    rules = [{"backendRefs": [{"name": "mine", "port": 80}]}]
    route = {"apiVersion": HTTP_ROUTE.api_version, "kind": "HTTPRoute", "metadata": meta}
    story.world.cluster.put(route | {"spec": {"parentRefs": [{"name": "llm"}], "rules": rules}})
    story.world.user_applies(spec(**HELD))
    await story.reconciler().reconcile(KEY)
    found = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert found
    assert "ownerReferences" not in found["metadata"]
    assert found["spec"]["rules"] == rules
