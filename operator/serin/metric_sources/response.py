"""Parses the rows of Prometheus' answers: series with samples, or labels with a number. Pure.

Called by `serin.metric_sources.queries` and `identities`. A row that cannot be parsed is an error and is never skipped,
because a missing row would count as zero requests. A row is decoded when it is counted, and of its labels only what is
needed: an answer has thousands of rows, and objects of all their labels and samples cost more than all else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from serin.errors import MetricsError
from serin.metric_sources.counter_growth import Row, Samples

Sent = msgspec.Raw | Mapping[str, str]
"""The labels of a row: JSON as it was sent, or decoded."""
Values = Sequence[tuple[float, str]]
"""Times in seconds since 1970 with values, as they were sent."""
SentValues = msgspec.Raw | Values
"""The samples of a row: JSON as it was sent, or decoded."""
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, msgspec.MsgspecError)
"""What is raised where a row has another form than that of Prometheus."""

_LABELS = msgspec.json.Decoder(dict[str, str])
_VALUES = msgspec.json.Decoder(list[tuple[float, str]])


def unreadable(row: object) -> MetricsError:
    """The error for a row that cannot be parsed."""
    text = bytes(row) if isinstance(row, msgspec.Raw) else row
    return MetricsError(
        f"Prometheus sent a row that cannot be read ({str(text)[:200]}); check the URL and its version."
    )


def labels_of(sent: Sent) -> dict[str, str]:
    """All labels of a row.

    Raises:
        MetricsError: they are not texts by name.
    """
    try:
        if isinstance(sent, msgspec.Raw):
            return _LABELS.decode(sent)
        "".join(sent.values())  # raises TypeError unless all are text
        return dict(sent)
    except UNREADABLE as error:
        raise unreadable(sent) from error


def vector(rows: Iterable[Any]) -> list[tuple[dict[str, str], float]]:
    """Labels without the metric name, and the value, of each row of an instant vector; NaN and infinity are left out.

    Raises:
        MetricsError: a row cannot be parsed.
    """
    found = []
    for row in rows:
        try:
            labels, value = labels_of(row["metric"]), float(row["value"][1])
        except UNREADABLE as error:
            raise unreadable(row) from error
        labels.pop("__name__", None)
        if math.isfinite(value):
            found.append((labels, value))
    return found


def series(rows: Iterable[Any]) -> list[tuple[Sent, SentValues]]:
    """The labels and the samples of each row, as sent; native histograms are left out.

    Raises:
        MetricsError: a row cannot be parsed.
    """
    found: list[tuple[Sent, SentValues]] = []
    for row in rows:
        try:
            sent = row["metric"]
            if "values" in row:
                found.append((sent, row["values"]))
            elif "value" in row:
                found.append((sent, [row["value"]]))
        except UNREADABLE as error:
            raise unreadable(row) from error
    return found


def values_of(sent: SentValues) -> Values:
    """The samples of a row, whose times and values may still be no numbers if they were not sent as JSON.

    Raises:
        MetricsError: they are not pairs.
    """
    if not isinstance(sent, msgspec.Raw):
        return sent
    try:
        return _VALUES.decode(sent)
    except UNREADABLE as error:
        raise unreadable(sent) from error


def matrix(rows: Iterable[Any], name: str) -> list[Row]:
    """The series of a range vector, with their metric's name among the labels; those of another name are left out.

    Raises:
        MetricsError: a row cannot be parsed.
    """
    found = [Row(labels_of(sent), samples_of(values)) for sent, values in series(rows)]
    return [row for row in found if row.samples and row.labels.get("__name__", name) == name]


def samples_of(sent: SentValues) -> Samples:
    """The samples in milliseconds, oldest first.

    Of samples at the same time the highest counts; NaN and infinity are left out.

    Raises:
        MetricsError: they cannot be parsed.
    """
    try:
        samples = [(round(float(at) * 1000), float(value)) for at, value in values_of(sent)]
    except UNREADABLE as error:
        raise unreadable(sent) from error
    if any(before[0] >= after[0] for before, after in pairwise(samples)):
        samples = sorted(dict(sorted(samples)).items())
    return [sample for sample in samples if math.isfinite(sample[1])]
