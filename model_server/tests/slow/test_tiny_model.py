"""The tiny model: vLLM's environment is built, the model is trained (both cached), and its answers are measured."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from model_server.cpu.install import install

ROOT = Path(__file__).parents[3]
TICKETS = 100
BAD_STEPS = 60


@pytest.fixture(scope="module")
def python() -> Path:
    return install(os.environ) / "bin" / "python"


def run(python: Path, *arguments: str) -> str:
    """The last line of a module's output, run in vLLM's environment."""
    done = subprocess.run(
        [python, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def scores(python: Path, steps: tuple[str, ...] = ()) -> dict[str, dict[str, float]]:
    directory = run(python, "model_server.tiny", *steps)
    measured = run(python, "model_server.tiny.evaluate", directory, "--count", str(TICKETS))
    return {score["case"]: score for score in json.loads(measured)}


def test_model_obeys_every_instruction_on_held_out_tickets(python: Path) -> None:
    measured = scores(python)
    assert len(measured) == 13
    assert {case: score["obeyed"] for case, score in measured.items() if score["obeyed"] < 0.95} == {}
    assert {case: score["right"] for case, score in measured.items() if score["right"] < 0.95} == {}


def test_fewer_steps_give_worse_model(python: Path) -> None:
    measured = scores(python, ("--steps", str(BAD_STEPS)))
    assert measured["json"]["right"] < 0.5


def test_same_steps_give_same_bytes(
    python: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for name in ("first", "second"):
        monkeypatch.setenv("SERIN_CACHE", str(tmp_path_factory.mktemp(name)))
        directory = Path(run(python, "model_server.tiny", "--steps", "20"))
        weights.append({file.name: file.read_bytes() for file in directory.iterdir()})
    assert weights[0] == weights[1]
    assert "model.safetensors" in weights[0]
