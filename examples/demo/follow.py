"""Follows one LLMDeployment by two watches: one whose lines people see, one that the story waits on.

Called by scenes and by the end-to-end tests. Every state that was seen is kept, so that one can ask afterwards what was
true all along. Not here: judging (scenes).
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
from examples.demo.errors import Waited

RESTARTS = 100
"""A watch ends when the API server closes it; it is then begun again, so many times at most."""
Predicate = Callable[[Object], bool]


class Follower:
    """Use it as a context: inside, `states` grows by every change of the LLMDeployment."""

    def __init__(self, cluster: Cluster, name: str, tell: Callable[[str], None] | None = None) -> None:
        self.states: list[tuple[float, Object]] = []
        """Seconds since the epoch, and the object as it became then."""
        self._cluster = cluster
        self._name = name
        self._tell = tell
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Follower:
        """Begin to watch."""
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
        """The object as it is now, as far as is known; empty before the first change is seen."""
        return self.states[-1][1] if self.states else {}

    def wait_for(
        self, what: str, holds: Predicate, seconds: float, *, never: Predicate = lambda _: False, since: float = 0.0
    ) -> Object:
        """Wait until a state that was seen after `since` holds, and return it.

        Raises:
            Waited: it did not within `seconds`, or a state came that `never` was to come.
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
                    raise Waited(f"Waited for this and it did not come: {what}; {_where(state)}.")
            if not fresh and time.monotonic() >= deadline:
                raise Waited(f"Waited {seconds:.0f} s for this: {what}; {_where(self.latest)}.")

    def _after(self, seen: int, deadline: float) -> list[tuple[float, Object]]:
        """States beyond the first `seen`, waited for until the deadline of the monotonic clock."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.states) > seen, max(0.0, deadline - time.monotonic()))
            return self.states[seen:]

    def _begin(self, output: str, read: Callable[[subprocess.Popen[str]], None]) -> None:
        thread = threading.Thread(target=self._watch, args=(output, read), name=f"follow-{output}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, output: str, read: Callable[[subprocess.Popen[str]], None]) -> None:
        command = [*_tied(), "kubectl", "--namespace", self._cluster.namespace, "get", "llmdeployments", "--watch"]
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
        """Hand on kubectl's own lines, but not those in which nothing but the age has changed."""
        shown: list[str] = []
        for line in process.stdout or ():
            words = line.split()[:-1]
            if self._tell and words != shown:
                self._tell(line.rstrip())
            shown = words


def _tied() -> list[str]:
    """What makes a program end with us, even where nobody can clean up: a test run that is killed, a lost terminal.

    The kernel watches the thread that started the program; ours lives as long as the program does.
    """
    # Only Linux has it; elsewhere the context's own end has to do.
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _where(state: Object) -> str:
    status: dict[str, Any] = state.get("status") or {}
    return f"phase is {status.get('phase')}: {status.get('message')} See `kubectl describe llmdep`"
