"""`python -m serin.install_model_server DIR`: put the model server's middleware where an engine's Python finds it.

Run by the init container of an engine's pod, from the operator's image, with DIR an emptyDir that the engine has on its
PYTHONPATH. Standard library only, any user, a read-only root. Afterwards DIR holds the package `serin_model_server` and
the metadata by which vLLM finds its plugin. Doing it again changes nothing; a reader never sees half a package.
Deliberately not here: what the middleware does (model_server/serin_model_server) and the container (serin.manifests).
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
# In the wheel, and in a checkout of the repository.
_PLACES = (_FOLDER / "model_server_files" / PACKAGE, _FOLDER.parents[1] / "model_server" / PACKAGE)


def install(target: Path) -> list[Path]:
    """Fill a directory that exists; returns what is new or was replaced in it.

    Raises:
        OSError: it cannot be written, or this installation of Serin lacks the files.
    """
    source = next((place for place in _PLACES if place.is_dir()), None)
    if source is None:
        raise FileNotFoundError(f"{_PLACES[0]} is missing; use the operator's own image")
    sources = sorted(source.glob("*.py"))
    version = _version()
    # The metadata last: vLLM looks for the plugin only where it is.
    wanted = {
        PACKAGE: {path.name: path.read_bytes() for path in sources},
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
    """Make one directory hold these files and nothing else; False if it does already."""
    place = target / name
    if place.is_dir() and {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == files:
        return False
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=target))
    try:
        fresh = scratch / "fresh"
        fresh.mkdir()
        for file, content in files.items():
            (fresh / file).write_bytes(content)
            # Whatever the umask: the engine may run as another user.
            (fresh / file).chmod(0o644)
        fresh.chmod(0o755)
        if place.exists():
            place.rename(scratch / "old")
        fresh.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _version() -> str:
    try:
        return importlib.metadata.version("serin")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when nothing could be installed."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if len(words) != 1 or words[0].startswith("-"):
        sys.stderr.write("usage: python -m serin.install_model_server DIR\n")
        return 2
    target = Path(words[0])
    try:
        made = install(target)
    except OSError as error:
        sys.stderr.write(f"The model server cannot be installed in {target}: {error}; mount a writable volume there.\n")
        return 1
    told = ", ".join(path.name for path in made) or "nothing was missing"
    sys.stdout.write(f"model server in {os.fspath(target)}: {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
