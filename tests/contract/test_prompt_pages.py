"""Every output of `serin prompt` that the docs quote is what the command prints.

A fenced block that begins with `$ serin prompt` is a transcript: commands after `$`, each with its output. They are run
in docs/how-to/prompts, without a cluster. `SERIN_GOLDEN=write` writes the outputs into the pages.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from serin.__main__ import main

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = sorted(page for page in HOW_TO.glob("*.md") if "```\n$ serin prompt" in page.read_text())
TRANSCRIPT = re.compile(r"^```\n(\$ serin prompt .*?)^```$", re.MULTILINE | re.DOTALL)


def played(transcript: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The transcript with what its commands print."""
    text = ""
    for line in transcript.splitlines():
        if line.startswith("$ serin "):
            with pytest.raises(SystemExit):
                main(shlex.split(line.removeprefix("$ serin ")))
            printed = capsys.readouterr()
            text += f"{line}\n{printed.out}{printed.err}"
    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_quotes_what_the_commands_print(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(HOW_TO / "prompts")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    text = page.read_text()
    expected = TRANSCRIPT.sub(lambda block: f"```\n{played(block[1], capsys)}```", text)
    if os.environ.get("SERIN_GOLDEN") == "write":
        page.write_text(expected)

    assert page.read_text() == expected


def test_pages_have_transcripts() -> None:
    names = {page.name for page in PAGES}
    assert {"work-with-prompts.md", "change-a-prompt.md", "write-checks.md", "move-from-langfuse.md"} <= names
