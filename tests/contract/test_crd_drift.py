"""The CRDs in the repository and in the chart match the API models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serin.api.__main__ import files, template
from serin.api.crd import CUSTOM_RESOURCES, render_crd

ROOT = Path(__file__).parents[2]
MANIFESTS = Path("crds")
TEMPLATES = Path("charts/serin-crds/templates")


def test_generated_files_match_the_models() -> None:
    for path, content in files(MANIFESTS, TEMPLATES).items():
        assert (ROOT / path).read_text() == content, f"{path} is stale; run `make crds`"


def test_no_crd_file_is_left_over() -> None:
    generated = {path.name for path in files(MANIFESTS, TEMPLATES)}
    for folder in (MANIFESTS, TEMPLATES):
        assert {path.name for path in (ROOT / folder).glob("*.yaml")} == generated


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda resource: resource.kind)
def test_chart_crd_differs_only_by_keep_annotation(resource: Any) -> None:
    crd = render_crd(resource)
    rendered = yaml.safe_load(template(crd).replace('{{ "{{" }}', "{{"))
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered == crd


def test_check_detects_a_changed_file(tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serin.api", "crds", "templates", *options]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT / "operator")},
            capture_output=True,
            text=True,
            check=False,
        )

    missing = run("--check")
    assert (missing.returncode, run().returncode, run("--check").returncode) == (1, 0, 0)
    assert missing.stderr.endswith("run `make crds` and commit the result.\n")
    changed = tmp_path / "crds" / "promptversions.yaml"
    changed.write_text(changed.read_text().replace("maxLength: 253", "maxLength: 254"))
    stale = run("--check")
    assert stale.returncode == 1
    assert stale.stderr == "Out of date: crds/promptversions.yaml; run `make crds` and commit the result.\n"
