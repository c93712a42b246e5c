"""Where built things live outside the repository, and how they get their names.

Called by the vLLM installer and by the tiny model's trainer. Standard library only, because both run before anything is
installed. Not here: what is built, and when it is thrown away (`make down` keeps the cache on purpose).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import bounds

KEY_LENGTH = 12
PARTIAL = ".partial-"
# Several gigabytes over a slow line, or a training, on a busy machine.
LOCK_SECONDS = 3600.0


def cache_root() -> Path:
    """The cache directory: SERIN_CACHE, else XDG_CACHE_HOME/serin, else ~/.cache/serin."""
    explicit = os.environ.get("SERIN_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "serin"


def key_of(*parts: str | bytes) -> str:
    """A short name for content: each part counts, and so does where one part ends and the next begins."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:KEY_LENGTH]


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yield an empty directory that becomes `target` when the block succeeds, or None when `target` is there already.

    One builder at a time per target, across processes; others wait for it, an hour at most (SandboxError). A block that
    fails leaves no `target`; what a killed builder left behind, of this target or of another, the next one removes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The lock comes before the look: two callers that start together must not build twice.
    with bounds.held(_lock(target), seconds=LOCK_SECONDS, waiting=print):
        if target.is_dir():
            yield None
            return
        _sweep(target)
        # Never the name an earlier builder had: when that one was killed, its children may still be writing there.
        partial = target.parent / f"{PARTIAL}{target.name}-{os.getpid()}"
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # The last act: whoever sees `target` sees all of it.
        partial.rename(target)


def _lock(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _sweep(target: Path) -> None:
    """Remove unfinished directories whose builder is gone: its lock went with it."""
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
