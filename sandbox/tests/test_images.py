"""Image archives: the same bytes for the same content, in the form that a container runtime expects."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from sandbox.images import preloaded
from sandbox.images.archive import Directory, Entry, File, ImageError, Link, layer, layer_from_tree, write_image

ENTRIES: list[Entry] = [
    File("/etc/passwd", b"root"),
    Directory("/etc"),
    Directory("/tmp", mode=0o1777),
    Link("/bin", "usr/bin"),
]


def write(path: Path, entries: list[Entry]) -> str:
    return write_image(path, tag="serin.dev/x:1", layers=[layer(entries)], entrypoint=["/x"], env={"B": "2", "A": "1"})


def test_same_content_in_any_order_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.tar", ENTRIES), write(tmp_path / "two.tar", ENTRIES[::-1])
    assert one == two
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_other_content_gives_another_id(tmp_path: Path) -> None:
    assert write(tmp_path / "one.tar", ENTRIES) != write(tmp_path / "two.tar", [*ENTRIES, Directory("/opt")])


def test_archive_describes_its_layers_by_their_digests(tmp_path: Path) -> None:
    identity = write(tmp_path / "x.tar", ENTRIES)
    with tarfile.open(tmp_path / "x.tar") as archive:
        contents = {member.name: extracted.read() for member in archive if (extracted := archive.extractfile(member))}
    manifest = json.loads(contents["manifest.json"])[0]
    assert manifest["RepoTags"] == ["serin.dev/x:1"]
    config = contents[manifest["Config"]]
    assert identity == f"sha256:{hashlib.sha256(config).hexdigest()}"
    layers = [f"sha256:{hashlib.sha256(contents[name]).hexdigest()}" for name in manifest["Layers"]]
    assert json.loads(config)["rootfs"]["diff_ids"] == layers
    assert json.loads(config)["config"]["Env"] == ["A=1", "B=2"]


def test_layer_holds_modes_owners_and_links_but_no_times() -> None:
    with tarfile.open(fileobj=io.BytesIO(layer([*ENTRIES, File("/run.sh", b"", mode=0o755, uid=7, gid=8)]))) as archive:
        found = {member.name: member for member in archive}
    assert found["tmp"].mode == 0o1777
    assert (found["run.sh"].mode, found["run.sh"].uid, found["run.sh"].gid) == (0o755, 7, 8)
    assert found["bin"].linkname == "usr/bin"
    assert {member.mtime for member in found.values()} == {0}


def test_layer_from_a_tree_holds_executables_and_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run").write_text("x")
    (tmp_path / "a" / "run").chmod(0o700)
    (tmp_path / "link").symlink_to("a/run")
    with tarfile.open(fileobj=io.BytesIO(layer_from_tree(tmp_path, prefix="/opt/app"))) as archive:
        found = {member.name: member for member in archive}
    assert list(found) == ["opt", "opt/app", "opt/app/a", "opt/app/a/run", "opt/app/link"]
    assert found["opt/app/a/run"].mode == 0o755
    assert found["opt/app/link"].issym()


@pytest.mark.parametrize("tag", ["operator", "operator:1", "Serin.dev/x:1", "serin.dev/x"])
def test_tag_that_a_runtime_would_rewrite_is_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ImageError, match="Write it like"):
        write_image(tmp_path / "x.tar", tag=tag, layers=[b""], entrypoint=["/x"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/", "../etc", "/a/../../b"])
def test_path_outside_the_image_is_refused(path: str) -> None:
    with pytest.raises(ImageError, match="below /"):
        layer([Directory(path)])


def test_engine_image_has_mount_points_and_the_account_of_vllm(tmp_path: Path) -> None:
    assert preloaded.write_engine(tmp_path / "engine.tar") == "serin.dev/vllm-cpu:0.32.0"
    with tarfile.open(tmp_path / "engine.tar") as archive:
        name = next(name for name in archive.getnames() if name.endswith("layer.tar"))
        inner = archive.extractfile(name)
        assert inner is not None
        with tarfile.open(fileobj=inner) as unpacked:
            names = set(unpacked.getnames())
            accounts = unpacked.extractfile("etc/passwd")
            assert accounts is not None
            assert b"vllm:x:2000:2000:vllm:/tmp:" in accounts.read()
    assert {"opt/serin/vllm", "opt/serin/models", "usr", "lib", "lib64", "tmp"} <= names
