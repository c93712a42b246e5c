"""Watches one LLMDeployment with two kubectl processes: one prints lines, the other records states.

Called by scenes and by the end-to-end tests. All states are stored, so that callers can check them afterwards.
Not here: expectations about states (scenes).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from examples.demo.cluster import Cluster, Object
from examples.demo.errors import WaitFailedError
from sandbox.host.kubectl import Kubectl

RESTARTS = 100
"""The API server ends a watch now and then; it is restarted at most this many times."""
Predicate = Callable[[Object], bool]


class Follower:
    """A context in which `states` records every change of the LLMDeployment."""

    def __init__(self, cluster: Cluster, name: str, tell: Callable[[str], None] | None = None) -> None:
        self.states: list[tuple[float, Object]] = []
        """Time in seconds since 1970, and the object at that time; oldest first."""
        self._cluster = cluster
        self._name = name
        self._tell = tell
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Follower:
        """Start both watches."""
        try:
            self._begin("json", self._read_objects)
            if self._tell:
                self._begin("table", self._read_lines)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both watches."""
        self._stop.set()
        for process in list(self._processes.values()):
            process.terminate()
        for thread in self._threads:
            thread.join(10)

    @property
    def latest(self) -> Object:
        """The latest recorded state of the object; empty before the first one."""
        return self.states[-1][1] if self.states else {}

    def wait_for(
        self, what: str, holds: Predicate, seconds: float, *, never: Predicate = lambda _: False, since: float = 0.0
    ) -> Object:
        """Wait for a state, recorded after `since`, for which `holds` is true, and return it.

        Args:
            what: the state as a clause, for the error message.
            holds: whether a state is the expected one.
            seconds: how long to wait.
            never: whether a state means that the expected one will not occur any more.
            since: seconds since 1970.

        Raises:
            WaitFailedError: the state did not occur within `seconds`, or `never` was true for one.
        """
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            fresh = self._after(seen, deadline)
            seen += len(fresh)
            for at, state in fresh:
                if at >= since and holds(state):
                    return state
                if at >= since and never(state):
                    raise WaitFailedError(f"This did not happen: {what}. {_where(state)}.")
            if not fresh and time.monotonic() >= deadline:
                raise WaitFailedError(f"This did not happen within {seconds:.0f} s: {what}. {_where(self.latest)}.")

    def _after(self, seen: int, deadline: float) -> list[tuple[float, Object]]:
        """The states after the first `seen`; waits for one until the deadline on the monotonic clock."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.states) > seen, max(0.0, deadline - time.monotonic()))
            return self.states[seen:]

    def _begin(self, output: str, read: Callable[[subprocess.Popen[str]], None]) -> None:
        thread = threading.Thread(target=self._watch, args=(output, read), name=f"follow-{output}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, output: str, read: Callable[[subprocess.Popen[str]], None]) -> None:
        kubectl = Kubectl(self._cluster.environment, ["--namespace", self._cluster.namespace])
        command = [*_ending_with_parent(), *kubectl.command("get", "llmdeployments", "--watch")]
        command += [f"--field-selector=metadata.name={self._name}"]
        if output == "json":
            command += ["--output=json", "--output-watch-events"]
        for _ in range(RESTARTS):
            if self._stop.is_set():
                return
            with subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=dict(self._cluster.environment),
            ) as process:
                self._processes[output] = process
                if self._stop.is_set():
                    process.terminate()
                read(process)
            self._stop.wait(1)

    def _read_objects(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            event = json.loads(line)
            if event["type"] in {"ADDED", "MODIFIED"}:
                self._note(event["object"])

    def _note(self, state: Object) -> None:
        with self._changed:
            if state != self.latest:
                self.states.append((time.time(), state))
                self._changed.notify_all()

    def _read_lines(self, process: subprocess.Popen[str]) -> None:
        """Print kubectl's lines, except those that differ from the previous line only in the age."""
        printed: list[str] = []
        for line in process.stdout or ():
            words = line.split()[:-1]
            if self._tell and words != printed:
                self._tell(line.rstrip())
            printed = words


def _ending_with_parent() -> list[str]:
    """A command prefix that lets the kernel end a program when the thread that started it ends.

    Needed if the demo is killed and cannot clean up. The starting thread waits for the program, so it ends too early
    in no other case.
    """
    # setpriv exists on Linux only; elsewhere leaving the context must be enough.
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _where(state: Object) -> str:
    status: dict[str, Any] = state.get("status") or {}
    return f"The phase is {status.get('phase')}: {status.get('message')} See `kubectl describe llmdep`"
