"""The page of `make bench-rollback`: sections that are measured separately."""

from __future__ import annotations

from bench.rollback import engines, prompts
from bench.rollback.__main__ import RESULTS
from bench.rollback.page import page, row, table

ORDER = (engines.TITLE, prompts.TITLE)


def test_page_keeps_the_section_that_was_not_measured() -> None:
    first = page("", {"Engines": "Old engines.", "Prompts": "Old prompts."}, ORDER)
    second = page(first, {"Prompts": "New prompts."}, ORDER)
    assert "Old engines." in second
    assert "New prompts." in second
    assert "Old prompts." not in second
    assert second.index("## Engines") < second.index("## Prompts")


def test_stored_page_is_read_back_as_it_is() -> None:
    assert page(RESULTS.read_text(), {}, ORDER) == RESULTS.read_text()


def test_row_has_least_median_and_most_of_each_column() -> None:
    lines = table(("ramp", "seconds", "bad"), [row("fixed", [3.0, 1.0, 2.25], [4, 1, 2])])
    assert lines[0] == "| ramp | seconds: least | median | most | bad: least | median | most |"
    assert lines[1].count("|") == lines[2].count("|") == 8
    assert lines[2] == "| fixed | 1.0 | 2.2 | 3.0 | 1 | 2 | 4 |"
