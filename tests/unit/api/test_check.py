"""`check` of a metric: what the parser refuses that no CEL rule can, and its entry in a split document."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serin.api.analysis import Analysis
from serin.api.check import Check


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"kind": "Regex", "pattern": "("}, r"Correct the regular expression '\('"),
        ({"kind": "Refusal", "patterns": ["a", "[b"]}, r"Correct the regular expression '\[b'"),
        ({"kind": "Regex", "pattern": "a{99999999999}"}, "Correct the regular expression"),
        ({"kind": "Other"}, "Input should be 'Schema'"),
        ({"kind": "Empty", "threshold": 1}, "Extra inputs"),
    ],
)
def test_check_that_no_pod_can_make_is_refused(check: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Check.model_validate(check)


def test_entry_has_the_name_and_what_is_written() -> None:
    check = Check.model_validate({"kind": "Contains", "texts": ["a"], "expect": "Absent", "sample": 0.5})
    assert check.entry("own") == {
        "name": "own",
        "kind": "Contains",
        "texts": ["a"],
        "expect": "Absent",
        "sample": 0.5,
    }
    assert Check.model_validate({"kind": "Empty"}).entry("e") == {"name": "e", "kind": "Empty"}


def test_check_counts_answers_so_that_a_ramp_can_follow_it() -> None:
    metrics = [{"name": "format", "check": {"kind": "Empty"}}, {"name": "slow", "preset": "QueueTime"}]
    assert [m.counts_answers for m in Analysis.model_validate({"metrics": metrics}).compared] == [True, False]
