"""What a full sandbox leaves on the machine while it lives, and what a killed one leaves behind: found and removed.

The cable and the control groups are the machine's own; everything else lies in namespaces and goes with them.
Callers: `full_tier` and `__main__`. Not here: ending a sandbox that runs in this checkout (`full_tier`).
"""

from __future__ import annotations

from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.node import namespaces, network


def present(state: Path) -> bool:
    """Whether anything of a full sandbox is here: files in `state`, a running one, or leftovers."""
    return state.exists() or bool(namespaces.find_all()) or network.present() or namespaces.cgroups_present()


def refuse_others(state: Path) -> None:
    """Only one full sandbox fits on a machine; one whose checkout is gone belongs to nobody and is ended."""
    for init in namespaces.find_all():
        if init.state == state:
            continue
        if init.state.exists():
            where = init.state.parent
            raise SandboxError(f"Another full sandbox runs on this machine, from {where}; run `make down` there")
        namespaces.destroy(init)


def remove_leftovers() -> None:
    """Remove cable and control groups of sandboxes that no longer run; does nothing while one runs."""
    if namespaces.find_all():
        return
    network.disconnect()
    namespaces.remove_cgroups()
