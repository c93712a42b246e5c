"""The reference pages match the code, and the chart's README lists all values and alerts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.reference import operator_pages, prompting_page
from docs.reference.generate import COMMAND, FOLDER, HEADER, pages, stale
from serin.api.crd import CUSTOM_RESOURCES
from serin.reporting.conditions import TYPES
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "serin"
FOLDERS = ("docs", "charts", "sandbox", "examples", "bench", "model_server")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(#[^)\s]+)?\)")


def test_reference_pages_match_the_code() -> None:
    assert stale(FOLDER) == [], f"run `{COMMAND}`"


def test_no_reference_page_is_left_over() -> None:
    generated = {path.name for path in FOLDER.glob("*.md") if path.read_text().startswith(HEADER)}

    assert generated == pages().keys()


def test_reference_lists_every_kind_reason_phase_and_setting() -> None:
    made = pages()

    assert [resource.kind for resource in CUSTOM_RESOURCES if f"## {resource.kind}\n" not in made["api.md"]] == []
    assert [name for name in (*Reason, *Phase) if f"| `{name}` |" not in made["reasons.md"]] == []
    assert [f for f in Settings.model_fields if f"`SERIN_{f.upper()}`" not in made["settings.md"]] == []


def test_prompting_page_lists_every_refusal() -> None:
    sources = (ROOT / "model_server" / "serin_model_server" / "prompting").glob("*.py")
    used = {code for source in sources for code in re.findall(r'code="(\w+)"', source.read_text())}

    assert used == prompting_page.CODES.keys()


def test_settings_page_names_existing_chart_values() -> None:
    values = dict(flat(chart_values()))
    named = [value.strip("`") for value in operator_pages.chart_values().values() if value.startswith("`")]

    assert len(named) > 10
    assert [name for name in named if name not in values] == []


def test_check_detects_a_changed_page(tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "docs.reference.generate", "--folder", str(tmp_path), *options],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )

    missing = run("--check")
    assert (missing.returncode, run().returncode, run("--check").returncode) == (1, 0, 0)
    assert missing.stderr == f"Out of date: {', '.join(pages())}; run `{COMMAND}` and commit the result.\n"
    changed = tmp_path / "reasons.md"
    changed.write_text(changed.read_text().replace("`Aborted`", "`Cancelled`"))
    wrong = run("--check")
    assert (wrong.returncode, wrong.stderr.partition(";")[0]) == (1, "Out of date: reasons.md")


def chart_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted path; `resources` is one value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and name != "resources":
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_chart_readme_lists_every_value_with_default() -> None:
    rows = re.findall(r"^\| `([A-Za-z.]+)` \| `([^`]*)` \|", (CHART / "README.md").read_text(), re.MULTILINE)

    assert {name: yaml.safe_load(default) for name, default in rows} == dict(flat(chart_values()))
    assert len(rows) == len(dict(rows))


def test_chart_readme_lists_every_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", (CHART / "templates" / "prometheusrule.yaml").read_text())
    listed = re.findall(r"^\| `(Serin\w+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)

    assert listed == alerts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_in_a_page_has_a_target(page: Path) -> None:
    broken = [
        target + anchor
        for target, anchor in LINK.findall(page.read_text())
        if "://" not in target and not _found(page.parent / target if target else page, anchor)
    ]

    assert broken == []


def _found(path: Path, anchor: str) -> bool:
    if not anchor or not path.is_file():
        return path.exists()
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return anchor[1:] in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", ["docs/concepts/rollout.md", "docs/concepts/status.md", "docs/how-to/debug-at-night.md"]
)
def test_pages_name_only_existing_reasons_and_phases(page: str) -> None:
    text = (ROOT / page).read_text()
    # A CamelCase code word that fills a table cell is a reason, a phase, a condition or an alert.
    cells = re.findall(r"(?<=\| )((?:`[A-Z][A-Za-z]+`(?:, )?)+)(?= \|)", text)
    named = {word for cell in cells for word in re.findall(r"`([A-Za-z]+)`", cell)}
    alerts = set(re.findall(r"- alert: (\w+)", (CHART / "templates" / "prometheusrule.yaml").read_text()))

    assert named
    assert named <= {*Reason, *Phase, *TYPES, *alerts}


def test_night_page_lists_every_reason_that_needs_a_person() -> None:
    page = (ROOT / "docs" / "how-to" / "debug-at-night.md").read_text()
    quiet = {
        Reason.INSTALLING,
        Reason.SERVING,
        Reason.CANARY_RUNNING,
        Reason.PROMOTING,
        Reason.PROMOTED,
        Reason.CAPACITY_AVAILABLE,
        Reason.ROUTE_PROGRAMMED,
        Reason.METRICS_AVAILABLE,
        Reason.NO_CANARY,
        Reason.ACCEPTED,
        Reason.COMMAND_DONE,
        Reason.WITHDRAWING,
        Reason.NO_ROUTE,
        Reason.SPLIT_IN_FORCE,
        Reason.SPLIT_NOT_WATCHED,
    }

    assert [str(reason) for reason in Reason if reason not in quiet and f"`{reason}`" not in page] == []


@pytest.mark.parametrize(
    ("page", "story"),
    [
        ("rollout", "good_canary_is_promoted"),
        ("rollout", "bad_canary_is_rolled_back_and_remembered"),
        ("prompts", "a_good_prompt_is_promoted_in_the_pods_of_the_stable"),
    ],
)
def test_concept_page_quotes_the_current_golden_transcript(page: str, story: str) -> None:
    golden = (ROOT / "tests" / "stories" / "golden" / f"{story}.txt").read_text()

    assert golden.rstrip("\n") in (ROOT / "docs" / "concepts" / f"{page}.md").read_text()
