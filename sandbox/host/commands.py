"""Programs that run to their end within a bounded time: their output, or one error that says what to do.

Callers: everything here, in `.ci/`, in `model_server` and in `examples` that runs a program. Not here: programs that go
on running (`processes`), and locks (`locks`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sandbox.errors import CommandError, SandboxError

BUILD_SECONDS = 1800.0
PACKAGE_SECONDS = 600.0
QUICK_SECONDS = 60.0


def finish(
    command: Sequence[str | Path],
    *,
    doing: str,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return its status and output.

    Raises:
        SandboxError: the program is not on the PATH, or was ended because it took longer than `seconds`.
    """
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    try:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False, timeout=seconds, **given)
    except FileNotFoundError as error:
        # Also raised for a working directory that does not exist, which would be a defect of ours.
        if cwd is not None and not cwd.is_dir():
            raise
        raise SandboxError(
            f"{_capital(doing)} failed because {command[0]} is not on the PATH. Install it, or run `make sandbox`."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SandboxError(
            f"{_capital(doing)} was ended because it took longer than {seconds:.0f} s. "
            "Look at the network and at what else runs here (`uptime`), then run the same command again."
        ) from error


def output(
    command: Sequence[str | Path],
    *,
    doing: str,
    seconds: float,
    advice: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises:
        CommandError: it failed; the message ends with `advice`.
        SandboxError: as `finish`.
    """
    done = finish(command, doing=doing, seconds=seconds, env=env, stdin=stdin)
    if done.returncode != 0:
        raise CommandError(doing=_capital(doing), stderr=done.stderr.decode(errors="replace"), advice=advice)
    return done.stdout.decode(errors="replace")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
