"""What a full sandbox leaves on the machine outside its namespaces: finding and removing it.

That is the cable and the control groups; the kernel removes everything else together with the namespaces.
Callers: `full_tier` and the verb `down`. Not here: ending a sandbox that runs in this checkout (`full_tier`).
"""

from __future__ import annotations

from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.node import cgroups, namespaces, network


def present(state: Path) -> bool:
    """Whether there are files in `state`, a full sandbox that runs, or leftovers of one."""
    return state.exists() or bool(namespaces.find_all()) or network.present() or cgroups.present()


def refuse_others(state: Path) -> None:
    """Refuse a second full sandbox on this machine; one whose state directory is gone is ended instead."""
    for init in namespaces.find_all():
        if init.state == state:
            continue
        if init.state.exists():
            where = init.state.parent
            raise SandboxError(
                f"The full sandbox cannot start because another one runs on this machine, from {where}. "
                "Run `make down` there."
            )
        namespaces.destroy(init)


def remove_leftovers() -> None:
    """Remove the cable and control groups of sandboxes that have ended; does nothing while one runs."""
    if namespaces.find_all():
        return
    network.disconnect()
    cgroups.remove()
