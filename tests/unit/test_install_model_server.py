"""Installation of the middleware: complete, idempotent, readable for every user."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from serin.install_model_server import install, main

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "model_server" / "serin_model_server"


def files(package: Path) -> set[str]:
    """Everything in a package but what Python compiled."""
    found = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package).as_posix() for path in found}


def test_directory_has_package_and_plugin_metadata(tmp_path: Path) -> None:
    package, metadata = install(tmp_path)

    assert files(package) == files(SOURCE) >= {"middleware.py", "prompting/stage.py", "checks/child.py"}
    (entry,) = Distribution.at(metadata).entry_points
    assert (entry.group, entry.value) == ("vllm.stat_logger_plugins", "serin_model_server.stat_logger:StatLogger")
    assert {path.name for path in tmp_path.iterdir()} == {package.name, metadata.name}


def test_files_are_readable_for_all_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = install(tmp_path)
    finally:
        os.umask(before)

    found = [*made, *(path for place in made for path in place.rglob("*"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o755}


def test_second_installation_changes_nothing(tmp_path: Path) -> None:
    install(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    assert install(tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_files_of_another_version_are_replaced(tmp_path: Path) -> None:
    package = tmp_path / "serin_model_server"
    package.mkdir()
    (package / "removed.py").touch()
    old = tmp_path / "serin_model_server-0.0.9.dist-info"
    old.mkdir()
    (old / "entry_points.txt").touch()

    install(tmp_path)

    assert not old.exists()
    assert files(package) == files(SOURCE)


def test_python_imports_package_from_pythonpath(tmp_path: Path) -> None:
    install(tmp_path)
    # In an engine pod, prometheus_client comes with vLLM; here it is the operator's.
    program = (
        "import serin_model_server as package; from importlib.metadata import entry_points; "
        "print(package.__file__, package.Middleware.__name__, *entry_points(group='vllm.stat_logger_plugins').names)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "serin_model_server" / "__init__.py"), "Middleware", "serin"]


def test_unwritable_directory_is_an_error_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.strip().endswith("mount a writable volume there.")
    assert main([]) == 2
