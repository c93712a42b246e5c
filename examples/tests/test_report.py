"""The closing table: what counts as an error, as a wrong answer, and how long users were exposed."""

from __future__ import annotations

import io

from examples.demo.report import Ledger, Row, table
from examples.demo.say import Teller
from examples.load import Outcome, count


def outcome(sent_at: float, *, status: int = 200, revision: str = "stable", good: bool | None = True) -> Outcome:
    error = None if status == 200 else f"HTTP {status}"
    return Outcome(sent_at, 0.5, status, error, revision, good if error is None else None)


def test_an_error_is_not_a_wrong_answer() -> None:
    counts = count([outcome(0), outcome(1, good=False), outcome(2, status=400)])
    assert (counts.sent, counts.failed, counts.wrong, counts.latency) == (3, 1, 1, 0.5)


def test_exposure_runs_from_the_end_of_the_first_error_to_the_last_request_at_the_canary() -> None:
    at_canary = [outcome(10, revision="c"), outcome(11, status=400, revision="c"), outcome(15, revision="c")]
    row = Row("3", [*at_canary, outcome(99)], "c")
    assert row.exposure == 3.5
    assert row.cells() == ("3", "4", "3", "1", "0", "4 s")


def test_without_an_error_at_the_canary_there_is_no_exposure() -> None:
    assert Row("2", [outcome(1, revision="c"), outcome(2, status=500)], "c").exposure is None
    assert Row("1", [outcome(1)]).cells()[2] == "-"


def test_the_columns_of_the_table_are_aligned() -> None:
    lines = table([Row("1 install", [outcome(n) for n in range(100)]), Row("2", [])]).splitlines()
    assert [line.index("SENT") + 4 for line in lines[:1]] == [line.index("100") + 3 for line in lines[1:2]]
    assert len({len(line) for line in lines}) == 1


def test_a_broken_expectation_is_shown_with_what_was_found() -> None:
    stream = io.StringIO()
    ledger = Ledger(Teller(stream))
    ledger.expect("the sky is blue", held=True)
    ledger.expect("pigs fly", held=False, found="a pig on the ground")
    assert (ledger.kept, ledger.broken) == (["the sky is blue"], ["pigs fly"])
    assert "NOT SO: pigs fly. Found: a pig on the ground" in stream.getvalue()
