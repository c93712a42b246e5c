"""What the demo needs of this machine, checked in one second before it spends minutes on builds.

Called by the demo first of all. Every refusal says what is missing, why it is needed, and what to do. Not here: what is
installed or built when it is missing (`machine`, `builds`).
"""

from __future__ import annotations

import os

from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.errors import SandboxError
from sandbox.host import machine
from sandbox.host.layout import Layout, from_environment
from sandbox.images import debian_base

# Measured: vLLM for CPUs takes 6 GB, and its downloads pass through the same disk.
ENGINE_BYTES = 10 * machine.GIGABYTE


def check_demo(layout: Layout | None = None) -> None:
    """Refuse a machine on which the demo in the sandbox would fail later.

    Raises:
        SandboxError: it is not Linux on x86_64, not Debian 12, not run by root, or has too little disk.
    """
    here = layout or from_environment()
    machine.require_linux()
    require_processor(os.uname().machine)
    debian_base.system_name()
    machine.require_root(os.geteuid())
    machine.require_space(here.cache, needed(here))
    machine.require_space(here.state, machine.WARM_BYTES)


def require_processor(name: str) -> None:
    """Refuse a processor for which there is no lock file of vLLM."""
    if name != "x86_64":
        raise SandboxError(
            f"The demo cannot run on {name} because its engine, vLLM for CPUs, is locked for x86_64 only. "
            "Run it on an x86_64 machine, or set KUBECONFIG to a cluster that you have."
        )


def needed(layout: Layout) -> int:
    """Return how many bytes the demo will still write below the cache."""
    cluster = machine.COLD_BYTES if Cache(layout).missing(pins.full_tier(pins.CONTOUR)) else machine.WARM_BYTES
    environments = layout.cache / "vllm"
    built = environments.is_dir() and any(not entry.name.startswith(".") for entry in environments.iterdir())
    return cluster + (0 if built else ENGINE_BYTES)
