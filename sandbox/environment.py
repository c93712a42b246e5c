"""The file that tells a shell where the sandbox is: `. .sandbox/env`.

Callers: `__main__` writes it after `up`; the Makefile, the demo and people read it. Not here: starting anything.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path


def render(variables: Mapping[str, str], *, path_first: Path) -> str:
    """Return shell `export` lines; `path_first` is put in front of the reader's own PATH."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(path_first))}:"$PATH"')
    return "".join(f"{line}\n" for line in lines)


def write(path: Path, content: str) -> None:
    """Replace the file at once, so that nobody sources half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(content)
    partial.replace(path)


def link_commands(folder: Path, commands: Sequence[Path]) -> None:
    """Make `folder` hold one link per command, whatever it held before."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        link = folder / command.name
        link.unlink(missing_ok=True)
        link.symlink_to(command)
