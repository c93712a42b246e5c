"""Locks exclude other processes, name their holder, and are waited for a bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.host import locks


def test_wait_for_a_held_lock_is_bounded_and_names_the_holder(tmp_path: Path) -> None:
    heard: list[str] = []
    with locks.held(tmp_path / "lock"):
        expected = rf"^Process {os.getpid()} has held .* end it if it hangs, then run the same command again\.$"
        with (
            pytest.raises(SandboxError, match=expected),
            locks.held(tmp_path / "lock", seconds=0.5, waiting=heard.append),
        ):
            pytest.fail("two held one lock")
    assert heard == [f"waiting for process {os.getpid()}, which holds {tmp_path / 'lock'}"]
    with locks.held(tmp_path / "lock", seconds=0.0):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()}\n"


def test_lock_whose_file_was_removed_still_excludes_others(tmp_path: Path) -> None:
    with locks.held(tmp_path / "lock"):
        (tmp_path / "lock").unlink()
        with (
            locks.held(tmp_path / "lock"),
            pytest.raises(SandboxError, match="has held"),
            locks.held(tmp_path / "lock", seconds=0.0),
        ):
            pytest.fail("two held one lock")
