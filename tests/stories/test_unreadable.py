"""A spec or a record that cannot be read stops no rollback, and the stable is scaled and repaired meanwhile."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from fakes.fake_cluster import Call
from fakes.nested import nested
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.api_server import cluster_error
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, LLMDEPLOYMENT
from serin.recursion import allow_deep_json
from serin.rollout.phases import Phase
from serin.rollout.revision import HASH_SCHEMA
from tests.stories.story import Story
from tests.stories.test_guarantees import on_trial

SLICE_MINUTES = 0.5
PROMOTION = "serin.dev/promotion"


@pytest.fixture
async def story() -> Story:
    """A canary at 25 % that turns bad now."""
    story = Story()
    await on_trial(story)
    story.world.behaviours["turning"] = Behaviour(error_rate=0.9)
    return story


def users_spec(story: Story) -> dict[str, Any]:
    obj = story.world.cluster.find(LLMDEPLOYMENT, *KEY)
    assert obj
    return dict(obj["spec"])


def weight_taken(story: Story) -> bool:
    return [w for w in story.world.weights().values() if w] == [10_000]


def newer_record(story: Story, revision: str, **changes: Any) -> None:
    """Store the record of this revision, or one that nothing else names, as a newer Serin writes it."""
    (first, *_) = story.world.cluster.all(CONTROLLER_REVISION)
    found = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{revision}")
    record = copy.deepcopy(found or first)
    record["metadata"]["name"] = f"{NAME}-{revision}"
    if found is None:
        record["metadata"]["annotations"] = {}
        record["data"] |= {"revision": revision, "engineRevision": "9876543210"}
    record["data"] |= {"hashSchema": HASH_SCHEMA + 1} | changes
    story.world.cluster.put(record)


INVALID: dict[str, dict[str, Any]] = {
    "engine": {"engine": {"resources": {"limits": {"example.com/thing": "1e100"}}}},
    "routing": {"routing": {"gateway": {"parentRefs": [{"name": "No Gateway"}]}}},
    "replicas": {"replicas": -3},
    "rollout": {"rollout": {"deadline": "soon"}},
    "unknown": {"fieldOfTomorrow": True},
    "depth": {"podTemplate": {"spec": {"affinity": nested(1_500)}}},
    "shape of podTemplate": {"podTemplate": {"spec": {"volumes": True}}},
    "shape of a filter": {
        "routing": {
            "gateway": {
                "parentRefs": [{"name": "llm"}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": 5}],
            }
        }
    },
    "rule": {"prompt": {"name": "any"}, "engine": {"args": {"reasoning-parser": "x", "middleware": "y"}}},
}


@pytest.mark.parametrize("broken", INVALID)
async def test_invalid_spec_withdraws_canary_and_keeps_stable(story: Story, broken: str) -> None:
    allow_deep_json()
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    parents = route["spec"]["parentRefs"]
    story._check = lambda: None  # type: ignore[method-assign]
    story.world.user_applies(users_spec(story) | INVALID[broken])
    await story.run(SLICE_MINUTES, weight_taken)
    assert story.phase in {Phase.BLOCKED, Phase.ROLLING_BACK}
    await story.run(8)
    assert story.conditions["Accepted"] == ("False", "InvalidSpec")
    assert story.conditions["Stalled"] == ("True", "InvalidSpec")
    assert story.conditions["Available"][0] == "True"
    (deployment,) = story.world.cluster.all(DEPLOYMENT)
    assert deployment["spec"]["replicas"] == 3
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    assert route["spec"]["parentRefs"] == parents


async def test_stable_is_scaled_and_repaired_under_invalid_spec(story: Story) -> None:
    story._check = lambda: None  # type: ignore[method-assign]
    story.world.user_applies(users_spec(story) | INVALID["engine"] | {"replicas": 5})
    await story.run(10)
    (deployment,) = story.world.cluster.all(DEPLOYMENT)
    assert deployment["spec"]["replicas"] == 5
    story.world.cluster.remove(DEPLOYMENT, NAMESPACE, deployment["metadata"]["name"])
    await story.run(SLICE_MINUTES)
    assert [d["metadata"]["name"] for d in story.world.cluster.all(DEPLOYMENT)] == [deployment["metadata"]["name"]]


async def test_unreadable_old_record_is_reported_and_stops_nothing(story: Story) -> None:
    newer_record(story, "0123456789")
    await story.run(0.1)
    assert story.conditions["Accepted"] == ("True", "RecordUnreadable")
    await story.until_phase(Phase.ROLLED_BACK)
    story.world.user_applies(spec("good", replicas=5))
    await story.until_phase(Phase.STABLE)
    assert f"{NAME}-0123456789" in [obj["metadata"]["name"] for obj in story.world.cluster.all(CONTROLLER_REVISION)]


async def test_unreadable_record_of_stable_leaves_it_all_traffic(story: Story) -> None:
    stable = story.world.status()["stable"]["revision"]
    before = story.world.cluster.all(DEPLOYMENT)
    newer_record(story, stable)
    for _ in range(3):
        await story.reconciler().reconcile(KEY)
    assert backends(story) == [10_000, 0]
    assert story.conditions["Stalled"] == ("True", "RecordUnreadable")
    assert "newer Serin" in str(story.world.status()["message"])
    names = {d["metadata"]["name"] for d in before}
    assert {d["metadata"]["name"] for d in story.world.cluster.all(DEPLOYMENT)} == names


@pytest.mark.parametrize("promotion_is_lost", [False, True])
@pytest.mark.parametrize("route_is_lost", [False, True])
async def test_pods_of_unreadable_stable_stay(
    story: Story,
    promotion_is_lost: bool,  # noqa: FBT001 - a column of the table
    route_is_lost: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Also an earlier stable without pods takes nothing over."""
    stable, before = story.world.status()["stable"]["revision"], pods(story)
    earlier = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{stable}")
    assert earlier
    story._check = story._check_weights = lambda: None  # type: ignore[method-assign]
    newer_record(story, stable)
    damaged = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{stable}")
    assert damaged
    damaged["metadata"]["annotations"] = {} if promotion_is_lost else {PROMOTION: "2"}
    story.world.cluster.put(damaged)
    earlier["metadata"] = earlier["metadata"] | {"name": f"{NAME}-0123456789", "annotations": {PROMOTION: "1"}}
    earlier["data"] |= {"revision": "0123456789", "engineRevision": "9876543210"}
    story.world.cluster.put(earlier)
    if route_is_lost:
        story.world.cluster.remove(HTTP_ROUTE, *KEY)
    await story.run(10)
    assert pods(story) == before
    assert story.phase is Phase.BLOCKED
    assert story.world.weights() == ({} if route_is_lost else {stable: 10_000})


def pods(story: Story) -> dict[str, int]:
    """Replicas by Deployment."""
    return {d["metadata"]["name"]: d["spec"]["replicas"] for d in story.world.cluster.all(DEPLOYMENT)}


async def test_nothing_is_installed_while_a_record_is_unreadable_and_no_stable_known(story: Story) -> None:
    story._check = story._check_weights = lambda: None  # type: ignore[method-assign]
    for obj in story.world.cluster.all(CONTROLLER_REVISION):
        newer_record(story, obj["data"]["revision"])
        damaged = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, obj["metadata"]["name"])
        assert damaged
        damaged["metadata"]["annotations"] = {}
        story.world.cluster.put(damaged)
    for kind in (DEPLOYMENT, HTTP_ROUTE):
        for obj in story.world.cluster.all(kind):
            story.world.cluster.remove(kind, NAMESPACE, obj["metadata"]["name"])
    story.world.user_applies(spec("third"))
    await story.run(5)
    assert pods(story) == {}
    assert (story.phase, story.conditions["Stalled"]) == (Phase.BLOCKED, ("True", "RecordUnreadable"))
    assert "Serin installs nothing before it can read" in str(story.world.status()["message"])


async def test_unreadable_record_of_canary_takes_its_weight(story: Story) -> None:
    canary = story.canary
    newer_record(story, canary)
    await story.reconciler().reconcile(KEY)
    assert backends(story) == [10_000, 0]
    assert story.conditions["Accepted"] == ("False", "RecordUnreadable")


def backends(story: Story) -> list[int]:
    """The weights in the route, in its order: that of the stable is the first."""
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    return [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]]


async def test_route_refused_for_new_routing_still_loses_weight(story: Story) -> None:
    """The API server refuses what is new in spec.routing; the weights alone are written."""

    def before(call: Call) -> None:
        if call.kind == HTTP_ROUTE and call.verb == "apply" and "bad.example.com" in str(call.body):
            raise cluster_error("apply HTTPRoute", ApiException(status=422, body='{"message": "not this host"}'), 15)

    story.world.cluster.before = before
    routing = {"gateway": {"parentRefs": [{"name": "llm"}], "hostnames": ["bad.example.com"]}}
    story.world.user_applies(users_spec(story) | {"routing": routing})
    await story.run(SLICE_MINUTES, weight_taken)
    await story.run(SLICE_MINUTES)
    assert "not this host" in str(story.world.status()["message"])


async def test_canary_is_watched_after_failover_while_child_is_refused(story: Story) -> None:
    def before(call: Call) -> None:
        if call.kind == DEPLOYMENT and call.verb == "apply":
            raise cluster_error("apply Deployment", ApiException(status=403, body='{"message": "no"}'), 15)

    story.world.behaviours["turning"].error_rate = 0.01
    story.world.cluster.before = before
    story.world.user_applies(users_spec(story) | {"replicas": 4})
    story._check = lambda: None  # type: ignore[method-assign]
    await story.run(0.5)
    story.world.watches.clear()
    story.world.behaviours["turning"].error_rate = 0.9
    await story.run(1, weight_taken)
