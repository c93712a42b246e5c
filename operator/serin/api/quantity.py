"""Parses Kubernetes quantities, so that rules can validate and compare them.

The grammar is that of apimachinery's `resource.Quantity`; the CEL form of the same rules uses `isQuantity`.
"""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_SUFFIXES |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}
_GRAMMAR = re.compile(r"([+-]?(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32}))(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,2}))")


def amount(value: int | str) -> Decimal | None:
    """The numeric value of a quantity, or None if the value is not a quantity."""
    match = _GRAMMAR.fullmatch(str(value))
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])
