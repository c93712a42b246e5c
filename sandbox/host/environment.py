"""The file that tells a shell where the sandbox is (`. .sandbox/env`), and the variables of clients.

Callers: the verb `up` writes the file; the Makefile, the demo and people read it. Not here: starting anything.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.host.layout import Layout

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def render(variables: Mapping[str, str], *, path_first: Path) -> str:
    """Return shell `export` lines; `path_first` is put in front of the reader's own PATH."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(path_first))}:"$PATH"')
    return "".join(f"{line}\n" for line in lines)


def client_variables(layout: Layout, addresses: Sequence[str], given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that make clients use no proxy for the sandbox and no folder of the user's home."""
    known = [each.strip() for name in ("NO_PROXY", "no_proxy") for each in given.get(name, "").split(",")]
    exempt = ",".join(dict.fromkeys(each for each in (*known, *LOOPBACK, *addresses) if each))
    return {
        "NO_PROXY": exempt,
        "no_proxy": exempt,
        "KUBECACHEDIR": str(layout.home / "kubectl"),
        "HELM_CACHE_HOME": str(layout.home / "helm" / "cache"),
        "HELM_CONFIG_HOME": str(layout.home / "helm" / "config"),
        "HELM_DATA_HOME": str(layout.home / "helm" / "data"),
    }


def write(path: Path, content: str) -> None:
    """Replace the file atomically: a shell sources the old lines or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(content)
    partial.replace(path)


def link_commands(folder: Path, programs: Sequence[Path]) -> None:
    """Make or replace one link per program in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        link = folder / program.name
        link.unlink(missing_ok=True)
        link.symlink_to(program)
