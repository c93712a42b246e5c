"""No kubectl process outlives its `Follower`, however that ends. kubectl is a script in these tests."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.demo.cluster import Cluster
from examples.demo.errors import WaitFailedError
from examples.demo.follow import Follower
from examples.demo.place import ROOT

FOLLOWING = """
import signal, sys, time
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it as ignored
with Follower(Cluster({"PATH": sys.argv[1]}, "here"), "triage", tell=lambda line: None):
    while True:  # pause() would miss a signal just before it
        time.sleep(0.1)
"""
EVENT = '{"type": "ADDED", "object": {"metadata": {"name": "triage"}}}'
PATIENCE = 20


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a kubectl that writes its process id to a pipe, prints one object, and then keeps running."""
    os.mkfifo(tmp_path / "started")
    script = tmp_path / "kubectl"
    script.write_text(f"#!/bin/sh\necho $$ >{tmp_path / 'started'}\necho '{EVENT}'\nexec sleep 300\n")
    script.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.fixture
def watches(tmp_path: Path, path: str) -> Iterator[Callable[[int], list[int]]]:
    """Waits for a number of kubectl processes and returns their pidfds; a process id alone could be reused."""
    assert path
    pipe = os.open(tmp_path / "started", os.O_RDWR)
    handles: list[int] = []

    def started(count: int) -> list[int]:
        ids = ""
        while ids.count("\n") < count:
            assert readable(pipe), f"only these processes have started: {ids.split()}"
            ids += os.read(pipe, 4096).decode()
        handles.extend(os.pidfd_open(int(number)) for number in ids.split())
        return handles

    yield started
    for handle in handles:
        if not readable(handle, 0):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    os.close(pipe)


def readable(file: int, seconds: float = PATIENCE) -> bool:
    """Whether a file has data within `seconds`; for a pidfd, whether the process has ended."""
    return bool(select.select([file], [], [], seconds)[0])


def test_leaving_the_context_ends_both_watches(path: str, watches: Callable[[int], list[int]]) -> None:
    with Follower(Cluster({"PATH": path}, "here"), "triage", tell=lambda _: None) as follower:
        running = watches(2)
        found = follower.wait_for("the object exists", bool, PATIENCE)
        assert found["metadata"]["name"] == "triage"
    assert all(readable(handle, 0) for handle in running)


def test_failed_wait_leaves_no_watch(path: str, watches: Callable[[int], list[int]]) -> None:
    follower = Follower(Cluster({"PATH": path}, "here"), "triage")
    with follower:
        running = watches(1)
        with pytest.raises(WaitFailedError, match="See `kubectl describe llmdep`"):
            follower.wait_for("this never happens", lambda _: False, 0.1)
    assert all(readable(handle, 0) for handle in running)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killed_program_leaves_no_watch(ending: signal.Signals, path: str, watches: Callable[[int], list[int]]) -> None:
    command = [sys.executable, "-c", FOLLOWING, path]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as program:
        running = watches(2)
        program.send_signal(ending)
        try:
            assert program.wait(PATIENCE) != 0
        finally:
            program.kill()
    assert all(readable(handle) for handle in running)
