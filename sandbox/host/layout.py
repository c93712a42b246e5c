"""The paths of one checkout's sandbox: runtime state beside the checkout, built files in the user's cache.

Callers: every part of the sandbox. `down` removes the state directory and never the cache.
Not here: the rule for the cache (`cache.cache_root`), and creating any of these directories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.host.cache import cache_root

ROOT = Path(__file__).resolve().parents[2]
"""Of the checkout."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one checkout's sandbox."""

    state: Path
    cache: Path

    @property
    def env_file(self) -> Path:
        """The shell lines that point at the sandbox."""
        return self.state / "env"

    @property
    def lock(self) -> Path:
        """The lock that a verb holds while it changes the sandbox."""
        return self.state / "lock"

    @property
    def logs(self) -> Path:
        """The full sandbox's logs, one file per component."""
        return self.state / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object per line."""
        return self.logs / "audit.log"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig of the full sandbox."""
        return self.state / "kubeconfig"

    @property
    def bin(self) -> Path:
        """Links to the programs that people use; the env file puts this folder into the PATH."""
        return self.state / "bin"

    @property
    def home(self) -> Path:
        """Caches and settings of kubectl and helm, which would otherwise be in the user's home."""
        return self.state / "home"

    @property
    def full(self) -> Path:
        """The full tier's own files."""
        return self.state / "full"

    @property
    def api(self) -> Path:
        """The API tier's own files."""
        return self.state / "api"

    @property
    def certificates(self) -> Path:
        """The full tier's certificates and keys."""
        return self.full / "certificates"

    @property
    def node_bin(self) -> Path:
        """Links to the programs that containerd looks for by name."""
        return self.full / "bin"

    @property
    def images(self) -> Path:
        """Archives of the images that every full sandbox has."""
        return self.full / "images"

    @property
    def built(self) -> Path:
        """The folders of built binaries."""
        return self.cache / "bin"


def from_environment(environment: Mapping[str, str] = os.environ) -> Layout:
    """Return the layout that `SERIN_SANDBOX_DIR`, `SERIN_CACHE` and `XDG_CACHE_HOME` ask for."""
    state = environment.get("SERIN_SANDBOX_DIR") or str(ROOT / ".sandbox")
    return Layout(state=Path(state).absolute(), cache=cache_root(environment))
