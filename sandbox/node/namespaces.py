"""The node's own namespaces: process 1 inside holds mounts, pids and network; when it ends, the kernel removes them.

Process 1 is our `pause` with the state directory as its argument, so that any later run finds it, from any checkout.
Processes inside are known by their identity outside. Callers: `full_tier`, `keeper`, `image_store`, `binds`, `traces`.
Not here: what runs inside, the veth pair (`network`) and the control groups (`cgroups`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import commands, processes
from sandbox.host.processes import Identity

MARK = "--serin-sandbox-state"
_LAUNCH = 'setsid "$@" </dev/null >>"$SERIN_LOG" 2>&1 & echo $!'


@dataclass(frozen=True, slots=True)
class Init:
    """Process 1 of a sandbox's namespaces, seen from outside, and the state directory it belongs to."""

    identity: Identity
    state: Path


def find_all() -> list[Init]:
    """Return process 1 of every full sandbox on this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            inner = _namespace_pids(folder)[-1]
        except (OSError, IndexError):
            continue
        if len(arguments) >= 3 and arguments[1] == MARK.encode() and inner == 1:
            identity = processes.identify(int(folder.name))
            if identity is not None:
                found.append(Init(identity, Path(os.fsdecode(arguments[2]))))
    return found


def create(pause: Path, state: Path) -> Init:
    """Make the namespaces for `state` and prepare their mounts."""
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--mount-proc",
        "--kill-child",
        str(pause),
        MARK,
        str(state),
    ]
    processes.spawn(
        command, log=state / "init.log", directory=Path("/"), environment={"PATH": os.environ.get("PATH", "")}
    )
    processes.wait_until(lambda: _of(state) is not None, seconds=10, failure=lambda: _refused(state))
    init = _of(state)
    if init is None:
        raise SandboxError(_refused(state))
    run(init, ["sh", "-eu", str(Path(__file__).with_name("setup.sh")), str(state)])
    return init


def destroy(init: Init) -> None:
    """End process 1; the kernel ends everything inside and removes mounts and interfaces."""
    inside = [
        Identity(pid, each.start, each.boot) for pid in members(init) if (each := processes.identify(pid)) is not None
    ]
    # Process 1 ignores signals from inside, never SIGKILL from outside.
    processes.end([init.identity], grace=0.0)
    processes.wait_until(
        lambda: not any(processes.alive(each) for each in inside),
        seconds=20,
        failure=lambda: (
            "Processes of the sandbox still run 20 s after their process 1 was killed. "
            "Look at them with `ps`, then run `make down` again."
        ),
    )


def mount_points(init: Init) -> set[str]:
    """Return the mount points inside."""
    lines = Path(f"/proc/{init.identity.pid}/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines}


def members(init: Init) -> list[int]:
    """Return the outside pids of everything that runs inside, process 1 included."""
    namespace = _namespace(init.identity.pid)
    folders = (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return [int(folder.name) for folder in folders if namespace and _namespace(int(folder.name)) == namespace]


def run(init: Init, command: Sequence[str], *, stdin: bytes | Path | None = None) -> str:
    """Run a command inside to its end and return what it prints."""
    full, doing = _enter(init, command), f"`{' '.join(command[:4])}` on the node"
    if isinstance(stdin, Path):
        with stdin.open("rb") as content:
            done = commands.finish(full, doing=doing, seconds=commands.PACKAGE_SECONDS, stdin=content)
    else:
        done = commands.finish(full, doing=doing, seconds=commands.PACKAGE_SECONDS, stdin=stdin)
    if done.returncode != 0:
        sentence = done.stderr.decode(errors="replace").strip()[-400:]
        raise SandboxError(
            f"`{' '.join(command[:4])}` failed on the node ({sentence}). Run `make down`, then start again."
        )
    return done.stdout.decode(errors="replace")


def spawn(init: Init, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> Identity:
    """Start a command inside, detached, with its output in `log`, and return its identity outside."""
    log.parent.mkdir(parents=True, exist_ok=True)
    launch = _enter(init, ["sh", "-c", _LAUNCH, "sh", *command])
    name = Path(command[0]).name
    variables = {**environment, "SERIN_LOG": str(log)}
    done = commands.finish(launch, doing=f"starting {name}", seconds=commands.QUICK_SECONDS, env=variables)
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        sentence = done.stderr.decode(errors="replace").strip()
        raise SandboxError(f"{name} cannot be started on the node ({sentence}). Run `make down`, then start again.")
    inner = int(done.stdout)
    for pid in members(init):
        if _namespace_pids(Path(f"/proc/{pid}"))[-1:] == [inner]:
            identity = processes.identify(pid)
            if identity is not None:
                return identity
    raise SandboxError(f"{name} ended as soon as it was started; {log} says why. Correct that and start again.")


def _enter(init: Init, command: Sequence[str]) -> list[str]:
    return ["nsenter", "--target", str(init.identity.pid), "--mount", "--pid", "--net", "--wd=/", "--", *command]


def _of(state: Path) -> Init | None:
    return next((init for init in find_all() if init.state == state), None)


def _refused(state: Path) -> str:
    log = state / "init.log"
    sentence = log.read_text().strip() if log.exists() else "no output"
    return f"The kernel refused new namespaces ({sentence}). Give this root CAP_SYS_ADMIN, or use TIER=api."


def _namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _namespace_pids(folder: Path) -> list[int]:
    """Return the pids of a process, outermost namespace first."""
    try:
        for line in (folder / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(part) for part in line.split()[1:]]
    except OSError:
        pass
    return []
