"""The control groups that the kubelet puts its pods under; they are the machine's own and outlive the namespaces.

Callers: `full_tier` makes them, `traces` removes them. Not here: limits, which the kubelet sets.
"""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.host import processes

NAME = "serin-sandbox"
_ROOT = Path("/sys/fs/cgroup")


def remove() -> None:
    """Remove the node's control groups, innermost first; they are empty once its processes have ended."""

    def removed() -> bool:
        for top in _tops():
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    # Busy for a moment after the last process ended; the next round tries again.
                    continue
        return not _tops()

    processes.wait_until(
        removed,
        seconds=15,
        failure=lambda: (
            f"Control groups under {_tops()[0]} cannot be removed because a process still uses them. "
            "Find it in a cgroup.procs file there, end it, then run `make down` again."
        ),
    )


def make() -> None:
    """Make the control group that the kubelet puts its pods under, in every hierarchy."""
    if (_ROOT / "cgroup.controllers").exists():
        (_ROOT / NAME).mkdir(exist_ok=True)
        return
    for hierarchy in _ROOT.iterdir():
        if hierarchy.is_dir() and not hierarchy.is_symlink() and hierarchy.name != "unified":
            group = hierarchy / NAME
            group.mkdir(exist_ok=True)
            # A cpuset without processors and memory accepts no process.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists() and not (group / name).read_text().strip():
                    (group / name).write_text((hierarchy / name).read_text())


def present() -> bool:
    """Whether any control group of a sandbox is left."""
    return bool(_tops())


def _tops() -> list[Path]:
    return [*_ROOT.glob(NAME), *_ROOT.glob(f"*/{NAME}")]
