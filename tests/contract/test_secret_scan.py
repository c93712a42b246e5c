"""The secret scan finds secrets in files and in the history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A text in the form of a personal access token, composed so that this file passes the scan.
PLANTED = "ghp_" + "".join("0aB1cD2eF3"[(7 * index) % 10] + "xKzQ"[index % 4] for index in range(18))


def git(repository: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", repository, *identity, *arguments], check=True, capture_output=True)


def scan(repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "secret_scan.py", repository],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "README.md").write_text("Nothing to see here.\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_clean_repository_passes(repository: Path) -> None:
    done = scan(repository)

    assert done.returncode == 0, done.stdout + done.stderr


def test_removed_secret_is_found_in_the_history(repository: Path) -> None:
    (repository / "settings.py").write_text(f'TOKEN = "{PLANTED}"\n')
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "second")
    git(repository, "rm", "--quiet", "settings.py")
    git(repository, "commit", "--quiet", "-m", "third")

    done = scan(repository)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "settings.py" in done.stdout
    assert PLANTED not in done.stdout + done.stderr


def test_secret_in_untracked_file_is_found(repository: Path) -> None:
    (repository / "notes.txt").write_text(f"token: {PLANTED}\n")

    done = scan(repository)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "notes.txt" in done.stdout


def test_ignored_files_are_not_scanned(repository: Path) -> None:
    (repository / ".gitignore").write_text("cache/\n")
    (repository / "cache").mkdir()
    (repository / "cache" / "notes.txt").write_text(f"token: {PLANTED}\n")

    assert scan(repository).returncode == 0


def test_folder_without_git_is_an_error(tmp_path: Path) -> None:
    done = scan(tmp_path)

    assert done.returncode == 2
    assert "not a git checkout" in done.stderr
