"""Every file of the numbered examples is what the API accepts, and every README speaks of files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from examples.demo.place import ROOT
from serin.api.parse import parse_llmdeployment, parse_promptversion

PARSERS = {"LLMDeployment": parse_llmdeployment, "PromptVersion": parse_promptversion}
FILES = sorted((ROOT / "examples").glob("0*/*.yaml"))
FOLDERS = sorted((ROOT / "examples").glob("0*"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT / "examples"))


@pytest.mark.parametrize("file", FILES, ids=named)
def test_every_object_of_an_example_is_accepted(file: Path) -> None:
    objects = list(yaml.safe_load_all(file.read_text()))
    assert objects
    for each in objects:
        assert each["apiVersion"] == "serin.dev/v1alpha1"
        PARSERS[each["kind"]](each)


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_every_example_has_files_and_its_readme_names_all_of_them_and_no_others(folder: Path) -> None:
    named_there = set(re.findall(r"[\w.-]+\.yaml", (folder / "README.md").read_text()))
    assert named_there
    assert named_there == {file.name for file in FILES if file.parent == folder}
