"""Pods that are not all alike: gated, evicted, on a broken node, with failing init containers, of other controllers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakes.operator_in_memory import spec
from fakes.world import NAMESPACE, Behaviour
from serin.cluster.port import POD
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.stories.story import QUICK, Story

Status = dict[str, Any]
LOG = 'Loading weights\nValueError: There is no module named "better"\n'


async def with_stable() -> Story:
    story = Story()
    story.world.user_applies(spec(**QUICK))
    await story.until_phase(Phase.STABLE)
    return story


def names(story: Story) -> set[str]:
    return {pod["metadata"]["name"] for pod in story.world.cluster.all(POD)}


def changing(chosen: Callable[[str], bool], change: Callable[[Status], Status]) -> Callable[..., Status]:
    """A kubelet that changes the status of some pods, chosen by their names."""

    def kubelet(pod: Mapping[str, Any], status: Status) -> Status:
        if not chosen(pod["metadata"]["name"]):
            return status
        since = {"lastTransitionTime": pod["metadata"]["creationTimestamp"]}
        return change(status | {"conditions": [condition | since for condition in status["conditions"]]})

    return kubelet


def gated(_: Status) -> Status:
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
    }


def never_ready(status: Status) -> Status:
    conditions = [c | {"status": "False"} if c["type"] == "Ready" else c for c in status["conditions"]]
    waiting = {"reason": "CreateContainerError", "message": "no device nvidia0"}
    container = status["containerStatuses"][0] | {"state": {"waiting": waiting}, "ready": False, "started": False}
    return status | {"conditions": conditions, "containerStatuses": [container]}


def init_fails(status: Status) -> Status:
    end = {"exitCode": 3, "reason": "Error", "message": "cannot reach the model store\n"}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}
    fetch = {"name": "fetch", "restartCount": 4, "state": waits, "lastState": {"terminated": end}}
    pending = [{"name": "engine", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]
    return never_ready(status) | {"initContainerStatuses": [fetch], "containerStatuses": pending}


def crashes(status: Status) -> Status:
    end = {"exitCode": 1, "reason": "Error", "message": LOG}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    container = status["containerStatuses"][0]
    looping = {"restartCount": 2, "state": state, "lastState": {"terminated": end}, "ready": False, "started": False}
    return never_ready(status) | {"containerStatuses": [container | looping]}


async def with_canary_whose_pods(change: Callable[[Status], Status]) -> Story:
    """A stable, and a canary that was just applied, of whose pods the kubelet says this."""
    story = await with_stable()
    before = names(story)
    story.world.kubelet = changing(lambda name: name not in before, change)
    story.world.user_applies(spec("better", **QUICK))
    return story


async def test_gated_canary_waits_for_capacity_and_goes_on_when_released() -> None:
    story = await with_canary_whose_pods(gated)
    await story.run(5)
    assert story.conditions["Stalled"] == ("True", Reason.WAITING_FOR_CAPACITY)
    assert story.conditions["CapacityAvailable"][0] == "False"
    assert "rejected" not in story.world.status()
    story.world.kubelet = None
    await story.until_phase(Phase.STABLE)
    assert story.world.status()["stable"]["revision"] in story.world.weights()
    assert "rejected" not in story.world.status()


async def test_evicted_pod_that_lingers_rejects_no_canary() -> None:
    story = await with_stable()
    before = names(story)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(5, lambda s: bool(names(s) - before))
    (evicted, *_) = sorted(names(story) - before)
    ended = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
    story.world.cluster.set_status(POD, NAMESPACE, evicted, ended)
    await story.until_phase(Phase.STABLE)
    assert evicted in names(story)
    assert "rejected" not in story.world.status()
    assert story.world.status()["replicas"] == QUICK["replicas"]


async def test_pod_on_broken_node_stalls_a_canary_that_was_ready() -> None:
    story = await with_stable()
    before = names(story)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(5, lambda s: "canary" in s.world.status() and bool(s.world.weights().get(s.canary)))
    served = names(story)
    assert len(served - before) == 1
    story.world.kubelet = changing(lambda name: name not in served, never_ready)
    await story.run(10, lambda s: s.conditions["Stalled"] == ("True", Reason.PROGRESS_DEADLINE_EXCEEDED))
    assert "rejected" not in story.world.status()
    message = next(c["message"] for c in story.world.status()["conditions"] if c["type"] == "Stalled")
    assert "CreateContainerError: no device nvidia0" in message
    story.world.kubelet = None
    await story.until_phase(Phase.STABLE)
    assert "rejected" not in story.world.status()


async def test_canary_of_which_no_pod_was_ready_is_rejected_with_its_cause() -> None:
    story = await with_canary_whose_pods(init_fails)
    await story.until_phase(Phase.ROLLED_BACK)
    rejected = story.world.status()["rejected"]
    assert rejected["reason"] == Reason.PROGRESS_DEADLINE_EXCEEDED
    assert (
        "init container fetch exited 5 times, last with exit code 3: cannot reach the model store"
        in rejected["message"]
    )


async def test_last_words_of_a_crashed_engine_stay_with_the_rejection() -> None:
    story = await with_canary_whose_pods(crashes)
    await story.until_phase(Phase.ROLLED_BACK)
    await story.run(30)
    assert 'exit code 1: ValueError: There is no module named "better"' in story.world.status()["rejected"]["message"]
    (rejection,) = [record.rejection for record in story._records() if record.rejection]
    assert rejection.log == ("Loading weights", 'ValueError: There is no module named "better"')


async def test_first_install_serves_with_the_pods_that_are_ready() -> None:
    story = Story()
    story.world.user_applies(spec(**QUICK | {"replicas": 3}))
    story.world.kubelet = changing(lambda name: name.endswith("003"), never_ready)
    await story.run(10, lambda s: "conditions" in s.world.status() and s.conditions["Available"][0] == "True")
    assert story.world.status()["readyReplicas"] == 2
    story.world.kubelet = None
    await story.until_phase(Phase.STABLE)


async def test_crash_looping_first_install_does_not_flap() -> None:
    story = Story()
    story.world.user_applies(spec(**QUICK))
    story.world.kubelet = changing(lambda _name: True, crashes)
    await story.run(5, lambda s: s.conditions["Stalled"] == ("True", Reason.CANARY_CRASHED))
    lines = len(story.transcript)
    await story.run(20)
    assert story.transcript[lines:] == []


async def test_pods_of_another_controller_with_our_labels_count_for_nothing() -> None:
    story = await with_stable()
    story.world.behaviours["better"] = Behaviour(load_seconds=float("inf"))
    story.world.user_applies(spec("better", **QUICK))
    await story.run(5, lambda s: "canary" in s.world.status())
    engine = story.world.status()["canary"]["engineRevision"]
    await story.run(1, lambda s: any(engine in name for name in names(s)))
    ours = next(p for p in story.world.cluster.all(POD) if engine in p["metadata"]["name"])
    ready = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": story.world.now.isoformat()}]}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "other", "uid": "1", "controller": True}
    for number in range(3):
        metadata = {
            "namespace": NAMESPACE,
            "name": f"other-{number}",
            "labels": {k: v for k, v in ours["metadata"]["labels"].items() if k != "pod-template-hash"},
            "annotations": {},
            "ownerReferences": [owner],
        }
        story.world.cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}})
        story.world.cluster.set_status(POD, NAMESPACE, f"other-{number}", ready)
    await story.until_phase(Phase.ROLLED_BACK)
    assert story.world.status()["rejected"]["reason"] == Reason.PROGRESS_DEADLINE_EXCEEDED
