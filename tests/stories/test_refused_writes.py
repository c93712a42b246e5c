"""A rollback of which the API server carries out every write but one: the canary loses its traffic all the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client.exceptions import ApiException

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import NAME, NAMESPACE, Behaviour
from serin.cluster.api_server import cluster_error
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
)
from serin.errors import ClusterError, Conflict
from serin.rollout.phases import Phase
from tests.stories.story import HELD, Story

WHY = "because of that"


def answer(status: int) -> Exception:
    return ApiException(status=status, body=json.dumps({"message": WHY}))


FAILURES: dict[str, Exception] = {
    **{str(status): answer(status) for status in (400, 403, 404, 409, 413, 422, 429, 500, 503, 504)},
    "timeout": TimeoutError(),
    "dropped": aiohttp.ServerDisconnectedError(WHY),
    "reset": ConnectionResetError(WHY),
    "defect": AttributeError(WHY),
}
WRITES: tuple[tuple[str, Kind], ...] = (
    ("apply", CONFIG_MAP),
    ("apply", CONTROLLER_REVISION),
    ("apply", HTTP_ROUTE),
    ("apply_status", LLMDEPLOYMENT),
    ("event", LLMDEPLOYMENT),
    ("delete", POD_DISRUPTION_BUDGET),
    ("delete", DEPLOYMENT),
    ("delete", SERVICE),
    ("delete", CONFIG_MAP),
)
"""Every write that a rollback consists of."""


@pytest.fixture(scope="module")
def prepared() -> Story:
    return Story()


@pytest.fixture
async def story(prepared: Story) -> Story:
    """A canary at 25 % that has just turned bad; made once, since it takes most of the time."""
    if not prepared.transcript:
        quick: dict[str, Any] = {"load_seconds": 5, "drain_seconds": 5}
        prepared.world.behaviours = {"good": Behaviour(**quick), "turning": Behaviour(**quick)}
        prepared.world.user_applies(spec(**HELD))
        await prepared.until_phase(Phase.STABLE)
        prepared.world.user_applies(spec("turning", **HELD))
        await prepared.run(10, lambda s: s.world.status().get("weight") == "25%")
        prepared.world.behaviours["turning"].error_rate = 0.9
    story = copy.deepcopy(prepared)
    story.world.cluster.clock = lambda: story.world.now
    return story


def weight_taken(story: Story) -> bool:
    return [w for w in story.world.weights().values() if w] == [10_000]


def fail(story: Story, verb: str, kind: Kind, error: Exception) -> None:
    """From now on this write fails; all others and all reads go on."""

    def before(call: Call) -> None:
        if (call.verb, call.kind) == (verb, kind):
            raise cluster_error(f"{verb} {call.kind} {call.name}", error, 15)

    story.world.cluster.before = before


async def test_cases_cover_every_write_of_a_rollback(story: Story) -> None:
    count = len(story.world.cluster.writes)
    await story.until_phase(Phase.ROLLED_BACK, 3)
    assert {(call.verb, call.kind) for call in story.world.cluster.writes[count:]} == set(WRITES)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("verb", "kind"), WRITES, ids=str)
async def test_rollback_survives_any_failing_write(story: Story, verb: str, kind: Kind, failure: str) -> None:
    fail(story, verb, kind, FAILURES[failure])
    if kind is HTTP_ROUTE:  # it carries the weight itself
        await story.run(0.5)
        assert not weight_taken(story)
        assert tells_why(story, failure)
        story.world.cluster.before = None
    await story.run(0.5, weight_taken)
    await story.run(1)
    assert weight_taken(story)
    if verb == "delete":
        gone = {k for k in (POD_DISRUPTION_BUDGET, DEPLOYMENT, SERVICE) if len(story.world.cluster.all(k)) == 1}
        assert gone == {POD_DISRUPTION_BUDGET, DEPLOYMENT, SERVICE} - {kind}, "one deletion held up another"
    if verb in {"apply", "delete"} and kind is not HTTP_ROUTE:
        assert tells_why(story, failure)
        assert story.conditions["Ready"] == ("False", "ChildRefused")
        assert story.conditions["Stalled"][0] == "True" or verb == "delete"
    story.world.cluster.before = None
    await story.run(1, lambda s: s.phase is Phase.ROLLED_BACK)
    assert story.world.status()["metrics"], "the counts were lost with the status that was refused"
    assert [len(story.world.cluster.all(k)) for k in (POD_DISRUPTION_BUDGET, DEPLOYMENT, SERVICE)] == [1, 1, 1]


def tells_why(story: Story, failure: str) -> bool:
    message = str(story.world.status()["message"])
    return ("within 15 s" if failure == "timeout" else WHY) in message


async def test_transient_failure_stalls_only_when_it_lasts(story: Story) -> None:
    fail(story, "apply", CONFIG_MAP, answer(503))
    await story.run(0.5)
    assert (story.phase, story.conditions["Stalled"][0]) == (Phase.BLOCKED, "False")
    assert story.conditions["Reconciling"] == ("True", "ChildRefused")
    assert story.conditions["Accepted"][0] == "True"
    assert "was rejected (VerdictFailed)" in story.world.status()["message"]
    await story.run(1)
    assert story.conditions["Stalled"] == ("True", "ChildRefused")
    assert story.conditions["Reconciling"][0] == "False"


async def test_concurrent_state_writes_delay_rollback_only_briefly(story: Story) -> None:
    """A conflict says that the decision rests on an old read; the next reconcile reads again."""
    cluster, left = story.world.cluster, 3

    def before(call: Call) -> None:
        nonlocal left
        have = cluster.find(CONFIG_MAP, NAMESPACE, f"{NAME}-serin-evidence")
        if (call.verb, call.kind) == ("apply", CONFIG_MAP) and have and left:
            left -= 1
            have["metadata"].setdefault("annotations", {})["by"] = f"another writer {left}"
            cluster.put(have)

    cluster.before = before
    story.world.pass_time(15)
    for _ in range(3):
        with pytest.raises(Conflict):
            await story.reconciler().reconcile((NAMESPACE, NAME))
        assert not weight_taken(story)
    await story.run(0.5, weight_taken)


async def test_canary_is_still_measured_when_status_write_fails(story: Story) -> None:
    fail(story, "apply_status", LLMDEPLOYMENT, answer(500))
    story.world.watches.clear()  # as after a failover
    story.world.status_is_lost()
    with pytest.raises(ClusterError):
        await story.reconciler().reconcile((NAMESPACE, NAME))
    assert story.world.watches


async def test_failing_deletion_does_not_hold_up_next_canary(story: Story) -> None:
    await story.run(0.5, weight_taken)
    fail(story, "delete", DEPLOYMENT, answer(500))
    story.world.user_applies(spec("better", **HELD))
    await story.run(5, lambda s: 2500 in s.world.weights().values())


async def test_deletion_of_changed_object_is_retried_without_report(story: Story) -> None:
    """Pods of a leaving Deployment change its status all the time."""
    cluster, count, reasons = story.world.cluster, 0, set()
    story.each_tick = lambda s: reasons.add(s.conditions["Ready"][1])

    def before(call: Call) -> None:
        nonlocal count
        have = cluster.find(DEPLOYMENT, NAMESPACE, call.name)
        if (call.verb, call.kind) == ("delete", DEPLOYMENT) and have and count < 2:
            count += 1
            cluster.set_status(DEPLOYMENT, NAMESPACE, call.name, {"replicas": count})

    cluster.before = before
    await story.run(2, lambda s: len(s.world.cluster.all(DEPLOYMENT)) == 1)
    assert count == 2
    assert "ChildRefused" not in reasons
