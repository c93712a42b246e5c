"""With the recursion limit of the operator, Python reads the deepest objects of Kubernetes and never crashes.

Each test is a process of its own: what goes wrong here is a segmentation fault.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACK = 8 * 2**20
"""Bytes of stack that Linux gives a process by default."""
PRELUDE = f"""
import json, resource, sys, threading
resource.setrlimit(resource.RLIMIT_STACK, ({STACK}, resource.getrlimit(resource.RLIMIT_STACK)[1]))
from serin.recursion import allow_deep_json
from fakes.nested import MOST, nested
allow_deep_json()
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["lists", "maps"])
@pytest.mark.parametrize(
    "place", ["act()", "t = threading.Thread(target=act); t.start(); t.join()"], ids=["main", "thread"]
)
def test_the_deepest_object_is_decoded_and_encoded(opening: str, place: str) -> None:
    closing = {"[": "]"}.get(opening, "}")
    code = f"""
def act():
    # As in a watch event: two more levels around the object.
    text = '{{"object":' + {opening!r} * MOST + '1' + {closing!r} * MOST + '}}'
    print(len(json.dumps(json.loads(text), separators=(",", ":"))) == len(text))
{place}
"""
    assert run(code) == "True"


@pytest.mark.parametrize(
    "action",
    [
        "json.loads('[' * 300_000)",
        "json.loads('{\"a\":' * 300_000)",
        "json.dumps(deep)",
        "repr(deep)",
        "deep == nested(300_000)",
    ],
)
def test_what_is_too_deep_raises_and_does_not_crash(action: str) -> None:
    code = f"""
deep = nested(300_000)
try:
    {action}
except RecursionError:
    print("raised")
"""
    assert run(code) == "raised"


def test_command_lists_the_other_prompts_beside_a_deep_one(tmp_path: Path) -> None:
    head = "apiVersion: serin.dev/v1alpha1\nkind: PromptVersion\nmetadata: {name: %s}\nspec:\n  prompt: triage\n"
    head += "  version: 1.0.0\n  messages: [{role: system, content: Be brief.}]\n"
    deep = f"  outputSchema: {'{a: ' * 2_000}1{'}' * 2_000}\n"
    (tmp_path / "prompts.yaml").write_text(head % "flat" + "---\n" + head % "deep" + deep)
    done = subprocess.run(
        [sys.executable, "-m", "serin", "prompt", "list", "-f", str(tmp_path / "prompts.yaml")],
        env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "flat" in done.stdout
    assert "spec.outputSchema is nested more than 64 levels deep" in done.stderr
