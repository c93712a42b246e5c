"""`python -m serin.install_model_server DIR`: copies Serin's middleware to a directory on the engine's PYTHONPATH.

Run by the init container of an engine pod, from the operator's image; DIR is an emptyDir. Uses only the standard
library and works for any user and with a read-only root file system. Afterwards DIR has the package
`serin_model_server` and the metadata by which vLLM finds its plugin. A second run changes nothing, and other processes
never see an incomplete package. The middleware is model_server/serin_model_server, the container is in serin.manifests.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE = "serin_model_server"
ENTRY_POINTS = f"[vllm.stat_logger_plugins]\nserin = {PACKAGE}.stat_logger:StatLogger\n"
_FOLDER = Path(__file__).parent
# The location in the wheel, and in a checkout of the repository.
_PLACES = (_FOLDER / "model_server_files" / PACKAGE, _FOLDER.parents[1] / "model_server" / PACKAGE)


def install(target: Path) -> list[Path]:
    """Install into an existing directory; returns the paths that were created or replaced.

    Raises:
        OSError: the directory cannot be written, or this installation of Serin does not have the files.
    """
    source = next((place for place in _PLACES if place.is_dir()), None)
    if source is None:
        raise FileNotFoundError(f"{_PLACES[0]} does not exist; run it from the operator's image")
    sources = sorted(source.rglob("*.py"))
    version = _version()
    # Write the metadata last, because vLLM loads the plugin if the metadata exists.
    wanted = {
        PACKAGE: {path.relative_to(source).as_posix(): path.read_bytes() for path in sources},
        f"{PACKAGE}-{version}.dist-info": {
            "METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE.replace('_', '-')}\nVersion: {version}\n".encode(),
            "entry_points.txt": ENTRY_POINTS.encode(),
        },
    }
    for stale in target.glob(f"{PACKAGE}-*.dist-info"):
        if stale.name not in wanted:
            shutil.rmtree(stale)
    return [target / name for name, files in wanted.items() if _put(target, name, files)]


def _put(target: Path, name: str, files: dict[str, bytes]) -> bool:
    """Replace the content of one directory by these files; False if it has exactly these files already."""
    place = target / name
    if place.is_dir() and _content(place) == files:
        return False
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=target))
    try:
        fresh = scratch / "fresh"
        for file, content in files.items():
            path = fresh / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            # Independent of the umask, because the engine may run as another user.
            path.chmod(0o644)
            path.parent.chmod(0o755)
        fresh.chmod(0o755)
        if place.exists():
            place.rename(scratch / "old")
        fresh.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _content(place: Path) -> dict[str, bytes]:
    """The files in a directory and below it; what Python compiled is none of ours."""
    found = (path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}


def _version() -> str:
    try:
        return importlib.metadata.version("serin")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 if the installation failed, 2 for wrong arguments."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if len(words) != 1 or words[0].startswith("-"):
        sys.stderr.write("usage: python -m serin.install_model_server DIR\n")
        return 2
    target = Path(words[0])
    try:
        made = install(target)
    except OSError as error:
        sys.stderr.write(f"Cannot install Serin's middleware in {target}: {error}; mount a writable volume there.\n")
        return 1
    changes = ", ".join(path.name for path in made) or "no changes"
    sys.stdout.write(f"Installed Serin's middleware in {os.fspath(target)}: {changes}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
