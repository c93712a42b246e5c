"""The API accepts every file of the numbered examples, and every README names the files of its folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.demo.place import ROOT
from serin.api.parse import parse_llmdeployment, parse_promptversion
from serin.cli.prompt.files import load_yaml

PARSERS = {"LLMDeployment": parse_llmdeployment, "PromptVersion": parse_promptversion}
FILES = sorted((ROOT / "examples").glob("0*/*.yaml"))
FOLDERS = sorted((ROOT / "examples").glob("0*"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT / "examples"))


@pytest.mark.parametrize("file", FILES, ids=named)
def test_every_example_object_is_valid(file: Path) -> None:
    objects = load_yaml(named(file), file.read_text())  # refuses a key that appears twice
    assert objects
    for each in objects:
        assert each["apiVersion"] == "serin.dev/v1alpha1"
        PARSERS[each["kind"]](each)


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_example_readme_names_exactly_the_files_of_its_folder(folder: Path) -> None:
    names = set(re.findall(r"[\w.-]+\.yaml", (folder / "README.md").read_text()))
    assert names
    assert names == {file.name for file in FILES if file.parent == folder}
