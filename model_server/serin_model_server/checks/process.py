"""The child process that judges answers for one API server, and the thread that talks to it.

A thread of this process would share the interpreter lock with the event loop: one pattern of a schema can hold it for
seconds. The thread here only writes to one pipe and reads from another. The queue in front of it is bounded. A check
that exceeds its time ends the child, which is started again for the next one; that check is then left out for a while,
so that it cannot starve the others. Every answer that is not judged is `skipped`.
"""

from __future__ import annotations

import logging
import marshal
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import NamedTuple

from .answer import SKIPPED, Choice
from .child import CODES, READY

log = logging.getLogger("serin_model_server")

MOST_WAITING = 256
"""Answers in the queue."""
SECONDS = 5.0
"""Longest time of one check of one answer; the kernel ends the child earlier, by the time of the processor."""
START_SECONDS = 20.0
REST_SECONDS = 10.0
"""How long a check that has exceeded its time is left out, and how long after a failed start none is tried."""
IDLE_SECONDS = 60.0
"""Without an answer for so long, the child is ended; the next answer starts it."""
_MOST_RESTING = 64
_PACKAGE = "serin_checks"
# Only this package is imported, under a name of its own: not the middleware, and not what the working directory has.
_PROGRAM = f"""
import importlib.util, sys
sys.path[:] = [entry for entry in sys.path if entry]
spec = importlib.util.spec_from_file_location("{_PACKAGE}", sys.argv[1] + "/__init__.py",
                                              submodule_search_locations=[sys.argv[1]])
sys.modules["{_PACKAGE}"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import {_PACKAGE}.child
{_PACKAGE}.child.main()
"""


class Job(NamedTuple):
    """The checks of one answer."""

    tasks: tuple[str, ...]
    choices: tuple[Choice, ...]
    done: Callable[[Sequence[str]], None]
    """Called once, in the thread, with the results in the order of the tasks."""


class CheckProcess:
    """The queue, its thread and its child process.

    Args:
        seconds: longest time of one check of one answer.
        waiting: most answers in the queue.
        idle: seconds without an answer after which the child is ended.
        rest: seconds for which a check is left out that has exceeded its time.
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        waiting: int = MOST_WAITING,
        idle: float = IDLE_SECONDS,
        rest: float = REST_SECONDS,
    ) -> None:
        self._seconds, self._idle, self._rest = seconds, idle, rest
        self._queue: Queue[Job] = Queue(waiting)
        self._thread: threading.Thread | None = None
        self._child: _Child | None = None
        self._resting: dict[str, float] = {}
        """By task, until when it is left out."""
        self._no_start_until = 0.0
        self.starts = 0
        """How many children were started."""

    def submit(self, job: Job) -> bool:
        """Let the answer be judged; False if too many wait already."""
        try:
            self._queue.put_nowait(job)
        except Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="serin-checks", daemon=True)
            self._thread.start()
        return True

    def _run(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=self._idle)
            except Empty:
                self._end_child()
                continue
            try:
                self._finish(job)
            except Exception:
                self._end_child()
                log.warning("The checks of an answer failed and are not counted.", exc_info=True)

    def _finish(self, job: Job) -> None:
        results = [SKIPPED] * len(job.tasks)
        try:
            self._judge(job, results)
        finally:
            job.done(results)

    def _judge(self, job: Job, results: list[str]) -> None:
        now = time.monotonic()
        self._resting = {task: until for task, until in self._resting.items() if until > now}
        left = deque(place for place, task in enumerate(job.tasks) if task not in self._resting)
        while left and (child := self._started()):
            for result in child.ask([job.tasks[place] for place in left], job.choices, self._seconds):
                results[left.popleft()] = result
            if left:
                # The first that is left took too long, or ended the child.
                self._end_child()
                if len(self._resting) < _MOST_RESTING:
                    self._resting[job.tasks[left[0]]] = time.monotonic() + self._rest
                left.popleft()

    def _started(self) -> _Child | None:
        """The child, started if there is none; None if it does not start."""
        now = time.monotonic()
        if self._child is None and now >= self._no_start_until:
            self.starts += 1
            try:
                self._child = _Child()
            except OSError as error:
                self._no_start_until = now + self._rest
                log.warning("The process for checks does not start: %s. Checks are counted as skipped.", error)
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """One child process."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: it does not start, or is not ready in time.
        """
        hidden = {"PROMETHEUS_MULTIPROC_DIR", "PYTHONSTARTUP"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            cwd="/",
            # A signal to the engine's group is not for it; it ends with its input.
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("it has no pipes")
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        if self._byte(START_SECONDS) != READY:
            self.end()
            raise OSError(f"it was not ready within {START_SECONDS:g} s")

    def ask(self, tasks: Sequence[str], choices: Sequence[Choice], seconds: float) -> Iterator[str]:
        """The results of the tasks, one after the other; fewer if one takes too long or the child ends."""
        content = marshal.dumps((tuple(tasks), [tuple(choice) for choice in choices]))
        if not self._write(len(content).to_bytes(4, "big") + content, seconds):
            return
        for _ in tasks:
            code = self._byte(seconds)
            if code is None or code >= len(CODES):
                return
            yield CODES[code]

    def _write(self, data: bytes, seconds: float) -> bool:
        rest, until = memoryview(data), time.monotonic() + seconds
        while rest:
            if not self._ready(self._to, select.POLLOUT, until - time.monotonic()):
                return False
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    def _byte(self, seconds: float) -> int | None:
        if not self._ready(self._from, select.POLLIN, seconds):
            return None
        found = os.read(self._from, 1)
        return found[0] if found else None

    @staticmethod
    def _ready(descriptor: int, event: int, seconds: float) -> bool:
        # Not select(), which knows only descriptors below 1024.
        poll = select.poll()
        poll.register(descriptor, event)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()
