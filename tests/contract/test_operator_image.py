"""The operator's image contains only what the operator needs, and its build is reproducible."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sandbox.host.layout import from_environment
from sandbox.images.operator_image import build, layer_key, sources

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The tag and the unpacked archive."""
    folder = tmp_path_factory.mktemp("image")
    tag = build(folder / "operator.tar", cache=from_environment().cache)
    (folder / "archive").mkdir()
    # Not with tarfile, whose filters are missing in the Python of Debian 12.
    subprocess.run(["tar", "-xf", folder / "operator.tar", "-C", folder / "archive"], check=True)
    return tag, folder / "archive"


@pytest.fixture(scope="module")
def tree(image: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of a container."""
    target = tmp_path_factory.mktemp("tree")
    for name in manifest(image[1])["Layers"]:
        # Not with tarfile, which rejects the absolute links of an image.
        subprocess.run(["tar", "-xf", image[1] / name, "-C", target], check=True)
    return target


def manifest(archive: Path) -> dict[str, list[str]]:
    (only,) = json.loads((archive / "manifest.json").read_text())
    return dict(only)


def test_image_tag_has_version_and_content_hash(image: tuple[str, Path]) -> None:
    tag, archive = image

    assert tag.startswith("serin.dev/operator:0.1.0-")
    assert manifest(archive)["RepoTags"] == [tag]


def test_image_runs_the_module_as_unprivileged_user(image: tuple[str, Path]) -> None:
    config = json.loads((image[1] / str(manifest(image[1])["Config"])).read_text())["config"]

    assert config["Entrypoint"] == ["/usr/bin/python3", "-m", "serin"]
    assert config["User"] == "65532:65532"
    assert {"PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])


def test_image_starts_the_operator_from_the_wheel(tree: Path) -> None:
    program = (
        "import serin.__main__ as operator, serin.operator_process; "
        "print(operator.__file__); operator.main(['--version'])"
    )
    done = subprocess.run(
        [tree / "usr" / "bin" / "python3", "-I", "-B", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(site_packages(tree) / "serin" / "__main__.py"), "serin 0.1.0"]


def test_image_has_every_module_compiled(tree: Path) -> None:
    modules = [*(site_packages(tree) / "serin").rglob("*.py"), *(site_packages(tree) / "kopf").rglob("*.py")]

    assert modules
    assert not [path for path in modules if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]


def test_image_installs_the_middleware(tree: Path, tmp_path: Path) -> None:
    program = "import sys; from serin.install_model_server import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [tree / "usr" / "bin" / "python3", "-I", "-B", "-c", program, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert modules(tmp_path / "serin_model_server") == modules(ROOT / "model_server" / "serin_model_server")
    assert (tmp_path / "serin_model_server-0.1.0.dist-info" / "entry_points.txt").is_file()


def test_image_has_no_shell_package_manager_or_development_tool(tree: Path) -> None:
    programs = {path.name for folder in ("usr/bin", "usr/sbin") for path in (tree / folder).glob("*")}
    packages = {path.name for path in site_packages(tree).iterdir()}

    assert {name for name in programs if not name.startswith("python3")} == set()
    assert not packages & {"pytest", "mypy", "ruff", "hypothesis", "pip", "bin", "tests"}


def test_image_has_certificates_and_package_list(tree: Path) -> None:
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 50
    assert "Version:" in (tree / "var/lib/dpkg/status.d/libssl3").read_text()


def test_image_build_is_reproducible(image: tuple[str, Path], tmp_path: Path) -> None:
    tag = build(tmp_path / "again.tar", cache=from_environment().cache)

    assert tag == image[0]
    assert (tmp_path / "again.tar").read_bytes() == (image[1].parent / "operator.tar").read_bytes()


def test_image_key_covers_the_wheel_sources() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in sources(ROOT)}

    assert {"operator/serin/__main__.py", "pyproject.toml", "requirements/build.txt"} <= names
    assert "model_server/serin_model_server/middleware.py" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "docs/"))]


def test_layer_key_depends_on_part_boundaries() -> None:
    assert layer_key(b"ab", b"c") != layer_key(b"a", b"bc")
    assert layer_key(b"ab", b"c") == layer_key(b"ab", b"c")


def modules(package: Path) -> set[str]:
    return {path.relative_to(package).as_posix() for path in package.rglob("*.py")}


def site_packages(tree: Path) -> Path:
    (found,) = (tree / "usr" / "local" / "lib").glob("python3.*/dist-packages")
    return found
