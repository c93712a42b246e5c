"""Parses the rows of Prometheus' answers: series with samples, or labels with a number. Pure.

Called by `serin.metric_sources.queries`. A row that cannot be parsed is an error and is never skipped, because a
missing row would count as zero requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from serin.errors import MetricsError
from serin.metric_sources.counter_growth import Row

T = TypeVar("T")


def vector(rows: Iterable[Any]) -> list[tuple[dict[str, str], float]]:
    """Labels without the metric name, and the value, of each row of an instant vector; NaN and infinity are left out.

    Raises:
        MetricsError: a row cannot be parsed.
    """
    found = _read(rows, lambda row: float(row["value"][1]))
    return [(labels, value) for labels, value in found if math.isfinite(value)]


def matrix(rows: Iterable[Any]) -> list[Row]:
    """The series of a range vector; native histograms, which have no values, are left out.

    Raises:
        MetricsError: a row cannot be parsed.
    """

    def samples(row: Any) -> list[tuple[int, float]]:
        read = [(round(float(at) * 1000), float(value)) for at, value in row.get("values", ())]
        return sorted(sample for sample in read if math.isfinite(sample[1]))

    return [Row(labels, values) for labels, values in _read(rows, samples) if values]


def _read(rows: Iterable[Any], value: Callable[[Any], T]) -> list[tuple[dict[str, str], T]]:
    found = []
    for row in rows:
        try:
            labels = {str(k): str(v) for k, v in row["metric"].items() if k != "__name__"}
            found.append((labels, value(row)))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MetricsError(
                f"Prometheus sent a row that cannot be read ({str(row)[:200]}); check the URL and its version."
            ) from error
    return found
