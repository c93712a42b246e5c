"""What must happen at its time although nothing happens in the cluster: due times, and times in microseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, Behaviour
from serin.cluster.port import HTTP_ROUTE, POD, SECRET, SERVICE, Kind
from serin.errors import ClusterError
from serin.rollout.decide import READ_SECRET_EVERY
from serin.rollout.phases import Phase
from tests.stories.story import Story
from tests.stories.woken import STEP_SECONDS, WokenStory

DOWN = "Prometheus does not answer; check that it runs."
SLICE_SECONDS = 15.0
BLIND_SECONDS = 60.0
HELD: dict[str, Any] = {"ramp": {"steps": [{"weight": 25, "hold": "6h"}]}}
PAUSED: dict[str, Any] = {"ramp": {"steps": [{"weight": 25, "hold": "30s"}, {"pause": {}}]}}
HOLDBACK: dict[str, Any] = {
    "ramp": {"steps": [{"weight": 25, "hold": "30s"}]}, "minimumBake": "30s", "holdback": {"weight": 2, "for": "6h"},
}  # fmt: skip
PROVABLE = {"metrics": [{"name": "errors", "preset": "ErrorRate"}]}


def weight(story: Story) -> str:
    return str(story.world.status().get("weight"))


async def on_trial(rollout: dict[str, Any], weighs: str, **more: Any) -> WokenStory:
    """A canary that has stood at its weight for two minutes."""
    story = WokenStory()
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    more = {"analysis": PROVABLE | {"blindTimeout": "1m"}} | more
    story.world.user_applies(spec("better", rollout=rollout, **more))
    await story.run(30, lambda s: weight(s) == weighs)
    await story.run(2)
    return story


def paused(story: WokenStory) -> None:
    story.world.user_applies(spec("better", paused=True, rollout=HELD, analysis=PROVABLE | {"blindTimeout": "1m"}))


def refused(story: WokenStory) -> None:
    """The gateway refuses the route that it has served, and says nothing after that."""
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    condition = {"type": "Accepted", "status": "False", "reason": "NoMatchingParent", "message": "No such Gateway."}
    condition["observedGeneration"] = route["metadata"]["generation"]
    story.world.gateway_works = False
    status = {"parents": [{"parentRef": ref, "conditions": [condition]} for ref in route["spec"]["parentRefs"]]}
    story.world.cluster.set_status(HTTP_ROUTE, *KEY, status)


def short_of_pods(story: WokenStory) -> None:
    """More replicas than one pod carries a quarter of; the new ones take longer to load than this test lasts."""
    story.world.user_applies(spec("better", replicas=6, rollout=HELD, analysis=PROVABLE | {"blindTimeout": "1m"}))
    story.world.behaviours["better"] = Behaviour(load_seconds=170.0)


def nothing_else(_story: WokenStory) -> None: ...


@pytest.mark.parametrize(
    ("rollout", "before", "change", "weighs"),
    [
        pytest.param(HELD, "25%", nothing_else, "25%", id="in a hold"),
        pytest.param(PAUSED, "25%", nothing_else, "25%", id="in a pause for a person"),
        pytest.param(HOLDBACK, "98%", nothing_else, "98%", id="in the holdback"),
        pytest.param(HELD, "25%", paused, "25%", id="while spec.paused is set"),
        pytest.param(HELD, "25%", refused, "25%", id="while the gateway refuses the route"),
        pytest.param(HELD, "25%", short_of_pods, "16.66%", id="while pods are missing"),
    ],
)
async def test_weight_leaves_at_blind_timeout_without_a_resync(
    rollout: dict[str, Any], before: str, change: Callable[[WokenStory], None], weighs: str
) -> None:
    story = await on_trial(rollout, before)
    change(story)
    await story.run(0.5)
    assert weight(story) == weighs
    down = story.seconds
    story.world.metrics_error = DOWN
    await story.run(10, lambda s: weight(s) == "0%")
    assert story.seconds - down <= BLIND_SECONDS + SLICE_SECONDS + STEP_SECONDS
    assert story.seconds - down >= BLIND_SECONDS - SLICE_SECONDS


async def test_counts_of_a_rolled_back_canary_stay_until_the_spec_changes() -> None:
    story = WokenStory()
    story.world.behaviours["bad"] = Behaviour(error_rate=0.5)
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("bad"))
    await story.until_phase(Phase.ROLLING_BACK)
    rested_on = story.world.status()["metrics"]
    assert rested_on[0]["canary"]["bad"] > 0
    await story.until_phase(Phase.ROLLED_BACK)
    await story.run(25)  # two resyncs
    assert story.world.status()["metrics"] == rested_on
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.PREPARING)
    assert story.world.status()["metrics"] == []


@pytest.mark.parametrize("kind", [SERVICE, POD, HTTP_ROUTE], ids=str)
async def test_weight_leaves_at_blind_timeout_although_each_reconcile_fails(kind: Kind) -> None:
    """The wait before a retry grows to a minute; the time at which the canary is blind comes first."""
    story = await on_trial(HELD, "25%")

    def before(call: Call) -> None:
        if call.kind == kind and not call.writes:
            raise ClusterError(f"{call} failed; Serin retries.")

    story.world.cluster.before = before
    story.world.metrics_error = DOWN
    down = story.seconds
    await story.run(10, lambda s: 2500 not in s.world.weights().values())
    assert story.seconds - down <= BLIND_SECONDS + 2 * STEP_SECONDS
    await story.run(1)
    assert str(kind) in story.world.status()["message"]


SERVER = {"url": "https://prometheus.example.com", "authSecretRef": {"name": "access"}}


def secret_appears(story: WokenStory) -> None:
    meta = {"namespace": KEY[0], "name": "access"}
    story.world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"token": "dDBrZW4="}})


async def test_secret_that_is_created_is_noticed_within_half_a_minute() -> None:
    story = WokenStory()
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("better", analysis=PROVABLE | {"prometheus": SERVER}))
    await story.run(5)
    assert story.collector.watched(KEY) is None
    secret_appears(story)
    await story.run((READ_SECRET_EVERY.total_seconds() + 2 * STEP_SECONDS) / 60)
    assert story.collector.watched(KEY) is not None


async def test_weight_leaves_at_blind_timeout_after_the_secret_is_deleted() -> None:
    story = WokenStory()
    secret_appears(story)
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    analysis = PROVABLE | {"prometheus": SERVER, "blindTimeout": "1m"}
    story.world.user_applies(spec("better", rollout=HELD, analysis=analysis))
    await story.run(30, lambda s: weight(s) == "25%")
    await story.run(2)
    story.world.cluster.remove(SECRET, KEY[0], "access")
    deleted = story.seconds
    await story.run(10, lambda s: weight(s) == "0%")
    assert story.seconds - deleted <= BLIND_SECONDS + READ_SECRET_EVERY.total_seconds() + 5.0


async def test_deadline_stalls_on_time() -> None:
    """`rollout.deadline` is over long after the last change of anything that is watched."""
    story = WokenStory()
    story.world.traffic.rps = 2  # a proof needs far more
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    held = {"ramp": {"steps": [{"weight": 25, "hold": "30s"}]}, "minimumBake": "30s", "deadline": "10m"}
    story.world.user_applies(spec("better", rollout=held, analysis=PROVABLE))
    await story.run(30, lambda s: weight(s) == "25%")
    began = story.seconds
    await story.run(20, lambda s: s.conditions["Stalled"] == ("True", "Inconclusive"))
    assert abs(story.seconds - began - 600) <= 5.0
