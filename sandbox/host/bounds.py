"""Nothing waits for ever: locks that name their holder, and programs that are ended when their time is up.

Callers: whatever in the sandbox and in the model server's builders locks a file or runs a program to its end.
Not here: programs that go on running (`processes`), and waiting for a condition (`processes.wait_until`).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sandbox.errors import SandboxError

LOCK_SECONDS = 1800.0
BUILD_SECONDS = 1800.0
PACKAGE_SECONDS = 600.0
QUICK_SECONDS = 60.0
_POLL = 0.2


@contextmanager
def held(
    path: Path, *, seconds: float = LOCK_SECONDS, waiting: Callable[[str], None] | None = None
) -> Iterator[IO[str]]:
    """Hold the lock file `path` during the body; the lock goes with the process, however it ends.

    `waiting` is told once who holds it. Raises SandboxError after `seconds`, naming the holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    told = False
    while (lock := _try(path)) is None:
        holder = _holder(path)
        if waiting is not None and not told:
            waiting(f"waiting for {holder}, which holds {path}")
            told = True
        if time.monotonic() >= deadline:
            raise SandboxError(
                f"{holder[:1].upper()}{holder[1:]} has held {path} for more than {seconds:.0f} s; "
                "look at it with `ps`, end it if it hangs, then run the same command again"
            )
        time.sleep(_POLL)
    with lock:
        yield lock


def finish(
    command: Sequence[str | Path],
    *,
    doing: str,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return it with what it said; one that takes longer than `seconds` is ended."""
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    try:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False, timeout=seconds, **given)
    except subprocess.TimeoutExpired as error:
        raise SandboxError(
            f"{doing[:1].upper()}{doing[1:]} was ended because it took longer than {seconds:.0f} s; "
            "look at the network and at what else runs here (`uptime`), then run the same command again"
        ) from error


def _try(path: Path) -> IO[str] | None:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have removed the file: a lock on a file without a name keeps nobody out.
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            lock.truncate(0)
            lock.write(f"process {os.getpid()}\n")
            lock.flush()
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    lock.close()
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"
