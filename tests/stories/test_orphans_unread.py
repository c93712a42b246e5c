"""Reads or adoptions fail while children have lost their owner: nothing is lost, and a bad canary has no weight."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, LLMDEPLOYMENT, POD, Kind
from serin.errors import ClusterError, Forbidden
from serin.rollout.phases import Phase
from serin.rollout.snapshot import Fact
from tests.stories.prompts import serves_prompts
from tests.stories.story import HELD, Story
from tests.stories.test_minimal_path import WITHIN, prompt_canary, turns_bad, weight_taken
from tests.stories.test_orphans import CHILDREN, restore, unowned

BLIND = HELD | {"analysis": HELD["analysis"] | {"blindTimeout": "60s"}}
GONE = {"apiVersion": "serin.dev/v1alpha1", "kind": "LLMDeployment", "name": NAME, "uid": "gone", "controller": True}


@pytest.fixture(scope="module")
def prepared() -> dict[str, Story]:
    return {}


@pytest.fixture
async def story(prepared: dict[str, Story]) -> Story:
    """A canary with 25 %; it turns bad when a test begins."""
    if not prepared:
        made = Story()
        made.world.behaviours = {name: Behaviour(load_seconds=5, drain_seconds=5) for name in ("good", "next")}
        made.world.user_applies(spec(**BLIND))
        await made.until_phase(Phase.STABLE)
        made.world.user_applies(spec("next", **BLIND))
        await made.run(10, lambda s: s.world.status().get("weight") == "25%")
        prepared["on trial"] = made
    story = copy.deepcopy(prepared["on trial"])
    story.world.cluster.clock = lambda: story.world.now
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None  # they check owners, and each tick
    story.world.behaviours["next"].error_rate = 0.9
    return story


def lose_owners(story: Story) -> None:
    """The LLMDeployment was deleted and created again: all children name a controller that is gone."""
    cluster = story.world.cluster
    for obj in [obj for kind in CHILDREN for obj in cluster.all(kind)]:
        cluster.put(obj | {"metadata": obj["metadata"] | {"ownerReferences": [GONE]}}, manager="somebody")


def fail_reads(story: Story, kind: Kind) -> None:
    def before(call: Call) -> None:
        if call.kind == kind and not call.writes:
            raise ClusterError("The API server is away.")

    story.world.cluster.before = before


def verbs(story: Story, since: int) -> set[str]:
    return {call.verb for call in story.world.cluster.writes[since:]}


@pytest.mark.parametrize("kind", [*CHILDREN, POD], ids=str)
async def test_canary_of_orphans_loses_its_weight_while_a_read_fails(story: Story, kind: Kind) -> None:
    stable = story.world.status()["stable"]["revision"]
    lose_owners(story)
    fail_reads(story, kind)
    since = len(story.world.cluster.writes)
    await story.run(WITHIN, weight_taken)
    assert story.world.weights()[stable] == 10_000
    assert verbs(story, since).isdisjoint({"adopt", "delete"})
    story.world.cluster.before = None
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert unowned(story) == []


@pytest.mark.parametrize("kind", [CONFIG_MAP, HTTP_ROUTE, POD], ids=str)
async def test_prompt_canary_of_orphans_loses_its_weight_while_a_read_fails(
    monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    serves_prompts(monkeypatch)
    story = await prompt_canary()
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None
    turns_bad(story)
    lose_owners(story)
    fail_reads(story, kind)
    await story.run(WITHIN, weight_taken)
    story.world.cluster.before = None
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert unowned(story) == []


@pytest.mark.parametrize("kind", [*CHILDREN, POD], ids=str)
@pytest.mark.parametrize("with_owners", [False, True])
async def test_read_that_fails_after_a_restore_loses_nothing(
    story: Story,
    kind: Kind,
    with_owners: bool,  # noqa: FBT001 - a column of the table
) -> None:
    await story.until_phase(Phase.ROLLED_BACK)
    stable, rejected = story.world.status()["stable"]["revision"], story.world.status()["rejected"]
    restore(story, with_owners=with_owners)
    fail_reads(story, kind)
    since = len(story.world.cluster.writes)
    await story.run(2)
    assert story.phase is Phase.BLOCKED
    assert verbs(story, since).isdisjoint({"adopt", "delete"})
    assert story.world.weights() == {stable: 10_000}
    story.world.cluster.before = None
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert (story.world.weights(), story.world.status()["rejected"]) == ({stable: 10_000}, rejected)
    assert unowned(story) == []


@pytest.mark.parametrize("done", [1, 2, 5])
@pytest.mark.parametrize("kind", [CONTROLLER_REVISION, DEPLOYMENT], ids=str)
async def test_adoption_that_breaks_off_is_completed_later(story: Story, kind: Kind, done: int) -> None:
    """After some adoptions the API server goes away; when it is back, one kind cannot be read at first."""
    stable = story.world.status()["stable"]["revision"]
    lose_owners(story)
    adopted: list[str] = []

    def before(call: Call) -> None:
        if call.verb == "adopt":
            if len(adopted) == done:
                raise ClusterError("The API server is away.")
            adopted.append(call.name)

    story.world.cluster.before = before
    with pytest.raises(ClusterError):
        await story.reconciler().reconcile(KEY)
    assert len(adopted) == done
    fail_reads(story, kind)
    await story.run(WITHIN, weight_taken)
    assert story.world.weights()[stable] == 10_000
    story.world.cluster.before = None
    await story.until_phase(Phase.ROLLED_BACK, 5)
    assert unowned(story) == []
    assert story.world.status()["stable"]["revision"] == stable


@pytest.mark.parametrize("kind", CHILDREN, ids=str)
async def test_rejected_canary_loses_its_weight_if_adoption_is_refused(story: Story, kind: Kind) -> None:
    stable = story.world.status()["stable"]["revision"]
    lose_owners(story)

    def refuse(call: Call) -> None:
        if call.verb == "adopt" and call.kind == kind:
            raise Forbidden("No.")

    story.world.cluster.before = refuse
    since = len(story.world.cluster.writes)
    await story.run(WITHIN, weight_taken)
    assert story.world.weights()[stable] == 10_000
    assert "delete" not in verbs(story, since)
    assert story.conditions["Stalled"] == ("True", "ChildRefused")


async def test_route_with_an_old_owner_is_reweighted_if_the_new_one_is_refused(story: Story) -> None:
    """Neither adoption nor new routing is accepted; the weights alone are written, under the old owner."""
    lose_owners(story)

    def refuse(call: Call) -> None:
        if call.verb == "adopt" or "bad.example.com" in str(call.body):
            raise Forbidden("No.")

    story.world.cluster.before = refuse
    routing: dict[str, Any] = {"gateway": {"parentRefs": [{"name": "llm"}], "hostnames": ["bad.example.com"]}}
    story.world.user_applies(spec("next", **BLIND, routing=routing))
    await story.run(WITHIN, weight_taken)
    assert weight_taken(story)


async def test_record_that_is_not_read_is_not_rebuilt(story: Story) -> None:
    """The canary's record is not found at first, and then its request fails: it may exist."""
    name = f"{NAME}-{story.canary}"
    lost = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, name)
    assert lost
    story.world.cluster.remove(CONTROLLER_REVISION, NAMESPACE, name)
    asked: list[str] = []

    def before(call: Call) -> None:
        if call.verb == "get" and call.name == name:
            asked.append(name)
            if len(asked) > 1:
                raise ClusterError("The API server is away.")

    story.world.cluster.before = before
    obj = story.world.cluster.find(LLMDEPLOYMENT, *KEY)
    assert obj
    seen = (await story.reconciler()._observe(obj)).snapshot
    assert len(asked) > 1
    assert Fact.RECORDS in seen.unread
    assert name not in {f"{NAME}-{record.revision}" for record in seen.records}
