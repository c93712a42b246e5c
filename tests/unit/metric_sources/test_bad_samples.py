"""Samples that no healthy server sends: what is counted is right, or nothing is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.analysis.counts import Tally
from serin.metric_sources.counter_growth import growth, milliseconds
from serin.metric_sources.http_session import decoded
from serin.metric_sources.prometheus import Prometheus
from tests.unit.metric_sources.tsdb import Tsdb
from tests.unit.metric_sources.watches import END, REQUESTS, SECOND, watch

TARGET = {"namespace": "ns", "pod": "p1", "instance": "10.0.0.1:8000", "job": "vllm"}
OK = {"revision": "r1", "epoch": "3", "outcome": "ok"}
AGE = 9000
"""Seconds since the process began."""

Sent = Sequence[tuple[float, str]]
"""Seconds before the end of the interval, which begins at 20, and the value as text."""


def row(name: str, labels: dict[str, str], samples: Sent) -> dict[str, Any]:
    values = [[END.timestamp() - seconds, text] for seconds, text in samples]
    return {"metric": {"__name__": name, **labels}, "values": values}


def as_answered(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The rows as they are after an answer was decoded."""
    return cast("list[Any]", decoded(json.dumps({"data": {"result": rows}}).encode())["data"]["result"])


def scraped_every_five_seconds(tsdb: Tsdb, *, began: float = AGE) -> None:
    for seconds in range(600, -1, -5):
        at = milliseconds(END - seconds * SECOND)
        tsdb.add("up", at, 1, **TARGET)
        if seconds < began:
            tsdb.add("process_start_time_seconds", at, END.timestamp() - began, **TARGET)
        else:
            tsdb.add("process_start_time_seconds", at, END.timestamp() - AGE, **TARGET)


async def counted(source: Prometheus, *tallies: Tally, seconds: float = 20) -> dict[Tally, dict[Any, int]]:
    one = watch("a", END - seconds * SECOND, *(tallies or (REQUESTS,)))
    read = (await source.read([one]))[one.key]
    assert read.error is None
    return {tally: dict(points) for tally, points in read.intervals[0].counts.items()}


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(25, "7"), (15, "NaN"), (5, "9")], 2),
        ([(25, "NaN"), (22, "7"), (5, "9")], 2),
        ([(25, "7"), (15, "9"), (5, "NaN")], 2),
        ([(25, "NaN"), (15, "NaN"), (5, "NaN")], 0),
        ([(25, "7"), (15, "+Inf"), (5, "9")], 2),
        ([(25, "7"), (15, "-Inf"), (5, "9")], 2),
        ([(25, "+Inf"), (5, "+Inf")], 0),
        ([(25, "-5"), (15, "-3"), (5, "-1")], 0),
        ([(25, "-5"), (15, "0"), (5, "3")], 3),
        ([(25, "7"), (15, "-1"), (5, "2")], 2),
        ([(25, "0.25"), (15, "0.5"), (5, "0.75")], 0),
        ([(25, "0.25"), (15, "0.75"), (5, "1.5")], 1),
        ([(25, "0.9"), (15, "1.1"), (5, "1.9")], 1),
        ([(25, "100"), (15, "95"), (5, "98")], 0),
        ([(25, "100"), (15, "95"), (5, "103")], 3),
        ([(25, "100"), (15, "104"), (10, "99"), (5, "104")], 4),
        ([(25, "7"), (15, "8"), (15, "9"), (5, "9")], 2),
        ([(25, "7"), (15, "9"), (15, "8"), (5, "9")], 2),
        ([(25, "7"), (5, "9"), (15, "8")], 2),
        ([(5, "9"), (5, "9"), (25, "7"), (25, "7")], 2),
        ([(25, "1e3"), (5, "1.005e3")], 5),
        ([(25, "9007199254740992"), (5, "9007199254740994")], 2),
        ([], 0),
    ],
    ids=[
        "NaN between",
        "NaN first",
        "NaN last",
        "only NaN",
        "infinite between",
        "minus infinite between",
        "only infinite",
        "negative",
        "negative until it is not",
        "negative in between, as after a reset",
        "parts of an event",
        "one event in parts",
        "one event is complete",
        "backwards by five",
        "backwards by five and further",
        "backwards by five within the interval",
        "two values at a time",
        "two values at a time, the lower one last",
        "not in order",
        "not in order and twice",
        "with an exponent",
        "more than floats count exactly",
        "no sample",
    ],
)
@pytest.mark.parametrize("sent", [as_answered, list], ids=["as sent", "decoded"])
async def test_bad_samples_of_a_counter_add_what_happened(
    tsdb: Tsdb, source: Prometheus, samples: Sent, expected: int, sent: Any
) -> None:
    scraped_every_five_seconds(tsdb)
    tsdb.rows["serin_requests_total"] = sent([row("serin_requests_total", TARGET | OK, samples)])
    assert await counted(source) == ({REQUESTS: {("r1", 3, "ok"): expected}} if expected else {})


async def test_small_fall_after_a_restart_counts_the_new_process(tsdb: Tsdb, source: Prometheus) -> None:
    scraped_every_five_seconds(tsdb, began=18)
    samples = [(25, "100"), (15, "95"), (5, "98")]
    tsdb.rows["serin_requests_total"] = as_answered([row("serin_requests_total", TARGET | OK, samples)])
    assert await counted(source) == {REQUESTS: {("r1", 3, "ok"): 98}}


@given(
    st.lists(st.tuples(st.sampled_from([0, 0.25, 0.5, 1, 3]), st.integers(0, 5)), min_size=2, max_size=40),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_fractions_and_steps_back_add_up_wherever_cut(steps: list[tuple[float, int]], cuts: list[int]) -> None:
    """The counter steps back by up to five before most scrapes, and by less than a tenth of its value."""
    highest, samples = 1000.0, [(0, 1000.0)]
    for number, (more, back) in enumerate(steps, start=1):
        highest += more
        samples.append((number * 10, highest - back))
    bounds = sorted({0, 400, *cuts})
    assert sum(growth(samples, a, b) for a, b in pairwise(bounds)) == int(max(v for _, v in samples)) - 1000


async def test_page_of_a_pod_with_64_revisions_is_counted_by_revision(tsdb: Tsdb, source: Prometheus) -> None:
    """A pod that has served many prompts shows them all; two of them are on trial."""
    revisions = ["r1", "r2", *(f"{number:010x}" for number in range(62))]
    tsdb.rows["serin_requests_total"] = as_answered([
        row("serin_requests_total", TARGET | OK | {"revision": revision, "epoch": str(epoch)}, [(25, "5"), (5, "6")])
        for revision in revisions
        for epoch in range(32)
    ])  # fmt: skip
    assert await counted(source) == {REQUESTS: {(each, epoch, "ok"): 1 for each in ("r1", "r2") for epoch in range(32)}}


async def test_hundred_thousand_series_are_counted_exactly(tsdb: Tsdb, source: Prometheus) -> None:
    own = Tally("my_total")
    tsdb.rows["my_total"] = as_answered([
        row("my_total", {"pod": f"p{pod}", "revision": "r1", "user": f"u{user}"}, [(25, "5"), (5, "6")])
        for pod in range(10)
        for user in range(10_000)
    ])  # fmt: skip
    began = time.process_time()
    assert await counted(source, own) == {own: {("r1", None, ""): 100_000}}
    assert time.process_time() - began < 20
