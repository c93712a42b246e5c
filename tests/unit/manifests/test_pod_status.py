"""What the status of a pod says, as kubelet, scheduler and node controller write it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.manifests.observed import engines
from serin.manifests.pod_status import is_ended, read_pod
from tests.unit.manifests.test_log_lines import VLLM

MADE, LATER, LATEST = "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", "2026-03-01T12:01:20Z"
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": MADE}
UNREADY = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": MADE}
INITIALIZING = {"name": "engine", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}
RUNNING = {
    "name": "engine",
    "ready": True,
    "started": True,
    "restartCount": 0,
    "state": {"running": {"startedAt": MADE}},
}
IMAGE = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "serin:0.1": 401 Unauthorized'}


def end(code: int = 1, reason: str = "Error", message: str | None = None, **times: str) -> dict[str, Any]:
    return {"exitCode": code, "reason": reason} | ({"message": message} if message else {}) | times


def looping(name: str, restarts: int, message: str | None = None, code: int = 1) -> dict[str, Any]:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    last = {"terminated": end(code, message=message)}
    return {"name": name, "restartCount": restarts, "started": False, "state": {"waiting": waiting}, "lastState": last}


def pod(
    *containers: Any, init: Any = (), spec: Any = None, conditions: Any = (SCHEDULED, UNREADY), **status: Any
) -> Any:
    return {
        "metadata": {
            "name": "triage-e1-7d9f-abcde",
            "labels": {"serin.dev/engine-revision": "e1", "pod-template-hash": "7d9f"},
            "creationTimestamp": MADE,
        },
        "spec": {"nodeName": "n1"} if spec is None else spec,
        "status": {
            "phase": "Pending",
            "conditions": list(conditions),
            "initContainerStatuses": list(init),
            "containerStatuses": list(containers),
        }
        | status,
    }


@pytest.mark.parametrize(
    ("seen", "crash"),
    [
        pytest.param(pod(looping("engine", 1)), "the engine exited 2 times, last with exit code 1", id="second exit"),
        pytest.param(
            pod(looping("engine", 3, VLLM)),
            "the engine exited 4 times, last with exit code 1: ValueError: 16 GiB of KV cache needed, 2 GiB free",
            id="the end of the log",
        ),
        pytest.param(
            pod(looping("engine", 2, code=139)),
            "the engine exited 3 times, last with exit code 139 (SIGSEGV)",
            id="a signal",
        ),
        pytest.param(
            pod({"name": "engine", "restartCount": 1, "state": {"running": {}},
                 "lastState": {"terminated": end(137, "OOMKilled")}}),
            "the engine ran out of memory (OOMKilled)",
            id="memory, once",
        ),
        pytest.param(
            pod({"name": "engine", "restartCount": 2, "started": False, "state": {"running": {"startedAt": LATEST}},
                 "lastState": {"terminated": end(message="ValueError: no", finishedAt=LATER)}}),
            "the engine exited 2 times, last with exit code 1: ValueError: no",
            id="the next attempt, after a back-off",
        ),
        pytest.param(
            pod({"name": "engine", "restartCount": 2, "started": False,
                 "state": {"terminated": end(2, startedAt=LATEST, finishedAt=LATEST)},
                 "lastState": {"terminated": end(finishedAt=LATER)}}),
            "the engine exited 3 times, last with exit code 2",
            id="between an exit and its back-off",
        ),
        pytest.param(
            pod({"name": "engine", "restartCount": 9, "started": True, "state": {"running": {"startedAt": LATEST}},
                 "lastState": {"terminated": end(finishedAt=LATER)}}),
            None,
            id="it started after all",
        ),
        pytest.param(
            pod({"name": "engine", "restartCount": 1, "started": False, "state": {"running": {"startedAt": LATER}},
                 "lastState": {"terminated": end(finishedAt=LATER)}}),
            None,
            id="one exit, perhaps of the node",
        ),
        pytest.param(pod(RUNNING, looping("proxy", 12)), None, id="another container"),
        pytest.param(pod(INITIALIZING, init=[looping("fetch", 9)]), None, id="an init container"),
    ],
)  # fmt: skip
def test_crash_is_one_of_the_engine_and_quotes_its_last_words(seen: Any, crash: str | None) -> None:
    assert read_pod(seen).crash == crash


@pytest.mark.parametrize(
    ("seen", "waiting"),
    [
        pytest.param(
            pod({"name": "engine", "restartCount": 0, "state": {"waiting": IMAGE}}),
            'ImagePullBackOff: Back-off pulling image "serin:0.1": 401 Unauthorized',
            id="image",
        ),
        pytest.param(
            pod(INITIALIZING, init=[{"name": "serin-model-server", "restartCount": 0, "state": {"waiting": IMAGE}}]),
            'init container serin-model-server: ImagePullBackOff: Back-off pulling image "serin:0.1": 401 Unauthorized',
            id="image of an init container",
        ),
        pytest.param(
            pod(INITIALIZING, init=[looping("fetch", 8, "cp: No space left on device")]),
            "init container fetch exited 9 times, last with exit code 1: cp: No space left on device",
            id="init container",
        ),
        pytest.param(
            pod(INITIALIZING, init=[{"name": "fetch", "state": {"terminated": end(0, "Completed")}}]),
            None,
            id="init container that is done",
        ),
        pytest.param(
            pod(INITIALIZING, init=[looping("proxy", 4)],
                spec={"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}),
            "sidecar proxy exited 5 times, last with exit code 1",
            id="sidecar",
        ),
        pytest.param(
            pod(RUNNING, looping("proxy", 11)),
            "container proxy exited 12 times, last with exit code 1",
            id="container beside the engine",
        ),
        pytest.param(
            pod({"name": "engine", "state": {"waiting": {"reason": "CreateContainerConfigError",
                                                         "message": 'secret "hub" not found'}}}),
            'CreateContainerConfigError: secret "hub" not found',
            id="configuration",
        ),
        pytest.param(
            pod(RUNNING, conditions=(SCHEDULED, UNREADY | {"reason": "ReadinessGatesNotReady",
                                                           "message": 'gate "x" is not "True"'})),
            'ReadinessGatesNotReady: gate "x" is not "True"',
            id="readiness gate",
        ),
        pytest.param(
            pod(RUNNING, conditions=(SCHEDULED, UNREADY | {"status": "Unknown", "reason": "NodeStatusUnknown"})),
            "NodeStatusUnknown",
            id="lost node",
        ),
        pytest.param(pod(RUNNING | {"ready": False, "started": False}), None, id="loading"),
        pytest.param(pod(INITIALIZING), None, id="just placed"),
    ],
)  # fmt: skip
def test_waiting_names_container_and_cause(seen: Any, waiting: str | None) -> None:
    assert read_pod(seen).waiting == waiting


@pytest.mark.parametrize(
    ("condition", "spec", "sentence"),
    [
        pytest.param(
            {"reason": "Unschedulable", "message": "0/1 nodes are available."},
            {},
            "0/1 nodes are available.",
            id="node",
        ),
        pytest.param(
            {"reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"},
            {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
            "the scheduling gate kueue.x-k8s.io/admission must be removed first",
            id="gate",
        ),
        pytest.param(
            {"reason": "SchedulerError", "message": "binding rejected"},
            {},
            "SchedulerError: binding rejected",
            id="error",
        ),
    ],
)
def test_pod_without_node_waits_for_capacity(condition: Any, spec: Any, sentence: str) -> None:
    seen = read_pod(pod(spec=spec, conditions=[{"type": "PodScheduled", "status": "False"} | condition]))
    assert (seen.unschedulable, seen.assigned, seen.crash, seen.waiting) == (sentence, False, None, None)


def test_crash_keeps_the_end_of_the_log() -> None:
    log = read_pod(pod(looping("engine", 3, VLLM))).log
    assert len(log) == len(VLLM.splitlines())
    assert log[-1].endswith("Failed core proc(s): {}")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory",
            id="evicted",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices present"},
            "UnexpectedAdmissionError: no healthy devices present",
            id="refused by its node",
        ),
        pytest.param({"phase": "Succeeded"}, "Succeeded", id="succeeded"),
        pytest.param(
            {"phase": "Failed", "containerStatuses": [{"name": "engine", "state": {"terminated": end(3)}}]},
            "the engine exited once with exit code 3",
            id="its containers ended",
        ),
    ],
)
def test_pod_that_has_ended_is_no_pod_and_its_reason_is_kept(status: Any, why: str) -> None:
    ended = pod(**({"containerStatuses": []} | status))
    deployment = {
        "metadata": {"name": "triage-e1"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"serin.dev/engine-revision": "e1"}}},
    }
    view = engines("triage", [deployment], [ended])["e1"]
    assert view.pods == ()
    assert [one.why for one in view.ended] == [why]
    assert view.trouble is not None
    assert view.trouble.sentence == f" Pod triage-e1-7d9f-abcde: the pod ended: {why}."


times = st.sampled_from([MADE, LATER, LATEST])
reasons = st.sampled_from(["CrashLoopBackOff", "ImagePullBackOff", "ContainerCreating", "RunContainerError", ""])
texts = st.none() | st.text(max_size=30)


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


ends = sometimes(
    exitCode=st.integers(-1, 300), reason=st.sampled_from(["Error", "OOMKilled", "Completed", "StartError"]),
    message=texts, startedAt=times, finishedAt=times,
)  # fmt: skip
states = st.just({}) | st.one_of(
    st.builds(lambda w: {"waiting": w}, sometimes(reason=reasons, message=texts)),
    st.builds(lambda r: {"running": r}, sometimes(startedAt=times)),
    st.builds(lambda t: {"terminated": t}, ends),
)
containers = st.lists(
    st.builds(
        lambda name, rest: {"name": name} | rest,
        st.sampled_from(["engine", "proxy", "fetch"]),
        sometimes(
            state=st.none() | states, lastState=st.none() | states, restartCount=st.integers(0, 30),
            ready=st.booleans(), started=st.none() | st.booleans(),
        ),
    ),
    max_size=3,
)  # fmt: skip
conditions = st.lists(
    st.builds(
        lambda type_, rest: {"type": type_} | rest,
        st.sampled_from(["Ready", "PodScheduled", "DisruptionTarget"]),
        sometimes(
            status=st.sampled_from(["True", "False", "Unknown"]), reason=texts, message=texts, lastTransitionTime=times
        ),
    ),
    max_size=3,
)  # fmt: skip
statuses = sometimes(
    phase=st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "Unknown"]), reason=texts, message=texts,
    conditions=st.none() | conditions, containerStatuses=st.none() | containers,
    initContainerStatuses=st.none() | containers, startTime=times,
)  # fmt: skip


def bare(status: Any) -> dict[str, Any]:
    return pod() | {"status": status}


@given(st.none() | statuses)
def test_any_status_is_read(status: Any) -> None:
    """No exception; a Ready pod waits for nothing, and only an engine that ended has crashed."""
    deployment = {
        "metadata": {"name": "triage-e1"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"serin.dev/engine-revision": "e1"}}},
    }
    seen = bare(status)
    view = engines("triage", [deployment], [seen])["e1"]
    assert len(view.pods) + len(view.ended) == 1
    assert bool(view.ended) == is_ended(seen)
    for one in view.pods:
        assert not (one.ready and one.waiting)
        engine = [c for c in (status or {}).get("containerStatuses") or () if c["name"] == "engine"]
        ended = [s for c in engine for s in (c.get("state") or {}, c.get("lastState") or {}) if "terminated" in s]
        assert not one.crash or ended or any(c.get("restartCount") for c in engine)
