"""Container images without docker: writes docker-archive tars with the standard library only.

Callers: `preloaded`, `operator_image`, `model_server.light.image`.
The same inputs always give the same bytes: entries are sorted; times, owners and modes are fixed.
Not here: pulling, pushing, importing into a runtime (`python -m sandbox load`), or following Dockerfiles.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EPOCH = "1970-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_TAG = re.compile(r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")


class ImageError(ValueError):
    """An image that cannot be written as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Directory:
    """An empty directory of a layer."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a layer, its content in memory."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of a layer."""

    path: str
    target: str


Entry = Directory | File | Link


def layer(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed layer tar holding exactly `entries`, sorted by path; parents are not added."""
    by_path = {_inside(entry.path): entry for entry in entries}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(by_path):
            info, content = _header(path, by_path[path])
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def layer_from_tree(root: Path, *, prefix: str = "/", uid: int = 0, gid: int = 0) -> bytes:
    """Return a layer tar holding the tree under `root` at `prefix`: sorted, no times, modes 755 or 644, one owner."""
    entries: list[Entry] = [Directory(part, uid=uid, gid=gid) for part in _parents(prefix)]
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            source = Path(folder, name)
            path = f"{prefix.rstrip('/')}/{source.relative_to(root).as_posix()}"
            if source.is_symlink():
                entries.append(Link(path, str(source.readlink())))
            elif source.is_dir():
                entries.append(Directory(path, uid=uid, gid=gid))
            else:
                mode = 0o755 if os.access(source, os.X_OK) else 0o644
                entries.append(File(path, source.read_bytes(), mode=mode, uid=uid, gid=gid))
    return layer(entries)


def write_image(
    path: Path,
    *,
    tag: str,
    layers: Sequence[Path | bytes],
    entrypoint: Sequence[str],
    cmd: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "/",
    labels: Mapping[str, str] | None = None,
) -> str:
    """Write a docker-archive tar to `path` and return the image's id (`sha256:…`).

    `layers` are uncompressed tars, lowest first, as bytes or as files. `tag` needs a registry part and a version
    (`serin.dev/operator:0.1.0`): a container runtime would rewrite a bare name.
    The file appears under its name only when it is complete.
    """
    if not _TAG.match(tag):
        raise ImageError(
            f"The image tag {tag!r} is not of the form registry/name:version. Write it like serin.dev/name:1.0.0."
        )
    if not layers:
        raise ImageError(f"The image {tag} has no layers. Give at least one.")
    digests = [_sha256(each) for each in layers]
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "config": {
                "Cmd": list(cmd) or None,
                "Entrypoint": list(entrypoint),
                "Env": [f"{name}={value}" for name, value in sorted((env or {}).items())],
                "Labels": dict(sorted((labels or {}).items())),
                "User": user,
                "WorkingDir": workdir,
            },
            "created": EPOCH,
            "history": [{"created": EPOCH} for _ in layers],
            "os": "linux",
            "rootfs": {"diff_ids": [f"sha256:{digest}" for digest in digests], "type": "layers"},
        }
    )
    image_id = hashlib.sha256(config).hexdigest()
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = _json([{"Config": f"{image_id}.json", "Layers": names, "RepoTags": [tag]}])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with tarfile.open(partial, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, source in dict(zip(names, layers, strict=True)).items():
                _add(archive, name, source)
            _add(archive, f"{image_id}.json", config)
            _add(archive, "manifest.json", manifest)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return f"sha256:{image_id}"


def _parents(path: str) -> list[str]:
    """Return every directory down to `path`, outermost first: `/a/b` -> `/a`, `/a/b`."""
    parts = [part for part in path.split("/") if part]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _inside(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ImageError(f"The path {path!r} does not lie inside an image. Name a path below /.")
    return "/".join(parts)


def _header(path: str, entry: Entry) -> tuple[tarfile.TarInfo, bytes | None]:
    info = tarfile.TarInfo(path)
    match entry:
        case Directory():
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, entry.mode, entry.uid, entry.gid
            return info, None
        case File():
            info.size, info.mode, info.uid, info.gid = len(entry.content), entry.mode, entry.uid, entry.gid
            return info, entry.content
        case Link():
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
            return info, None


def _add(archive: tarfile.TarFile, name: str, source: Path | bytes) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if isinstance(source, bytes):
        info.size = len(source)
        archive.addfile(info, io.BytesIO(source))
        return
    info.size = source.stat().st_size
    with source.open("rb") as content:
        archive.addfile(info, content)


def _sha256(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
