"""What the machine must have: Linux, root where a node is run, free space, a few Debian packages.

Callers: `__main__` and the tiers, before anything is started. Every finding is one sentence that says what to do.
Deliberately not here: what the sandbox builds for itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import bounds

GIGABYTE = 1024**3
# Measured: Go's build cache 3 GB, its module cache 1.5 GB, binaries 0.7 GB; the cluster's own data, and some air.
COLD_BYTES = 8 * GIGABYTE
WARM_BYTES = GIGABYTE
# Command -> Debian package that has it.
PACKAGES = {
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def require_linux(platform: str = sys.platform) -> None:
    """Refuse any other system."""
    if platform != "linux":
        raise SandboxError(
            "The sandbox needs Linux (namespaces, cgroups, containerd); run it in a Linux virtual machine, "
            "or set KUBECONFIG to a cluster you have"
        )


def require_root(uid: int) -> None:
    """Refuse a user that may not make namespaces and mounts."""
    if uid != 0:
        raise SandboxError(
            "The full sandbox runs a node (namespaces, mounts, cgroups) and needs root; run it with `sudo`, "
            "or use TIER=api, which needs no root"
        )


def require_space(path: Path, needed: int, *, free: Callable[[Path], int] | None = None) -> None:
    """Refuse to begin what would fill the disk under `path`."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    available = free(existing) if free else shutil.disk_usage(existing).free
    if available < needed:
        raise SandboxError(
            f"{existing} has {available / GIGABYTE:.1f} GB free and {needed / GIGABYTE:.0f} GB are needed; "
            "free some space, or point SERIN_CACHE (and GOCACHE, GOMODCACHE) and SERIN_SANDBOX_DIR at a larger disk"
        )


def search_path() -> str:
    """PATH with the system directories that users other than root often lack."""
    present = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return ":".join([*present, *(folder for folder in _SBIN if folder not in present)])


def missing_packages(which: Callable[[str], str | None] | None = None) -> list[str]:
    """Return the Debian packages whose commands are not there, each once."""
    find = which or (lambda command: shutil.which(command, path=search_path()))
    return sorted({package for command, package in PACKAGES.items() if find(command) is None})


def install(packages: Sequence[str], note: Callable[[str], None]) -> None:
    """Install Debian packages by name; says so first, and does nothing for an empty list."""
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise SandboxError(
            f"The sandbox needs {names}, and this machine has no apt-get; install them with its package manager"
        )
    note(f"installing system packages that are missing: {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt may be at work: its lock is waited for, and not for ever.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]
    command = [*apt, "install", "-y", "--no-install-recommends", *packages]
    for attempt in (command, [*apt, "update"], command):
        done = bounds.finish(attempt, doing=f"installing {names}", seconds=bounds.PACKAGE_SECONDS, env=environment)
        if attempt is command and done.returncode == 0:
            return
    last = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()[-1:]
    raise SandboxError(
        f"apt-get cannot install {names} ({''.join(last)}); connect it to its package mirror or install them by hand"
    )
