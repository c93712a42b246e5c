"""The cache directory outside the repository: names of built files, and builds that appear complete or not at all.

Called by the vLLM installer, the tiny model's trainer and the light image. Standard library only, because callers run
before anything is installed. Not here: what is built. Nothing removes entries (`make down` keeps the cache on purpose).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.host import bounds

KEY_LENGTH = 12
PARTIAL = ".partial-"
# Enough for a download of several gigabytes, or a training, on a busy machine.
LOCK_SECONDS = 3600.0


def cache_root() -> Path:
    """The cache directory: SERIN_CACHE, else XDG_CACHE_HOME/serin, else ~/.cache/serin."""
    explicit = os.environ.get("SERIN_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "serin"


def key_of(*parts: str | bytes) -> str:
    """A hash of the parts, in 12 hex digits; also the boundaries between parts matter."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:KEY_LENGTH]


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yield an empty directory that becomes `target` if the block succeeds, or None if `target` exists already.

    One process at a time builds a target; others wait for it. A block that fails leaves no `target`. Directories that
    killed builds left behind, of any target, are removed.

    Raises:
        SandboxError: another process has been building `target` for an hour.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Lock before the check: two callers that start together must not build twice.
    with bounds.held(_lock(target), seconds=LOCK_SECONDS, waiting=print):
        if target.is_dir():
            yield None
            return
        _sweep(target)
        # Never reuse the directory of a killed build: its child processes may still be writing there.
        partial = target.parent / f"{PARTIAL}{target.name}-{os.getpid()}"
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # Last, so that `target` is complete as soon as it exists.
        partial.rename(target)


def _lock(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _sweep(target: Path) -> None:
    """Remove unfinished directories whose builder has ended; the kernel has released its lock."""
    for stale in target.parent.glob(f"{PARTIAL}*"):
        name = stale.name.removeprefix(PARTIAL).rpartition("-")[0]
        if name == target.name:
            shutil.rmtree(stale, ignore_errors=True)
            continue
        with _lock(target.parent / name).open("a") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(stale, ignore_errors=True)
