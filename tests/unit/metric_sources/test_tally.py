"""Which responses count, as good or bad, and what happened since the window began."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.metric_sources.tally import Baseline, Sample, counted
from serin.rollout.snapshot import Counts

AT = datetime(2026, 1, 1, tzinfo=UTC)


def sample(code: str, value: float, instance: str = "one") -> Sample:
    return Sample(frozenset({("code", code), ("instance", instance)}), code, value, AT)


def baseline(*samples: Sample) -> Baseline:
    return Baseline(AT, frozenset(), {one.series: one.value for one in samples})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("200", Counts(1, 0)),
        ("204", Counts(1, 0)),
        ("301", Counts(1, 0)),
        ("409", Counts(1, 0)),
        *[(code, Counts(1, 1)) for code in ("400", "413", "422", "500", "502", "503", "504", "599")],
        *[(code, Counts(0, 0)) for code in ("401", "403", "404", "408", "429", "499")],
    ],
)
def test_each_code_is_good_bad_or_neither(code: str, expected: Counts) -> None:
    assert counted([sample(code, 1)], baseline()) == expected


def test_only_what_came_since_counts_per_series() -> None:
    before = [sample("200", 100), sample("200", 7, "two"), sample("500", 3)]
    now = [sample("200", 130), sample("200", 7, "two"), sample("500", 5), sample("503", 4)]
    assert counted(now, baseline(*before)) == Counts(36, 6)


def test_a_counter_that_began_anew_counts_all_that_it_shows() -> None:
    assert counted([sample("200", 12)], baseline(sample("200", 90))) == Counts(12, 0)


def test_a_gateway_that_went_away_counts_nothing() -> None:
    assert counted([], baseline(sample("200", 90))) == Counts(0, 0)


@given(st.lists(st.tuples(st.sampled_from(["200", "400", "404", "500"]), st.integers(0, 10**9), st.integers(0, 10**9))))
def test_counts_are_never_negative_and_bad_never_exceeds_all(rows: list[tuple[str, int, int]]) -> None:
    before = baseline(*(sample(code, old, str(n)) for n, (code, old, _) in enumerate(rows)))
    counts = counted([sample(code, new, str(n)) for n, (code, _, new) in enumerate(rows)], before)
    assert 0 <= counts.bad <= counts.requests
