"""The cache outside the checkout: where it is, how an entry is named, and how an entry appears only when complete.

Callers: everything that builds: the cluster's binaries, the images, vLLM's environment, the tiny model. Standard
library only: some callers run before anything is installed. Not here: what is built, and removing it (`make down` keeps
the cache). The Makefile and `.ci/environment` repeat the rule of `cache_root` for shells: change all three together.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.host import locks

KEY_LENGTH = 12
PARTIAL = ".partial-"
# Enough for a download of several gigabytes, or a training, on a busy machine.
LOCK_SECONDS = 3600.0


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache's folder: SERIN_CACHE, else XDG_CACHE_HOME/serin, else ~/.cache/serin."""
    home = environment.get("HOME") or str(Path.home())
    caches = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Path(environment.get("SERIN_CACHE") or f"{caches}/serin").expanduser().absolute()


def key_of(*parts: str | bytes) -> str:
    """Return a short name for content; every part counts, and so does where one part ends and the next begins."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:KEY_LENGTH]


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yield an empty directory that becomes `target` if the block succeeds, or None if `target` exists already.

    One process at a time builds a target; others wait for it. A block that fails leaves no `target`. The next builder
    removes what a killed builder left, of this target or of another.

    Raises:
        SandboxError: another process has been building `target` for an hour.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The lock comes before the check: two callers that start together must not build twice.
    with locks.held(_lock(target), seconds=LOCK_SECONDS, waiting=print):
        if target.is_dir():
            yield None
            return
        _sweep(target)
        # A new name: children of a builder that was killed may still write into its folder.
        partial = target.parent / f"{PARTIAL}{target.name}-{os.getpid()}"
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # Last: a reader that finds `target` finds all of it.
        partial.rename(target)


def _lock(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _sweep(target: Path) -> None:
    """Remove unfinished directories whose builder has ended; its lock ended with it."""
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
