"""Writes the image of the light server: `python -m model_server.light.image OUT.tar` (tag serin.dev/light:dev).

Called by the tests that need a high request rate. Compiles the static binary once per version of the sources, into the
cache; needs Go (from the variable GO or else from PATH). Not here: loading the image into a cluster, and the server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import commands
from sandbox.host.cache import building, cache_root, key_of
from sandbox.images.archive import Directory, File, layer, write_image

HERE = Path(__file__).parent
TAG = "serin.dev/light:dev"
# The user of vLLM's own images, so one pod template fits both.
USER = 2000


class ImageBuildError(Exception):
    """The image cannot be written; the message says why and what to do."""


def find_go(environ: Mapping[str, str]) -> str:
    """The path of the Go command, from the variable GO or else from PATH.

    Raises:
        ImageBuildError: there is none.
    """
    found = shutil.which(environ.get("GO") or "go", path=environ.get("PATH"))
    if found is None:
        raise ImageBuildError("Go was not found: install it (`apt-get install golang-go`), or set GO to its path")
    return found


def binary(environ: Mapping[str, str]) -> Path:
    """The path of the static server, compiled if the cache does not have it.

    Raises:
        ImageBuildError: it cannot be compiled.
    """
    sources = [HERE / "go.mod", *sorted(p for p in HERE.glob("*.go") if not p.name.endswith("_test.go"))]
    target = cache_root() / "light" / key_of(*(part for p in sources for part in (p.name, p.read_bytes())))
    with building(target) as partial:
        if partial is not None:
            command = [find_go(environ), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]
            built = commands.finish(
                [*command, str(partial / "light"), "."],
                doing="building the light server",
                seconds=commands.BUILD_SECONDS,
                cwd=HERE,
                env={**environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            )
            if built.returncode != 0:
                said = built.stderr.decode(errors="replace").strip()
                raise ImageBuildError(f"Go cannot compile the light server: {said}; fix the source")
    return target / "light"


def write(target: Path, environ: Mapping[str, str]) -> str:
    """Write the image to `target`; returns its id."""
    program = File("/usr/bin/light", binary(environ).read_bytes(), mode=0o755)
    content = layer([Directory("/usr"), Directory("/usr/bin"), program, Directory("/tmp", mode=0o1777)])  # noqa: S108
    return write_image(target, tag=TAG, layers=[content], entrypoint=["/usr/bin/light", "serve"], user=str(USER))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 if the image cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m model_server.light.image", description="Write the light server's image."
    )
    parser.add_argument("target", type=Path, help="path of the docker archive to write")
    options = parser.parse_args(arguments)
    try:
        identity = write(options.target, os.environ)
    except (ImageBuildError, SandboxError) as error:
        print(f"light: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    print(f"{TAG} {identity}\n{options.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
