"""`make demo`, as a user runs it: a real vLLM, a good and a bad canary, and the same for a prompt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from examples.demo import prepare
from examples.demo.place import ROOT, Place
from examples.demo.say import Teller

WARM = 480
"""Seconds that the demo may take when everything that it needs is built."""
LONGEST = 900
LEAVE = 60
"""Seconds that the demo has to end by itself after a SIGTERM."""
SCENES = tuple(f"Scene {n}" for n in range(1, 7))


@pytest.fixture(scope="module")
def engines(place: Place) -> None:
    """VLLM and the checkpoints, made outside the demo's time limit: downloads and training depend on the machine."""
    assert place.sandbox
    prepare.engines(Teller())


@pytest.fixture(scope="module")
def demo(place: Place, engines: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:  # noqa: ARG001
    log: Path = tmp_path_factory.mktemp("demo") / "output"
    command = [sys.executable, "-m", "examples.demo"]
    # The sandbox's own settings, not the cluster that the user's shell may name.
    environment = dict(place.environment)
    with (
        log.open("w") as output,
        # A group of its own, so that all of it can be ended.
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            status = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            end_group(process)
            pytest.fail(f"The demo took longer than {LONGEST} s:\n{log.read_text()}")
        except BaseException:
            end_group(process)
            raise
    return status, log.read_text()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: SIGTERM, then SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE)
        os.killpg(process.pid, signal.SIGKILL)


def test_every_expectation_of_the_demo_holds(demo: tuple[int, str]) -> None:
    status, output = demo
    assert status == 0, output
    assert ", 0 did not." in output


def test_demo_prints_six_scenes_and_two_tables(demo: tuple[int, str]) -> None:
    _, output = demo
    assert [scene for scene in SCENES if scene in output] == list(SCENES)
    first, second = output[output.index("What users saw") :].split("\nSTEP ")[1:]
    assert "FIRST ERROR TO LAST REQUEST AT THE CANARY" in first
    assert steps(first) == ["1", "2", "3", "4", "5", "6"]
    assert "BAD ANSWERS" in second
    assert steps(second) == ["5", "6"]


def steps(table: str) -> list[str]:
    """The numbers at the beginning of the table's rows."""
    return [line[0] for line in table.splitlines() if re.match(r"[1-6] ", line)]


def test_trial_of_a_prompt_needs_no_pod_and_no_restart(demo: tuple[int, str]) -> None:
    _, output = demo
    assert re.search(r"^5 better prompt, promoted +0 +0 ", output, re.MULTILINE)
    assert re.search(r"^6 wrong keys, rolled back +0 +0 ", output, re.MULTILINE)


def test_demo_takes_less_than_eight_minutes(demo: tuple[int, str]) -> None:
    _, output = demo
    took = re.search(r"The demo took (\d+) seconds", output)
    assert took
    assert int(took[1]) < WARM, output
