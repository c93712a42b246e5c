"""Boundaries nearest to the quantiles of a histogram, and single quantiles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.evidence.boundaries import QUANTILES, boundaries, quantile

INF = math.inf


@pytest.mark.parametrize(
    ("cumulative", "expected"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({INF: 10.0}, (), id="no finite bound"),
        pytest.param({1.0: 0.0, 2.0: 0.0, 5.0: 0.0, INF: 0.0}, (2.0,), id="no observation: the middle"),
        pytest.param({1.0: 100.0, INF: 100.0}, (1.0,), id="one bound"),
        pytest.param(
            {0.1: 50, 0.2: 75, 0.5: 90, 1.0: 97, 2.0: 99.5, 5.0: 99.9, INF: 100},
            (0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
            id="one for each quantile",
        ),
        pytest.param({0.1: 99, 0.2: 100, INF: 100}, (0.1, 0.2), id="distinct"),
        pytest.param({1.0: 0, 2.0: 0, INF: 100}, (1.0,), id="all above the last: the lowest of equals"),
        pytest.param({5.0: 100, 1.0: 50, INF: 100}, (1.0, 5.0), id="ascending, in any order of input"),
    ],
)
def test_boundaries_are_nearest_to_quantiles(cumulative: dict[float, float], expected: tuple[float, ...]) -> None:
    assert boundaries(cumulative) == expected


histograms = st.lists(st.tuples(st.floats(0.001, 1e4), st.integers(0, 100)), min_size=1, max_size=20).map(
    lambda steps: {
        bound: float(sum(n for other, n in steps if other <= bound)) for bound in [*(b for b, _ in steps), INF]
    }
)


@given(histograms)
def test_boundaries_are_few_distinct_bounds(cumulative: dict[float, float]) -> None:
    found = boundaries(cumulative)
    assert 1 <= len(found) <= len(QUANTILES)
    assert list(found) == sorted(set(found))
    assert set(found) <= {bound for bound in cumulative if bound < INF}


@pytest.mark.parametrize(
    ("cumulative", "q", "expected"),
    [
        pytest.param({}, 0.99, None, id="nothing"),
        pytest.param({1.0: 0.0, INF: 0.0}, 0.99, None, id="no observation"),
        pytest.param({INF: 10.0}, 0.99, None, id="no finite bound"),
        pytest.param({1.0: 98, 2.0: 99, 5.0: 100, INF: 100}, 0.99, 2.0, id="just reached"),
        pytest.param({1.0: 98, 2.0: 98.9, 5.0: 100, INF: 100}, 0.99, 5.0, id="just missed"),
        pytest.param({1.0: 10, 2.0: 20, INF: 100}, 0.99, 2.0, id="beyond the last bound"),
    ],
)
def test_quantile_is_smallest_bound_not_exceeded(
    cumulative: dict[float, float], q: float, expected: float | None
) -> None:
    assert quantile(cumulative, q) == expected


@given(histograms, st.floats(0, 1), st.floats(0, 1))
def test_quantile_is_monotone(cumulative: dict[float, float], p: float, q: float) -> None:
    low, high = quantile(cumulative, min(p, q)), quantile(cumulative, max(p, q))
    assert (low is None) == (high is None)
    assert low is None or high is None or low <= high
