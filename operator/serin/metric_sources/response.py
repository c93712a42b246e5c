"""Parses the rows of Prometheus' answers: series with samples, or labels with a number. Pure.

Called by `serin.metric_sources.queries`. A row that cannot be parsed is an error and is never skipped, because a
missing row would count as zero requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
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


def matrix(rows: Iterable[Any], name: str) -> list[Row]:
    """The series of a range vector, with their metric's name among the labels, as sent.

    Native histograms, which have no values, are left out, and so are series of another name, which were not asked for.
    Of samples at the same time the highest counts; NaN and infinity are left out. Of equal values that follow each
    other only the first and the last are there.

    Raises:
        MetricsError: a row cannot be parsed.
    """
    found = []
    for row in rows:
        try:
            labels, values = row["metric"], row.get("values", ())
            if labels.get("__name__", name) != name or not values:
                continue
            "".join(labels.values())  # raises TypeError unless all are text
            text = values[0][1]
            if text == values[-1][1] and all([value[1] == text for value in values]):  # noqa: C419 - the faster one
                values = (values[0], values[-1]) if len(values) > 1 else values
            samples = [(round(float(at) * 1000), float(value)) for at, value in values]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MetricsError(_UNREADABLE.format(str(row)[:200])) from error
        if any([before[0] >= after[0] for before, after in pairwise(samples)]):  # noqa: C419 - the faster one
            samples = sorted(dict(sorted(samples)).items())
        if not all([math.isfinite(value) for _, value in samples]):  # noqa: C419 - the faster one
            samples = [sample for sample in samples if math.isfinite(sample[1])]
        if samples:
            found.append(Row(labels, samples))
    return found


_UNREADABLE = "Prometheus sent a row that cannot be read ({}); check the URL and its version."


def _read(rows: Iterable[Any], value: Callable[[Any], T]) -> list[tuple[dict[str, str], T]]:
    found = []
    for row in rows:
        try:
            labels = {str(k): str(v) for k, v in row["metric"].items() if k != "__name__"}
            found.append((labels, value(row)))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MetricsError(_UNREADABLE.format(str(row)[:200])) from error
    return found
