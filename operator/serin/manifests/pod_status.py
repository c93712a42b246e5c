"""Reads the status of a pod: whether it is Ready, what it waits for, and why it crashed or ended.

Called by `observed`. A crash is one of the engine, because that is what a revision changes. Init containers and
sidecars may wait for something outside or may have been injected, so their failures are reported as what a pod waits
for, and count at the progress deadline only.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from serin.api.names import CONTAINER
from serin.manifests.log_lines import cause_of, last_lines, one_line
from serin.rollout.snapshot import EndedPod, PodView

BACKING_OFF = "CrashLoopBackOff"
OUT_OF_MEMORY = "OOMKilled"
_ENDED = frozenset({"Failed", "Succeeded"})
"""Phases of pods that never run again; the object stays until a controller or a person deletes it."""
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_BACKED_OFF = timedelta(seconds=5)
"""At least so long the kubelet waits before it starts a container that has crashed more than once."""
_ENGINE = "the engine"


@dataclass(frozen=True)
class _Container:
    name: str
    """As messages call it: `the engine`, `init container fetch`."""
    status: Mapping[str, Any]

    @property
    def state(self) -> Mapping[str, Any]:
        return self.status.get("state") or {}

    @property
    def waiting(self) -> Mapping[str, Any]:
        return self.state.get("waiting") or {}

    @property
    def ends(self) -> list[Mapping[str, Any]]:
        """How it ended: now and the time before, newest first."""
        states = (self.state, self.status.get("lastState") or {})
        return [state["terminated"] for state in states if state.get("terminated")]

    @property
    def exits(self) -> int:
        """How often it has ended so far; a first start that still waits is no end."""
        waits = "waiting" in self.state and bool((self.status.get("lastState") or {}).get("terminated"))
        return int(self.status.get("restartCount") or 0) + (bool(self.state.get("terminated")) or waits)

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of its log, or its termination message, of the last end that has one."""
        return next((lines for end in self.ends if (lines := last_lines(end.get("message") or ""))), ())


def is_ended(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended for good, such as one that was evicted; its Deployment has replaced it."""
    return _status(pod).get("phase") in _ENDED


def read_ended(pod: Mapping[str, Any]) -> EndedPod:
    """The view of a pod that has ended."""
    status, metadata = _status(pod), pod["metadata"]
    why = [status.get("reason"), status.get("message")]
    if not any(why):
        found = next((c for c in _containers(pod) if c.ends and c.ends[0].get("exitCode")), None)
        why = [_exits(found)] if found else [status.get("phase")]
    times = [metadata["creationTimestamp"], status.get("startTime")]
    times += [end.get("finishedAt") for c in _containers(pod) for end in c.ends]
    times += [each.get("lastTransitionTime") for each in status.get("conditions") or ()]
    return EndedPod(
        name=metadata["name"],
        why=_sentence(*why),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        ended_at=max(datetime.fromisoformat(time) for time in times if time),
    )


def read_pod(pod: Mapping[str, Any]) -> PodView:
    """The view of a pod that may still serve, from its status."""
    ready = condition(pod, "Ready")
    is_ready = ready.get("status") == "True"
    containers = list(_containers(pod))
    engine = next((c for c in containers if c.name == _ENGINE), _Container(_ENGINE, {}))
    crash, waiting = _crash(engine), None if is_ready else _waiting(pod, containers)
    troubled = engine if crash else next((c for c in containers if _trouble(c)), engine)
    return PodView(
        name=pod["metadata"]["name"],
        ready=is_ready,
        not_ready_since=None if is_ready else _not_ready_since(pod),
        unschedulable=_unschedulable(pod),
        crash=crash,
        waiting=waiting,
        deleting=bool(pod["metadata"].get("deletionTimestamp")),
        ready_since=datetime.fromisoformat(since) if is_ready and (since := ready.get("lastTransitionTime")) else None,
        assigned=_is_assigned(pod),
        log=() if is_ready and not crash else troubled.log,
        exits=engine.exits,
    )


def _not_ready_since(pod: Mapping[str, Any]) -> datetime:
    """Time at which the pod was scheduled or last stopped being Ready; waiting for a node does not count as loading."""
    times = [
        pod["metadata"]["creationTimestamp"],
        condition(pod, "Ready").get("lastTransitionTime"),
        condition(pod, "PodScheduled").get("lastTransitionTime"),
    ]
    return max(datetime.fromisoformat(time) for time in times if time)


def _is_assigned(pod: Mapping[str, Any]) -> bool:
    named = (pod.get("spec") or {}).get("nodeName")
    return bool(named) or condition(pod, "PodScheduled").get("status") == "True"


def _unschedulable(pod: Mapping[str, Any]) -> str | None:
    """Why the pod has no node: none has room, a scheduling gate (Kueue and others) holds it, or the scheduler fails."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return None
    message, reason = scheduled.get("message"), scheduled.get("reason")
    gates = [str(gate.get("name")) for gate in (pod.get("spec") or {}).get("schedulingGates") or ()]
    if gates:
        return one_line(f"the scheduling gate{'s' if len(gates) > 1 else ''} {', '.join(gates)} must be removed first")
    if reason in {None, "Unschedulable"}:
        return one_line(str(message or "no node can run the pod"))
    return _sentence(reason, message)


def _crash(engine: _Container) -> str | None:
    """Why the engine counts as crashed: it ran out of memory once, or exited twice and the kubelet backs off.

    A single exit may be caused by the node, so it does not count. An engine that is started again after a back-off has
    crashed until it has started, so that the answer does not alternate with each attempt.
    """
    if any(end.get("reason") == OUT_OF_MEMORY for end in engine.ends):
        cause = cause_of(engine.log)
        return "the engine ran out of memory (OOMKilled)" + (f": {cause}" if cause else "")
    return _exits(engine) if _is_looping(engine) else None


def _is_looping(container: _Container) -> bool:
    if container.exits < 2:
        return False
    return container.waiting.get("reason") == BACKING_OFF or _was_backed_off(container)


def _was_backed_off(container: _Container) -> bool:
    """Whether the kubelet delayed this attempt to start the container, which has not succeeded yet."""
    attempt = container.state.get("running") or container.state.get("terminated") or {}
    before = (container.status.get("lastState") or {}).get("terminated") or {}
    if container.status.get("started") is not False or not attempt.get("startedAt") or not before.get("finishedAt"):
        return False
    return datetime.fromisoformat(attempt["startedAt"]) - datetime.fromisoformat(before["finishedAt"]) >= _BACKED_OFF


def _exits(container: _Container) -> str:
    """How often a container exited, how, and its last words."""
    end = next(iter(container.ends), {})
    code, reason, cause = end.get("exitCode", "unknown"), end.get("reason"), cause_of(container.log)
    times = "once" if container.exits <= 1 else f"{container.exits} times, last"
    known = f" ({reason})" if reason not in {None, "Error", "Completed"} else _signal(code)
    return f"{container.name} exited {times} with exit code {code}{known}" + (f": {cause}" if cause else "")


def _signal(code: Any) -> str:
    """The name of the signal that ended a process, from an exit code above 128; else empty."""
    try:
        return f" ({signal.Signals(int(code) - 128).name})"
    except ValueError:
        return ""


def _waiting(pod: Mapping[str, Any], containers: list[_Container]) -> str | None:
    """Why the pod does not become Ready, as far as its status says so."""
    if found := next((trouble for c in containers if (trouble := _trouble(c))), None):
        return found
    ready = condition(pod, "Ready")
    engine_is_ready = any(c.name == _ENGINE and c.status.get("ready") for c in containers)
    if ready.get("status") == "Unknown" or engine_is_ready:  # a lost node, a sidecar, a readiness gate
        return _sentence(ready.get("reason"), ready.get("message")) or None
    return None


def _trouble(container: _Container) -> str | None:
    """What keeps a container from starting: its image, its configuration, or its own exits."""
    reason = container.waiting.get("reason")
    if not reason or reason in _STARTING:
        return _exits(container) if not _has_started(container) and _failed_before(container) else None
    if reason == BACKING_OFF and container.ends:
        return _exits(container)
    said = _sentence(reason, container.waiting.get("message"))
    return said if container.name == _ENGINE else f"{container.name}: {said}"


def _has_started(container: _Container) -> bool:
    """Whether it runs, or did what an init container has to do."""
    end = container.state.get("terminated") or {}
    running = "running" in container.state and container.status.get("started") is not False
    return running or (bool(end) and end.get("exitCode") == 0)


def _failed_before(container: _Container) -> bool:
    return any(end.get("exitCode") for end in container.ends)


def _containers(pod: Mapping[str, Any]) -> Iterator[_Container]:
    """Those of the pod in the order in which they start."""
    spec, status = pod.get("spec") or {}, _status(pod)
    restarting = {c.get("name") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    for each in status.get("initContainerStatuses") or ():
        kind = "sidecar" if each.get("name") in restarting else "init container"
        yield _Container(f"{kind} {each.get('name')}", each)
    for each in status.get("containerStatuses") or ():
        name = each.get("name")
        yield _Container(_ENGINE if name == CONTAINER else f"container {name}", each)


def _sentence(*parts: Any) -> str:
    return one_line(": ".join(str(part) for part in parts if part)).rstrip(". ")


def _status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod.get("status") or {}


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """The condition of this type in an object's status; empty without it."""
    conditions = _status(obj).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == type_), {})
