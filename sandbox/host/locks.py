"""Lock files that name their holder; a wait for one ends after a bounded time.

Callers: what builds into the cache or changes the sandbox. Not here: programs that run too long (`commands`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sandbox.errors import SandboxError

LOCK_SECONDS = 1800.0
_POLL = 0.2


@contextmanager
def held(
    path: Path, *, seconds: float = LOCK_SECONDS, waiting: Callable[[str], None] | None = None
) -> Iterator[IO[str]]:
    """Hold the lock file `path` during the body; the kernel releases it when the process ends.

    `waiting` is called once with a sentence that names the holder.

    Raises:
        SandboxError: another process held the lock for `seconds`; the message names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    announced = False
    while (lock := _try(path)) is None:
        holder = _holder(path)
        if waiting is not None and not announced:
            waiting(f"waiting for {holder}, which holds {path}")
            announced = True
        if time.monotonic() >= deadline:
            raise SandboxError(
                f"{holder[:1].upper()}{holder[1:]} has held {path} for more than {seconds:.0f} s. "
                "Look at it with `ps`, end it if it hangs, then run the same command again."
            )
        time.sleep(_POLL)
    with lock:
        yield lock


def _try(path: Path) -> IO[str] | None:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed the file: a lock on a file without a name excludes no other process.
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
