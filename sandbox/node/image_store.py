"""The images on the node: imported into containerd from archives, because there is no registry.

Callers: `full_tier`, for the images of every sandbox and for the verb `load`. Not here: writing archives (`images`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sandbox.builds.cache import Cache
from sandbox.errors import SandboxError
from sandbox.host import processes
from sandbox.host.layout import Layout
from sandbox.images import preloaded
from sandbox.node import config_files, namespaces
from sandbox.node.namespaces import Init

_MANAGED = "io.cri-containerd.image=managed"


@dataclass(frozen=True, slots=True)
class NodeImages:
    """The image store of one running node."""

    init: Init
    cache: Cache

    def ready(self) -> bool:
        """Whether containerd answers."""
        try:
            self._ctr("version")
        except SandboxError:
            return False
        return True

    def names(self) -> set[str]:
        """Return the images that the kubelet can use."""
        return {line.split()[0] for line in self._ctr("images", "list").splitlines() if _MANAGED in line}

    def load(self, archive: Path) -> list[str]:
        """Import an archive and return the image names in it."""
        output = self._ctr("images", "import", "--local", "-", stdin=archive)
        loaded = sorted({word for word in output.split() if "/" in word and ":" in word})
        # The kubelet sees an image only after containerd's CRI plugin has listed it.
        processes.wait_until(
            lambda: set(loaded) <= self.names(),
            seconds=20,
            failure=lambda: (
                f"{archive.name} was imported, but containerd does not list its images after 20 s. "
                "Read `python -m sandbox logs containerd`, then load it again."
            ),
        )
        return loaded

    def load_own(self, layout: Layout, loaded: str) -> str:
        """Import pause and engine image unless the digest `loaded` shows that they are there; return the new digest.

        Names alone do not show it: a new release of the sandbox changes the content of an image, not its name.
        """
        archives = (layout.images / "pause.tar", layout.images / "engine.tar")
        names = {
            preloaded.write_pause(self.cache.path("pause"), archives[0]),
            preloaded.write_engine(archives[1]),
        }
        digest = hashlib.sha256(b"".join(archive.read_bytes() for archive in archives)).hexdigest()
        if digest != loaded or not names <= self.names():
            for archive in archives:
                self.load(archive)
        return digest

    def _ctr(self, *arguments: str, stdin: Path | None = None) -> str:
        ctr = [str(self.cache.path("ctr")), "--address", config_files.CONTAINERD_SOCKET, "--namespace", "k8s.io"]
        return namespaces.run(self.init, [*ctr, *arguments], stdin=stdin)
