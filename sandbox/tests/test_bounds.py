"""Locks keep others out, name their holder and are waited for a bounded time; so are programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.host import bounds


def test_a_held_lock_is_waited_for_no_longer_than_told_and_its_holder_is_named(tmp_path: Path) -> None:
    heard: list[str] = []
    with bounds.held(tmp_path / "lock"):
        expected = rf"^Process {os.getpid()} has held .* end it if it hangs, then run the same command again$"
        with (
            pytest.raises(SandboxError, match=expected),
            bounds.held(tmp_path / "lock", seconds=0.5, waiting=heard.append),
        ):
            pytest.fail("two held one lock")
    assert heard == [f"waiting for process {os.getpid()}, which holds {tmp_path / 'lock'}"]
    with bounds.held(tmp_path / "lock", seconds=0.0):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()}\n"


def test_a_lock_whose_file_was_removed_by_its_holder_still_keeps_others_out(tmp_path: Path) -> None:
    with bounds.held(tmp_path / "lock"):
        (tmp_path / "lock").unlink()
        with (
            bounds.held(tmp_path / "lock"),
            pytest.raises(SandboxError, match="has held"),
            bounds.held(tmp_path / "lock", seconds=0.0),
        ):
            pytest.fail("two held one lock")


def test_a_program_that_takes_too_long_is_ended_and_the_sentence_says_what_to_do() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(SandboxError, match=r"^Dreaming was ended because .* run the same command again$"):
        bounds.finish(command, doing="dreaming", seconds=0.2)


def test_a_program_gets_its_input_and_its_words_come_back() -> None:
    done = bounds.finish(["cat"], doing="cat", seconds=10, stdin=b"words")
    assert (done.returncode, done.stdout) == (0, b"words")
    assert bounds.finish(["cat"], doing="cat", seconds=10).stdout == b""
