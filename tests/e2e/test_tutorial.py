"""The commands of docs/tutorial.md, typed in their order, on the light engine.

The fixtures do what the section "Before you begin" says. The reader's files are the examples', except that the light
engine takes the place of vLLM: a copy of `examples/` beside links to the rest of the checkout.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from examples.demo.cluster import Cluster, load_manifest
from examples.demo.place import ROOT, Place
from examples.light.story import IMAGE

TUTORIAL = ROOT / "docs" / "tutorial.md"
NAMESPACE = "first-canary"
LONGEST = 600.0
"""Seconds for all commands together; about 60 are usual."""


def steps() -> list[str]:
    """The shell blocks of the numbered sections."""
    sections = re.split(r"^## ", TUTORIAL.read_text(), flags=re.MULTILINE)
    numbered = [section for section in sections if re.match(r"\d+\. ", section)]
    return [block for section in numbered for block in re.findall(r"(?ms)^```sh\n(.*?)^```", section)]


def put_light_engine(file: Path) -> None:
    """Rewrite an example for the light engine, which fails 30 % of the requests where vLLM would refuse long ones."""
    manifest = load_manifest(file)
    spec = manifest["spec"]
    bad = {"error-rate": "0.3", "status": "400"} if file.name == "03-too-small.yaml" else {}
    spec["engine"]["image"] = IMAGE
    spec["engine"]["args"] = {"max-model-len": spec["engine"]["args"]["max-model-len"], **bad}
    spec["engine"]["resources"] = {"limits": {}, "requests": {"cpu": "10m", "memory": "32Mi"}}
    spec["analysis"]["settleTime"] = "2s"
    for step in spec["rollout"]["ramp"]["steps"]:
        step["hold"] = "5s"
    spec["rollout"]["minimumBake"] = "5s"
    del spec["podTemplate"]
    file.write_text(yaml.safe_dump(manifest))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the tutorial's relative paths lead to the right files."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (tmp_path / "examples" / "01-first-canary").glob("*.yaml"):
        put_light_engine(file)
    for name in (".venv", "model_server"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_commands_of_the_tutorial_promote_then_roll_back(place: Place, light_image: str, checkout: Path) -> None:
    assert light_image == IMAGE
    end = "trap 'running=$(jobs -p); [ -z \"$running\" ] || kill $running' EXIT\n"
    script = "set -euo pipefail\n" + end + "set -x\n" + "\n".join(steps())
    log = checkout / "output"
    try:
        with log.open("w") as output:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=checkout,
                env=dict(place.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
                check=False,
            )
    finally:
        here = Cluster(place.environment, NAMESPACE)
        here.kubectl("delete", "llmdeployments", "--all", "--ignore-not-found", timeout=60)
        here.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    text = log.read_text()
    assert done.returncode == 0, text
    assert "\nfile:///opt/serin/models/better\n" in text
    assert "\nVerdictFailed: errors: the canary is worse than the stable: " in text
    assert "\nllmdeployment.serin.dev/triage unchanged\n" in text
    assert "\nRolledBack\n" in text
