"""Processes by identity: started detached, found again later, and ended only if they are still the same process.

A pid alone may name another process later. An identity adds the start time and the boot, so that a stale record
(machine restarted, pid reused) matches nothing and ends nothing.
Callers: both tiers. Not here: what is started, namespaces, and programs that run to their end (`commands`).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot; `start` is in clock ticks since that boot."""

    pid: int
    start: int
    boot: str

    def as_json(self) -> dict[str, int | str]:
        """Return what `from_json` reads."""
        return {"pid": self.pid, "start": self.start, "boot": self.boot}


def from_json(value: object) -> Identity | None:
    """Return the identity that `as_json` wrote, or None for anything else."""
    match value:
        case {"pid": int(pid), "start": int(start), "boot": str(boot)} if pid > 1:
            return Identity(pid, start, boot)
        case _:
            return None


def identify(pid: int) -> Identity | None:
    """Return the identity of what runs under `pid` now; None if nothing does, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may itself hold blanks and parentheses: fields are counted from the last parenthesis.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]), boot_id())


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def alive(identity: Identity | None) -> bool:
    """Whether the process still runs."""
    return identity is not None and identify(identity.pid) == identity


def end(identities: Iterable[Identity], grace: float = 5.0) -> None:
    """End these processes: SIGTERM, and SIGKILL for those still there after `grace` seconds."""
    wanted = list(identities)
    handles = [(identity, handle) for identity in wanted if (handle := _open(identity)) is not None]
    try:
        for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            handles = _ended_after(handles, signum, patience)
    finally:
        for _, handle in handles:
            os.close(handle)
        # Children of this very process stay as zombies until they are collected.
        for identity in wanted:
            _collect(identity.pid)
    if handles:
        pids = ", ".join(str(identity.pid) for identity, _ in handles)
        raise SandboxError(
            f"Process {pids} did not end within 10 s of SIGKILL, probably because it waits for a device. "
            "Look at it with `ps`, then run the same command again."
        )


def _open(identity: Identity) -> int | None:
    """Return a handle on the process: a reused pid cannot come between the check and the signal. None if it ended."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if alive(identity):
        return handle
    os.close(handle)
    return None


def _ended_after(handles: list[tuple[Identity, int]], signum: int, patience: float) -> list[tuple[Identity, int]]:
    for _, handle in handles:
        try:
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + patience
    remaining = handles
    while remaining and time.monotonic() < deadline:
        select.select([handle for _, handle in remaining], [], [], _POLL)
        still = [pair for pair in remaining if alive(pair[0])]
        for pair in remaining:
            if pair not in still:
                os.close(pair[1])
        remaining = still
    return remaining


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    directory: Path,
    environment: Mapping[str, str],
    die_with_parent: bool = False,
) -> Identity:
    """Start `command` in a session of its own with its output in `log`, and return its identity.

    `die_with_parent` ties it to the calling *thread*: the kernel ends it when that thread ends, however it ends.
    """
    tied = ["setpriv", "--pdeathsig", "KILL", "--"] if die_with_parent else []
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*tied, *(str(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
    identity = identify(process.pid)
    # The identity is known; without this the handle would warn that the process outlives it.
    process.returncode = 0
    if identity is None:
        raise SandboxError(
            f"{Path(str(command[0])).name} ended as soon as it was started; {log} says why. "
            "Correct that and start again."
        )
    return identity


def happens(condition: Callable[[], bool], *, seconds: float, every: float = 0.1) -> bool:
    """Wait for `condition` and return whether it came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def wait_until(condition: Callable[[], bool], *, seconds: float, failure: Callable[[], str]) -> None:
    """Wait for `condition`; after `seconds` raise a SandboxError with the message that `failure` returns."""
    if not happens(condition, seconds=seconds):
        raise SandboxError(failure())
