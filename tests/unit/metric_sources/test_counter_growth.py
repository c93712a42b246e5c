"""Growth of one counter, new series, and the ends of intervals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.metric_sources import counter_growth
from serin.metric_sources.counter_growth import (
    Row,
    Target,
    end_of,
    epoch_of,
    first_after,
    growth,
    has_base,
    is_new,
    milliseconds,
    plain_rise,
    rises,
    target_of,
)
from serin.metric_sources.port import LONGEST
from serin.metric_sources.response import samples_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SCRAPE = 15 * SECOND


@pytest.mark.parametrize(
    ("samples", "base", "expected"),
    [
        ([], None, 0),
        ([(10, 5.0), (20, 8.0)], None, 3),
        ([(5, 1.0), (10, 5.0), (20, 8.0), (30, 9.0), (31, 99.0)], None, 4),
        ([(10, 5.0), (20, 2.0), (30, 4.0)], None, 4),
        ([(10, 5.0), (20, 7.0), (25, 0.0), (30, 6.0)], None, 8),
        ([(20, 8.0), (30, 9.0)], None, 1),
        ([(20, 8.0), (30, 9.0)], 0.0, 9),
        ([(20, 8.0), (30, 9.0)], 5.0, 4),
        ([(20, 8.0), (30, 9.0)], 50.0, 9),
        ([(31, 8.0)], 0.0, 0),
        ([(10, 8.0)], 0.0, 0),
    ],
    ids=[
        "no samples",
        "a sample at the beginning is the base",
        "only within the interval",
        "a reset",
        "a reset to zero",
        "the first value of an unknown series is only a base",
        "a new series counts in full",
        "an older value is the base",
        "a reset since the older value",
        "only after the interval",
        "only before the interval",
    ],
)
def test_growth_of_one_counter(samples: list[tuple[int, float]], base: float | None, expected: float) -> None:
    assert growth(samples, 10, 30, base) == expected


@given(
    st.lists(st.one_of(st.integers(0, 40), st.just(-1)), min_size=1, max_size=40),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_growth_adds_up_wherever_intervals_are_cut(steps: list[int], cuts: list[int]) -> None:
    """A step is growth between two scrapes; -1 is a restart that then counts three before it is scraped."""
    value, truth, samples = 0, 0, [(0, 0.0)]
    for number, step in enumerate(steps, start=1):
        # A restart that passes its old value between two scrapes is not visible in the samples.
        restart = step == -1 and value > 3
        value, grown = (3, 3) if restart else (value + max(step, 0), max(step, 0))
        truth += grown
        samples.append((number * 10, float(value)))
    bounds = sorted({0, 400, *cuts})
    assert sum(growth(samples, a, b) for a, b in pairwise(bounds)) == truth


MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.mark.parametrize(
    ("attempts", "started", "expected"),
    [
        ([(-60, 1), (0, 1)], [], True),
        ([(-30, 0), (-15, 0), (0, 1)], [], False),
        ([(0, 1)], [(0, -5)], True),
        ([(0, 1)], [(0, -39)], True),
        ([(0, 1)], [(0, -41)], False),
        ([(0, 1)], [(0, -3000)], False),
        ([(at, 0) for at in range(-600, 0, 15)] + [(0, 1)], [(0, -610)], True),
        ([(at, 0) for at in range(-3585, 0, 15)] + [(0, 1)], [(0, -7200)], False),
        ([(-3700, 1), (0, 1)], [(0, -9000)], False),
        ([(-3, 1), (0, 1)], [(0, -9000)], True),
        ([(0, 1)], [(-15, -9000), (0, -2)], True),
        ([(0, 1)], [(0, -9000), (15, 1)], False),
        ([], [(0, -20)], False),
        ([], [], False),
    ],
    ids=[
        "the target was scraped without it",
        "the target could not be reached, and does not say how old it is",
        "the process began within the interval",
        "the process is so young that it was not scraped before",
        "a process that should have been scraped before",
        "a relabelled target, or a Prometheus without its data",
        "a process that was tried all its life while it loaded",
        "a process older than anything that is known of it",
        "scraped too long ago",
        "scraped without it within the interval",
        "the process that showed it counts, not the one before",
        "the process that showed it counts, not the one after",
        "young, and never scraped",
        "nothing is known",
    ],
)
def test_series_is_new_if_it_must_have_begun_at_zero(
    attempts: list[tuple[int, int]],
    started: list[tuple[int, int]],
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    first = 10 * HOUR
    target = Target(
        [(first + at * 1000, float(up)) for at, up in attempts],
        [(first + at * 1000, first / 1000 + age) for at, age in started],
    )
    assert is_new(first, first - 10_000, target, SCRAPE) is expected


@pytest.mark.parametrize(
    ("zone", "known", "expected"),
    [("a", "a", [(2, 1.0)]), ("a", "b", [(1, 1.0)]), ("a", None, [(1, 1.0)]), (None, "a", [(1, 1.0)])],
    ids=["the same", "another", "a shorter name alone", "a longer name is another target"],
)
def test_target_is_identified_by_all_of_its_labels(zone: str | None, known: str | None, expected: object) -> None:
    """A target that gained or lost a label is a new target, and the total of its life is not growth."""
    target = {"instance": "a", "job": "j"}
    up = [Row(target, [(1, 1.0)]), *([Row(target | {"zone": known}, [(2, 1.0)])] if known else [])]
    labels = target | {"outcome": "ok"} | ({"zone": zone} if zone else {})
    assert target_of(labels, up, []) == Target(expected, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("behind", "length"),
    [(-1, None), (0, None), (5, 5), (600, 600), (601, 301), (750, 450), (100_000, 400)],
)
def test_interval_is_at_most_ten_minutes_and_cut_on_a_grid(behind: int, length: int | None) -> None:
    begin = AT - behind * SECOND
    end = end_of(begin, AT, LONGEST)
    assert (end and end - begin) == (length and length * SECOND)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.integers(1, 10**7))  # noqa: DTZ001
def test_intervals_reach_the_end_of_the_known_samples(begin: datetime, seconds: int) -> None:
    begin = begin.replace(tzinfo=UTC)
    end = end_of(begin, begin + seconds * SECOND, LONGEST)
    assert end
    assert min(seconds * SECOND, LONGEST / 2) <= end - begin <= LONGEST
    assert end <= begin + seconds * SECOND


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("0", 0),
        ("31", 31),
        ("32", None),
        ("007", None),
        ("none", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("-1", None),
    ],
)
def test_epoch_is_a_number_of_the_ring(text: str | None, epoch: int | None) -> None:
    assert epoch_of(text) == epoch


def test_times_are_rounded_down_to_milliseconds() -> None:
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 1, 999_999, tzinfo=UTC)) == 1999


def test_first_sample_after_the_begin() -> None:
    samples = [(10, 1.0), (20, 1.0)]
    assert first_after(samples, 10, 20) == 20
    assert first_after(samples, 20, 30) is None
    assert has_base(samples, 10)
    assert not has_base(samples, 9)
    assert not has_base([], 9)


def test_counter_that_a_restarted_process_shows_late_began_at_zero() -> None:
    """The first good answer of the new process comes after scrapes without the counter, and is nearly the old value."""
    started = [(4_000, 3.0), (9_000, 3.0)]
    assert counter_growth.rises([(9_000, 652.0)], 8_000, 10_000, 690.0, started, base_since=0) == ((0.0, 652.0),)
    assert counter_growth.rises([(9_000, 652.0)], 8_000, 10_000, 690.0, started) == ()


STEPS = st.lists(st.tuples(st.sampled_from([1, 15_000, 15_001]), st.sampled_from([0, 1, 7])), min_size=1, max_size=5)


@given(st.integers(0, 10**6), STEPS, st.integers(-20_000, 80_000), st.integers(0, 80_000))
def test_counter_that_only_grows_has_one_rise(
    start: int, steps: list[tuple[int, int]], after: int, length: int
) -> None:
    at, value, values = milliseconds(AT) + start, 3, []
    for wait, more in steps:
        at, value = at + wait, value + more
        values.append((at / 1000, str(value)))
    begin = milliseconds(AT) + start + after
    end = max(begin, at) + length
    found = plain_rise(values, begin / 1000, end / 1000)
    samples = samples_of(values)
    if has_base(samples, begin):
        assert found == next(iter(rises(samples, begin, end)), ())
    else:
        assert found is None


@pytest.mark.parametrize(
    "values",
    [
        [(1.0, "5"), (2.0, "4")],
        [(1.0, "5"), (2.0, "NaN")],
        [(1.0, "NaN"), (2.0, "5")],
        [(1.0, "5"), (2.0, "+Inf")],
        [(1.0, "-1"), (2.0, "5")],
        [(2.0, "5"), (1.0, "5")],
        [(1.0, "5"), (1.0, "6")],
        [(1.0, "5"), (9.0, "6")],
        [(1.5, "5"), (2.0, "6")],
        [],
    ],
    ids=["fall", "NaN", "NaN first", "infinite", "negative", "order", "same time", "after the end", "no base", "empty"],
)
def test_other_counters_need_more_than_a_look(values: list[tuple[float, str]]) -> None:
    assert plain_rise(values, 1.0, 8.0) is None
