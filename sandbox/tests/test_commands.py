"""Programs that run to their end: their output, their time limit, and the messages of their failures."""

from __future__ import annotations

import sys

import pytest

from sandbox.errors import SandboxError
from sandbox.host import commands


def test_program_beyond_its_time_is_ended_with_advice() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(SandboxError, match=r"^Dreaming was ended because .* run the same command again\.$"):
        commands.finish(command, doing="dreaming", seconds=0.2)


def test_program_gets_its_input_and_returns_its_output() -> None:
    done = commands.finish(["cat"], doing="cat", seconds=10, stdin=b"words")
    assert (done.returncode, done.stdout) == (0, b"words")
    assert commands.finish(["cat"], doing="cat", seconds=10).stdout == b""
