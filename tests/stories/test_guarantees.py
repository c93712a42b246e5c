"""Promises that one bad moment could break; each test is the moment."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, Kind
from serin.errors import Conflict, Invalid
from serin.manifests.evidence_map import name_of
from serin.rollout.phases import Phase
from serin.routers.gateway_api import GatewayApiRouter
from tests.stories.story import Story

EVIDENCE = name_of(NAME)
BLIND = "Prometheus does not answer; check that it runs."


async def install(story: Story) -> None:
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)


def refuse(story: Story, kind: Kind) -> None:
    """From now on the API server takes no object of this kind; reads and other writes go on."""
    apply = story.world.cluster.apply

    async def refusing(of: Kind, obj: dict[str, object]) -> dict[str, object]:
        if of is kind:
            raise Invalid(f"{kind} is refused by policy; ask your administrator.", "refused by policy")
        return await apply(of, obj)

    story.world.cluster.apply = refusing  # type: ignore[method-assign, assignment]


async def test_nothing_is_promoted_without_metrics_after_last_step() -> None:
    story = Story()
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    steps = [{"weight": 5, "hold": "1m"}, {"weight": 25, "hold": "1m"}]  # a quarter needs one pod of three
    story.world.user_applies(spec("turning", rollout=spec()["rollout"] | {"ramp": {"steps": steps}}))
    await story.until_phase(Phase.PROMOTING)  # every step has passed, the last pods load
    story.world.metrics_error = BLIND
    story.world.behaviours["turning"].error_rate = 0.9
    await story.run(10)
    assert story.world.status()["weight"] == "25%"
    story.world.metrics_error = None
    await story.until_phase(Phase.ROLLED_BACK)


async def test_ramp_ending_with_pause_is_not_promoted_without_metrics() -> None:
    story = Story()
    steps = [{"weight": 10, "hold": "30s"}, {"pause": {"for": "2m"}}]
    await install(story)
    story.world.user_applies(
        spec("better", rollout={"ramp": {"steps": steps}, "minimumBake": "0s", "drainTimeout": "1m"})
    )
    await story.until_phase(Phase.PAUSED)
    story.world.metrics_error = BLIND
    await story.run(9)
    assert story.world.status()["weight"] == "10%"
    assert story.conditions["MetricsAvailable"][0] == "False"
    await story.run(6)  # metrics unavailable for longer than analysis.blindTimeout
    assert story.world.status()["weight"] == "0%"
    assert story.conditions["Reconciling"] == ("True", "Blind")


async def test_canary_that_cannot_be_measured_gets_no_traffic() -> None:
    story = Story()
    await install(story)
    story.world.metrics_error = BLIND
    story.world.user_applies(spec("better"))
    await story.run(10)
    assert story.conditions["Reconciling"] == ("True", "MetricsUnavailable")
    assert [w for w in story.world.weights().values() if w] == [10_000]
    story.world.metrics_error = None
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def test_person_can_promote_without_metrics() -> None:
    story = Story()
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    story.world.metrics_error = BLIND
    story.world.user_commands(f"promote@{story.canary}#1")
    await story.until_phase(Phase.STABLE)


@pytest.mark.parametrize("kind", [CONTROLLER_REVISION, DEPLOYMENT], ids=str)
async def test_revision_without_record_or_pods_gets_no_request(kind: Kind) -> None:
    story = Story()
    await install(story)
    before = story.world.weights()
    refuse(story, kind)
    story.world.user_applies(spec("better"))
    await story.run(5)
    assert story.phase is Phase.BLOCKED
    assert story.conditions["Accepted"] == ("False", "ChildRefused")
    assert story.conditions["Ready"][0] == "False"
    assert story.conditions["Available"][0] == "True"
    assert story.world.weights() == before


async def test_rollback_happens_when_record_write_fails() -> None:
    story = Story()
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    story.world.user_applies(spec("turning"))
    await story.until_phase(Phase.RAMPING)
    await story.run(2)
    canary = story.canary
    refuse(story, CONTROLLER_REVISION)
    story.world.behaviours["turning"].error_rate = 0.9
    await story.run(2)
    assert story.world.weights().get(canary, 0) == 0


async def test_damaged_trial_starts_again_and_is_measured() -> None:
    story = Story()
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    story.world.user_applies(spec("turning"))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    record = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{story.canary}")
    assert record
    record["metadata"]["annotations"]["serin.dev/trial"] = "{oops"
    story.world.cluster.put(record)
    await story.run(0.5)
    assert story.world.status()["step"] == "1/3"
    assert story.world.status()["weight"] == "5%"
    story.world.behaviours["turning"].error_rate = 0.9
    await story.until_phase(Phase.ROLLED_BACK)


async def on_trial(story: Story, weight: str = "25%") -> None:
    """A canary that is good until its behaviour is changed, in the middle of its ramp."""
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    story.world.user_applies(spec("turning"))
    await story.run(20, lambda s: s.world.status().get("weight") == weight)


async def test_damaged_state_starts_trial_again_and_is_measured() -> None:
    story = Story()
    await on_trial(story)
    stored = story.world.cluster.find(CONFIG_MAP, NAMESPACE, EVIDENCE)
    assert stored
    stored["data"]["state.json"] = stored["data"]["state.json"][:-9]
    story.world.cluster.put(stored)
    await story.run(0.5)
    assert story.world.status()["canary"]["attempt"] == 2
    assert story.world.status()["weight"] == "5%"
    story.world.behaviours["turning"].error_rate = 0.9
    await story.until_phase(Phase.ROLLED_BACK)


async def test_foreign_configmap_of_our_name_is_not_changed() -> None:
    story = Story()
    await install(story)
    foreign = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": EVIDENCE},
        "data": {"state.json": "mine"},
    }
    story.world.cluster.put(foreign)
    before = story.world.weights()
    story.world.user_applies(spec("better"))
    await story.run(3)
    assert story.phase is Phase.BLOCKED
    assert story.conditions["Accepted"] == ("False", "ChildRefused")
    assert EVIDENCE in str(story.world.status()["message"])
    assert story.world.weights() == before
    left = story.world.cluster.find(CONFIG_MAP, NAMESPACE, EVIDENCE)
    assert left
    assert left["data"] == foreign["data"]
    story.world.cluster.remove(CONFIG_MAP, NAMESPACE, EVIDENCE)
    await story.until_phase(Phase.PROMOTING)


async def test_canary_gets_no_more_weight_when_state_write_fails() -> None:
    """Unsaved counts would be counted again, so nothing follows from them until they are saved."""
    story = Story()
    await on_trial(story, "5%")
    before = story.world.weights()
    refuse(story, CONFIG_MAP)
    await story.run(3)
    assert story.phase is Phase.BLOCKED
    assert story.world.weights() == before


async def test_rollback_happens_when_state_write_fails() -> None:
    story = Story()
    await on_trial(story)
    canary = story.canary
    refuse(story, CONFIG_MAP)
    story.world.behaviours["turning"].error_rate = 0.9
    await story.run(2)
    assert story.world.weights().get(canary, 0) == 0


async def test_former_leader_writes_no_state() -> None:
    """The new leader has counted meanwhile; the two must not be mixed."""
    story = Story()
    await on_trial(story)
    cluster, apply = story.world.cluster, story.world.cluster.apply

    async def overtaken(of: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        have = cluster.find(of, NAMESPACE, obj["metadata"]["name"])
        if of is CONFIG_MAP and have:
            have["metadata"].setdefault("annotations", {})["by"] = "the new leader"
            cluster.put(have)
        return await apply(of, obj)

    cluster.apply = overtaken  # type: ignore[method-assign, assignment]
    before = cluster.find(CONFIG_MAP, NAMESPACE, EVIDENCE)
    story.world.pass_time(5)
    with pytest.raises(Conflict):
        await story.reconciler().reconcile(KEY)
    after = cluster.find(CONFIG_MAP, NAMESPACE, EVIDENCE)
    assert before
    assert after
    assert after["data"] == before["data"]


async def test_canary_gets_no_traffic_while_prometheus_secret_is_missing() -> None:
    story = Story()
    await install(story)
    server = {"url": "https://prometheus.example.com", "authSecretRef": {"name": "access"}}
    story.world.user_applies(spec("better", analysis={"prometheus": server}))
    await story.run(5)
    assert story.conditions["Reconciling"] == ("True", "MetricsUnavailable")
    assert "Secret access" in str(story.world.status()["message"])
    assert [w for w in story.world.weights().values() if w] == [10_000]
    story.world.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": "access"},
            "data": {"token": "dDBrZW4="},
        }
    )
    await story.run(1, lambda s: bool(s.world.watches))
    assert [watch.server and watch.server.bearer_token for watch in story.world.watches.values()] == ["t0ken"]
    await story.until_phase(Phase.STABLE)


async def test_epoch_removed_from_route_returns_with_new_number() -> None:
    story = Story()
    await on_trial(story)
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    del route["spec"]["rules"][0]["filters"][0]["requestHeaderModifier"]["set"]
    story.world.cluster.put(route)
    await story.run(0.25)
    after = GatewayApiRouter().read(story.world.cluster.find(HTTP_ROUTE, *KEY), NAME)
    assert after.epoch is not None
    await story.until_phase(Phase.STABLE)


async def test_deployment_without_route_is_not_ready() -> None:
    story = Story()
    story.world.gateway_works = False
    story.world.user_applies(spec())
    await story.run(5)
    assert story.phase is Phase.STABLE
    assert {t: s for t, (s, _) in story.conditions.items() if t in {"Available", "Ready", "Reconciling"}} == {
        "Available": "False",
        "Ready": "False",
        "Reconciling": "True",
    }
    story.world.gateway_works = True
    await story.run(1)
    assert story.conditions["Ready"] == ("True", "Serving")


async def test_lasting_route_refusal_stalls_with_message() -> None:
    story = Story()
    await install(story)
    await story.run(1, lambda s: s.conditions["Available"][0] == "True")
    story.world.gateway_works = False
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    no = {
        "reason": "NoMatchingParent",
        "message": "No listener.",
        "observedGeneration": route["metadata"]["generation"],
    }
    conditions = [{"type": "Accepted", "status": "True", **no}, {"type": "ResolvedRefs", "status": "False", **no}]
    parents = [{"parentRef": route["spec"]["parentRefs"][0], "conditions": conditions}]
    story.world.cluster.set_status(HTTP_ROUTE, *KEY, {"parents": parents})
    await story.run(1)
    assert story.conditions["Available"][0] == "True"
    assert story.conditions["Ready"] == ("False", "RouteRefused")
    assert story.conditions["Reconciling"][0] == "False"
    assert story.conditions["Stalled"] == ("True", "RouteRefused")
    assert story.conditions["Accepted"] == ("False", "RouteRefused")


async def test_first_install_past_deadline_stalls_with_message() -> None:
    story = Story()
    story.world.behaviours["stuck"] = Behaviour(load_seconds=float("inf"))
    story.world.user_applies(spec("stuck"))
    await story.run(9)
    assert story.conditions["Stalled"][0] == "False"
    await story.run(3)
    assert story.phase is Phase.INSTALLING
    assert story.conditions["Stalled"] == ("True", "ProgressDeadlineExceeded")


async def test_command_on_blocked_spec_is_answered() -> None:
    story = Story()
    await install(story)
    story.world.user_applies(spec("better", prompt={"name": "nowhere"}))
    await story.until_phase(Phase.BLOCKED)
    story.world.user_commands("abort@0123456789#1")
    await story.run(0.5)
    answered = story.world.status()["lastHandledCommand"]
    assert (answered["outcome"], answered["by"]) == ("CommandIgnored", "alice")


@pytest.mark.parametrize("kind", [HTTP_ROUTE, CONTROLLER_REVISION], ids=str)
async def test_former_leader_changes_neither_route_nor_record(kind: Kind) -> None:
    """Its writes carry the version that it has seen; the new leader has written meanwhile."""
    story = Story()
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    story.world.user_commands(f"abort@{story.canary}#1")
    cluster, apply = story.world.cluster, story.world.cluster.apply

    async def overtaken(of: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        have = cluster.find(of, NAMESPACE, obj["metadata"]["name"])
        if of is kind and have:
            have["metadata"].setdefault("annotations", {})["by"] = "the new leader"
            cluster.put(have)
        return await apply(of, obj)

    cluster.apply = overtaken  # type: ignore[method-assign, assignment]
    before = story.world.weights()
    with pytest.raises(Conflict):
        await story.reconciler().reconcile(KEY)
    assert story.world.weights() == before
