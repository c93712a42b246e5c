"""The table at the end: errors, wrong answers, and exposure."""

from __future__ import annotations

import io

from examples.demo.report import PROMPT_HEADER, Ledger, PromptRow, Row, table
from examples.demo.say import Teller
from examples.load import Outcome, count


def outcome(sent_at: float, *, status: int = 200, revision: str = "stable", good: bool = True) -> Outcome:
    error = None if status == 200 else f"HTTP {status}"
    judged = good if error is None else None
    return Outcome(sent_at, 0.5, status, error, revision, judged, obeyed=judged)


def test_error_is_not_counted_as_wrong_answer() -> None:
    counts = count([outcome(0), outcome(1, good=False), outcome(2, status=400)])
    assert (counts.sent, counts.failed, counts.wrong, counts.latency) == (3, 1, 1, 0.5)


def test_exposure_is_from_first_error_to_last_canary_request() -> None:
    at_canary = [outcome(10, revision="c"), outcome(11, status=400, revision="c"), outcome(15, revision="c")]
    row = Row("3", [*at_canary, outcome(99)], "c")
    assert row.exposure == 3.5
    assert row.cells() == ("3", "4", "3", "1", "0", "4 s")


def test_exposure_without_canary_error_is_none() -> None:
    assert Row("2", [outcome(1, revision="c"), outcome(2, status=500)], "c").exposure is None
    assert Row("1", [outcome(1)]).cells()[2] == "-"


def test_prompt_row_counts_from_apply_and_between_bad_answers() -> None:
    at_canary = [outcome(at, revision="c", good=at not in {12, 14}) for at in (11, 12, 14, 16)]
    row = PromptRow(Row("6", [outcome(1, good=False), *at_canary], "c"), applied_at=10, extra_pods=0, restarts=1)
    assert (row.first_answer, row.exposure, len(row.bad)) == (1.5, 2.0, 2)
    assert row.cells() == ("6", "0", "1", "1.5 s", "2 s", "2")
    assert len(row.cells()) == len(PROMPT_HEADER)
    assert "BAD ANSWERS" in table([row], PROMPT_HEADER)


def test_prompt_row_without_canary_answer_has_no_times() -> None:
    failed = outcome(1, status=500, revision="c")
    assert PromptRow(Row("5", [failed], "c"), 0, 0, 0).cells() == ("5", "0", "0", "-", "-", "0")


def test_table_columns_are_aligned() -> None:
    lines = table([Row("1 install", [outcome(n) for n in range(100)]), Row("2", [])]).splitlines()
    assert [line.index("SENT") + 4 for line in lines[:1]] == [line.index("100") + 3 for line in lines[1:2]]
    assert len({len(line) for line in lines}) == 1


def test_failed_expectation_is_printed_with_found_value() -> None:
    stream = io.StringIO()
    ledger = Ledger(Teller(stream))
    ledger.expect("the sky is blue", held=True)
    ledger.expect("pigs fly", held=False, found="a pig on the ground")
    assert (ledger.held, ledger.broken) == (["the sky is blue"], ["pigs fly"])
    assert "FAILED: pigs fly. Found: a pig on the ground" in stream.getvalue()
