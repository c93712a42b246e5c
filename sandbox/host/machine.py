"""What the machine must have: Linux, root where a node is run, free space, a few Debian packages.

Callers: the verbs and the tiers, before they start anything. Every refusal says what is missing, why it is needed, and
what to do. Not here: what the sandbox builds for itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import commands

GIGABYTE = 1024**3
# Measured: Go's build cache 3 GB, its module cache 1.5 GB, binaries 0.7 GB; the cluster's own data, and a reserve.
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
            f"The sandbox cannot run on {platform} because it needs Linux (namespaces, cgroups, containerd). "
            "Run it in a Linux virtual machine, or set KUBECONFIG to a cluster that you have."
        )


def require_root(uid: int) -> None:
    """Refuse a user who may not make namespaces and mounts."""
    if uid != 0:
        raise SandboxError(
            "The full sandbox cannot run without root because it runs a node (namespaces, mounts, cgroups). "
            "Run it with `sudo`, or use TIER=api, which needs no root."
        )


def require_space(path: Path, needed: int, *, free: Callable[[Path], int] | None = None) -> None:
    """Refuse to begin if the disk of `path` has fewer than `needed` bytes free."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    available = free(existing) if free else shutil.disk_usage(existing).free
    if available < needed:
        raise SandboxError(
            f"The disk is too full: {existing} has {available / GIGABYTE:.1f} GB free and "
            f"{needed / GIGABYTE:.0f} GB are needed. Free some space, or point SERIN_CACHE (and GOCACHE, GOMODCACHE) "
            "and SERIN_SANDBOX_DIR at a larger disk."
        )


def search_path() -> str:
    """Return PATH with the system directories that users other than root often lack."""
    present = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return ":".join([*present, *(folder for folder in _SBIN if folder not in present)])


def missing_packages(which: Callable[[str], str | None] | None = None) -> list[str]:
    """Return the Debian packages whose programs are missing, each once."""
    find = which or (lambda command: shutil.which(command, path=search_path()))
    return sorted({package for command, package in PACKAGES.items() if find(command) is None})


def install(packages: Sequence[str], note: Callable[[str], None]) -> None:
    """Install Debian packages by name after a note of it; does nothing for an empty list."""
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise SandboxError(
            f"The packages {names} cannot be installed because this machine has no apt-get. "
            "Install them with its own package manager."
        )
    note(f"installing missing system packages: {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt may run: wait for its lock, for two minutes.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]
    command = [*apt, "install", "-y", "--no-install-recommends", *packages]
    for attempt in (command, [*apt, "update"], command):
        done = commands.finish(attempt, doing=f"installing {names}", seconds=commands.PACKAGE_SECONDS, env=environment)
        if attempt is command and done.returncode == 0:
            return
    last = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()[-1:]
    raise SandboxError(
        f"apt-get could not install {names} ({''.join(last)}). "
        "Check the network and the package sources, or install the packages by hand."
    )
