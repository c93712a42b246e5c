"""The operator's image without docker, written by `python -m sandbox.images.operator_image OUT.tar`.

The last line of output is the tag. Callers: the demo and the end-to-end tests. Three layers, so that a change of code
remakes only the last and smallest: a root file system of a dozen Debian packages (no shell, no package manager), the
locked dependencies, the wheel. Each layer is cached under a hash of what it is made from; the tag ends with a hash of
what the image holds. Not here: loading the image into a cluster, and `operator/Dockerfile`, for people with docker.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import commands
from sandbox.host.cache import key_of
from sandbox.host.layout import ROOT, from_environment
from sandbox.host.progress import Progress
from sandbox.images.archive import layer_from_tree, write_image
from sandbox.images.debian_base import compile_bytecode, install_debian_base, system_name

REPOSITORY = "serin.dev/operator"
USER = "65532"
# Raised when the steps below change in a way that their inputs do not show; a part of every layer's name.
RECIPE = "1"
_BASE_RECIPE = Path(__file__).with_name("debian_base.py")
_BASE, _DEPENDENCIES, _WHEEL = "base system of the operator image", "its dependencies", "its wheel"


def layer_key(*parts: bytes) -> str:
    """Return the name of what these parts and the recipe make."""
    return key_of(RECIPE, *parts)


def sources(root: Path) -> list[Path]:
    """Return every file that the wheel is made from, in a stable order."""
    folders = (root / "operator" / "serin", root / "model_server" / "serin_model_server")
    package = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    named = [root / name for name in ("LICENSE", "README.md", "pyproject.toml", "requirements/build.txt")]
    return [path for path in [*package, *named] if "__pycache__" not in path.parts]


def build(out: Path, *, cache: Path, root: Path = ROOT) -> str:
    """Write the image to `out` and return its tag.

    Raises:
        SandboxError: a step failed; the message ends with what to do.
    """
    progress = Progress({_BASE: 12, _DEPENDENCIES: 25, _WHEEL: 5})
    layers = cache / "operator-image"
    layers.mkdir(parents=True, exist_ok=True)
    with progress.step(_BASE):
        base = _cached(
            layers / f"base-{layer_key(system_name().encode(), _BASE_RECIPE.read_bytes())}.tar", install_debian_base
        )
    lock = root / "requirements" / "runtime.txt"
    with progress.step(_DEPENDENCIES), tempfile.TemporaryDirectory(dir=layers) as scratch:
        dependencies = _cached(
            layers / f"dependencies-{layer_key(_digest([base]), lock.read_bytes())}.tar",
            lambda tree: _install_dependencies(tree, lock=lock, python=_python(base, Path(scratch))),
        )
    with progress.step(_WHEEL), tempfile.TemporaryDirectory(dir=layers) as scratch:
        wheel = _cached(
            layers / f"wheel-{layer_key(_digest([base]), _digest(sources(root), root))}.tar",
            lambda tree: _install_wheel(tree, root=root, python=_python(base, Path(scratch))),
        )
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    tag = f"{REPOSITORY}:{version}-{layer_key(_digest([base, dependencies, wheel]))}"
    with progress.step("image"):
        write_image(
            out,
            tag=tag,
            layers=[base, dependencies, wheel],
            entrypoint=["/usr/bin/python3", "-m", "serin"],
            env={
                "PATH": "/usr/bin",
                # The working directory must not shadow a module, and the file system is read-only.
                "PYTHONSAFEPATH": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "LANG": "C.UTF-8",
            },
            user=f"{USER}:{USER}",
            labels={"org.opencontainers.image.title": "serin", "org.opencontainers.image.version": version},
        )
    progress.finish(f"operator image {tag}")
    return tag


def _cached(target: Path, fill: Callable[[Path], None]) -> Path:
    """Return the layer `target`, made by `fill` if it is absent; it appears complete, also with several builders."""
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        fill(tree)
        content = layer_from_tree(tree)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _python(base: Path, scratch: Path) -> Path:
    """Return the image's own interpreter, unpacked: what it installs and compiles fits the image."""
    subprocess.run(["tar", "-xf", base, "-C", scratch], check=True)
    return scratch / "usr" / "bin" / "python3"


def _install_dependencies(tree: Path, *, lock: Path, python: Path) -> None:
    target = tree / _site_packages(python)
    _run(
        "installing the locked dependencies",
        [
            _uv(),
            "pip",
            "install",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--python",
            python,
            "--target",
            target,
            "-r",
            lock,
        ],
    )
    _tidy(target)
    compile_bytecode(tree, target, python=python)


def _install_wheel(tree: Path, *, root: Path, python: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        _run(
            "building the wheel",
            [
                *(_uv(), "build", "--wheel", "--python", python, "--out-dir", scratch),
                *("--require-hashes", "--build-constraints", root / "requirements" / "build.txt", root),
            ],
        )
        (wheel,) = Path(scratch).glob("*.whl")
        target = tree / _site_packages(python)
        _run(
            "installing the wheel",
            [_uv(), "pip", "install", "--no-deps", "--python", python, "--target", target, wheel],
        )
    _tidy(target)
    compile_bytecode(tree, target, python=python)


def _tidy(target: Path) -> None:
    """Remove what a program that is started as a module does not need, and what differs between two builds."""
    shutil.rmtree(target / "bin", ignore_errors=True)
    (target / ".lock").unlink(missing_ok=True)
    for noise in ("RECORD", "direct_url.json", "uv_cache.json"):
        for path in target.glob(f"*.dist-info/{noise}"):
            path.unlink()


def _site_packages(python: Path) -> str:
    """Return the folder where Debian's interpreter looks for packages that Debian did not install."""
    code = "import sys; print('usr/local/lib/python%d.%d/dist-packages' % sys.version_info[:2])"
    return subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _uv() -> str:
    found = shutil.which(os.environ.get("UV") or "uv")
    if found is None:
        raise SandboxError(
            "The image cannot be made because uv was not found. Run this through make, or set UV to the path of uv."
        )
    return found


def _run(what: str, command: Sequence[str | Path]) -> None:
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1", "SOURCE_DATE_EPOCH": "315532800"}
    done = commands.finish(command, doing=what, seconds=commands.BUILD_SECONDS, env=environment)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()[-2000:]
        raise SandboxError(f"{what.capitalize()} failed: {said}\nCheck the network and the disk, then run it again.")


def _digest(paths: Iterable[Path], root: Path | None = None) -> bytes:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(root).as_posix() if root else ""
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the image at the path of the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.images.operator_image", description="Write the operator's image to a file."
    )
    parser.add_argument("out", type=Path, metavar="OUT.tar")
    out = parser.parse_args(arguments).out
    try:
        tag = build(out, cache=from_environment().cache)
    except SandboxError as error:
        sys.stderr.write(f"operator image: {error}\n")
        return 1
    print(tag)
    return 0


if __name__ == "__main__":
    sys.exit(main())
