"""`make demo`, as a user runs it: a real vLLM, a good canary and a bad one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.place import ROOT, Place

LONGEST = 900
SCENES = ("Scene 1", "Scene 2", "Scene 3", "Scene 4")


@pytest.fixture(scope="module")
def demo(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    assert place.sandbox
    log: Path = tmp_path_factory.mktemp("demo") / "output"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "examples.demo"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
            check=False,
        )
    return done.returncode, log.read_text()


def test_every_expectation_of_the_demo_holds(demo: tuple[int, str]) -> None:
    status, output = demo
    assert status == 0, output
    assert ", 0 did not." in output


def test_the_demo_tells_four_scenes_and_ends_with_a_table(demo: tuple[int, str]) -> None:
    _, output = demo
    assert [scene for scene in SCENES if scene in output] == list(SCENES)
    table = output[output.index("What users saw") :]
    assert "FIRST ERROR TO LAST REQUEST AT THE CANARY" in table
    assert [line[0] for line in table.splitlines() if line[:2] in {"1 ", "2 ", "3 ", "4 "}] == ["1", "2", "3", "4"]
