"""Layout of the repository: no module under `operator/`, matching lock files, existing make targets, no machine paths.

Reads files only. Layers between modules are the import contracts' business (`lint-imports`, in pyproject.toml).
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
# Hosts of packages, modules and images; the configuration of the machine selects them.
REGISTRY_HOSTS = re.compile(
    r"\b(pypi\.org|pythonhosted\.org|proxy\.golang\.org|sum\.golang\.org|registry\.npmjs\.org|static\.crates\.io"
    r"|index\.crates\.io|repo1\.maven\.org|deb\.debian\.org|docker\.io|ghcr\.io|quay\.io|gcr\.io|registry\.k8s\.io)\b"
)
# Folders of a particular machine; /opt and /usr exist in images.
# Tests use invented home directories.
MACHINE_PATHS = re.compile(r"(?<![\w$}~/.-])/((root|Users|work|mnt|workspace)/|home/(?!ana\b))[\w.-]+")
TEXT = {".py", ".toml", ".md", ".yaml", ".yml", ".json", ".txt", ".in", ".sh", ".tpl", ".cfg", ".go", ".mod", ""}
THIS = Path(__file__).relative_to(ROOT)


def files() -> list[Path]:
    """Every file that is or could be committed, relative to the root."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def lines() -> Iterator[tuple[str, str]]:
    """Every line of text with its path and number."""
    for path in files():
        if path.suffix in TEXT and path != THIS:
            for number, line in enumerate((ROOT / path).read_text(errors="replace").splitlines(), start=1):
                yield f"{path}:{number}", line


def test_source_root_operator_has_no_module() -> None:
    assert not list((ROOT / "operator").glob("*.py"))
    assert not (ROOT / "tests" / "operator").exists()


def test_python_in_the_root_imports_its_own_operator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import operator, collections; print(operator.__file__)"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert not done.stdout.startswith(str(ROOT / "operator"))


def test_no_module_shadows_the_standard_library() -> None:
    names = {path.stem for path in (ROOT / "operator" / "serin").rglob("*.py")} - {"__init__", "__main__"}

    assert not names & sys.stdlib_module_names


def test_every_module_has_a_docstring() -> None:
    silent = [
        str(path)
        for path in files()
        if path.suffix == ".py"
        and (ROOT / path).read_text().strip()
        and "tests" not in path.parts  # the names of tests are descriptions
        and not re.match(r'(#!.*\n)?\s*r?"""', (ROOT / path).read_text())
    ]

    assert not silent


# What each source folder may import of the others; tests may import everything, and nothing imports tests.
MAY_IMPORT = {
    "operator/serin": set(),
    "sandbox": set(),
    "model_server": {"sandbox", "serin"},
    "fakes": {"serin"},
    "examples": {"sandbox", "model_server"},
    "docs": {"serin", "model_server"},
    "bench": {"serin", "sandbox", "model_server", "examples", "fakes"},
    ".ci": {"sandbox"},
}
OURS = {Path(folder).name for folder in MAY_IMPORT} | {"tests"}


def imported(source: str) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folder_imports_only_what_it_may(folder: str) -> None:
    sources = [path for path in files() if path.suffix == ".py" and path.is_relative_to(folder)]
    wrong = [
        f"{path} imports {name}"
        for path in sources
        if "tests" not in path.parts
        for name in imported((ROOT / path).read_text()) & OURS - MAY_IMPORT[folder] - {Path(folder).name}
    ]

    assert sources
    assert not wrong


def test_no_file_names_a_registry_host() -> None:
    assert not [where for where, line in lines() if REGISTRY_HOSTS.search(line)]


def test_no_file_names_a_machine_path() -> None:
    assert not [f"{where}: {line.strip()}" for where, line in lines() if MACHINE_PATHS.search(line)]


def test_no_comment_has_a_todo() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")

    assert not [where for where, line in lines() if unfinished.search(line) and not where.startswith("LICENSE")]


def test_top_level_matches_the_architecture() -> None:
    expected = ["operator", "crds", "charts", "model_server", "tests", "sandbox", "examples", "docs", "bench"]
    named = ["pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"]

    assert [name for name in expected if not (ROOT / name).is_dir()] == []
    assert [name for name in named if not (ROOT / name).is_file()] == []


def verbs() -> dict[str, str]:
    """The documented targets of the Makefile."""
    found = re.findall(r"^([a-z0-9]+):[^\n]*## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


def test_make_lists_at_most_ten_targets() -> None:
    listed = subprocess.run(["make", "-C", ROOT], check=True, capture_output=True, text=True).stdout

    assert 0 < len(verbs()) <= 10
    for verb, sentence in verbs().items():
        assert re.search(rf"make {verb}\s+{re.escape(sentence)}", listed)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    # Only code counts; "make sure" is prose.
    in_code = set(re.findall(r"(?:`|^\s*\$? ?)make ([a-z0-9]+)\b", text, re.MULTILINE))

    assert in_code <= verbs().keys()


def test_ci_runs_check_test_and_e2e_in_this_order() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert re.search(r"^for verb in check test e2e;", script.read_text(), re.MULTILINE)


def test_secret_scan_is_the_first_check() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    steps = [
        "secret_scan",
        "ruff check",
        "ruff format --check",
        "mypy",
        "lint-imports",
        "tests/contract",
        "--check crds",
    ]
    places = [recipe.index(step) for step in steps]

    assert places == sorted(places)


def locked(name: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / name).read_text()
    return {match[1]: Version(match[2]) for match in re.finditer(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)}


def test_lock_files_satisfy_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {
        "runtime.txt": project["project"]["dependencies"],
        "dev.txt": [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]],
        "build.txt": project["build-system"]["requires"],
    }
    wrong = [
        f"{file}: {each}"
        for file, requirements in asked.items()
        for each in map(Requirement, requirements)
        if each.name.lower() not in locked(file) or not each.specifier.contains(locked(file)[each.name.lower()])
    ]

    assert not wrong, "run requirements/lock"


def test_tested_versions_are_the_shipped_versions() -> None:
    assert locked("runtime.txt").items() <= locked("dev.txt").items()


@pytest.mark.parametrize("name", ["bootstrap.txt", "build.txt", "runtime.txt", "dev.txt"])
def test_every_locked_package_has_hashes(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    packages = re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]

    assert packages
    assert all("--hash=sha256:" in package for package in packages)


def test_adrs_are_numbered_without_gaps_and_complete() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    parts = ("## Context", "## Decision", "## Consequences", "## Rejected")

    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    assert not [page.name for page in pages if any(part not in page.read_text() for part in parts)]


def test_index_lists_each_adr_with_its_title() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    titles = {page: page.read_text().split("\n", 1)[0].split(". ", 1)[1] for page in pages}

    assert not [page.name for page in pages if f"[{titles[page]}](adr/{page.name})" not in index]


@pytest.mark.parametrize(("name", "module"), [("Decision", "decide.py"), ("Headline", "headline.py")])
def test_decision_and_headline_are_built_in_one_module(name: str, module: str) -> None:
    modules = (ROOT / "operator" / "serin" / "rollout").glob("*.py")
    calls = [(path.name, node) for path in modules for node in ast.walk(ast.parse(path.read_text()))]
    found = [where for where, node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == name]

    assert set(found) == {module}
    assert name == "Headline" or len(found) == 1
