"""The middleware and the operator say the same of every status: two programs, so each has the table."""

from __future__ import annotations

import pytest

from model_server.serin_model_server.outcome import OUTCOMES, of_status
from serin.analysis.answers import Kind, kind_of_code, kind_of_outcome


@pytest.mark.parametrize("status", range(200, 600))
def test_status_is_of_one_kind_at_the_gateway_and_in_the_pod(status: int) -> None:
    assert kind_of_code(str(status)) is kind_of_outcome(of_status(status))


def test_only_ok_is_good() -> None:
    """The operator takes an outcome that it does not know for good, so it must know all of them."""
    assert [outcome for outcome in OUTCOMES if kind_of_outcome(outcome) is Kind.GOOD] == ["ok"]
