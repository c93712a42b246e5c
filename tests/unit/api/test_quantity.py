"""Quantities have the value that the API server gives them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.api.quantity import amount


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (2, "2"), ("2", "2"), ("500m", "0.5"), ("1k", "1000"), ("1Ki", "1024"), ("1.5Gi", "1610612736"), (".5", "0.5"),
        ("1.", "1"), ("+1", "1"), ("-1", "-1"), ("1e3", "1000"), ("1E3", "1000"), ("1E-3", "0.001"), ("1E", "1e18"),
        ("5n", "5e-9"), ("7u", "7e-6"), ("1Ei", "1152921504606846976"),
    ],
)  # fmt: skip
def test_quantity_has_its_numeric_value(text: str | int, number: str) -> None:
    assert amount(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1K", "1gi", "1kib", "one", ".", "1e", "1.5.5", "1Gi\n", "1mm"])
def test_invalid_quantity_has_no_value(text: str) -> None:
    assert amount(text) is None


@given(st.integers(min_value=0, max_value=10**12))
def test_thousand_milli_units_equal_one_unit(number: int) -> None:
    assert amount(f"{number}000m") == amount(number) == amount(f"{number}")
