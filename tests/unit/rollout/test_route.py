"""Traffic moves without a failed request: a backend enters and leaves at 0, and weight is taken away at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.api.names import FULL_WEIGHT
from serin.rollout.route import is_settled, next_split
from tests.unit.rollout.cases import NOON, A, B, C, make_route

REVISIONS = (A, B, C, "dddddddddd")


@st.composite
def splits(draw: st.DrawFn) -> dict[str, int]:
    """Weights of one to four backends that sum to 10,000, zeros among them."""
    names = draw(st.lists(st.sampled_from(REVISIONS), min_size=1, max_size=4, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, FULL_WEIGHT), min_size=len(names) - 1, max_size=len(names) - 1)))
    edges = [0, *cuts, FULL_WEIGHT]
    return {name: edges[i + 1] - edges[i] for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("current", "wanted", "settled", "expected"),
    [
        pytest.param({}, {A: 10_000}, True, {A: 10_000}, id="the first route serves at once"),
        pytest.param({A: 10_000}, {A: 9_500, B: 500}, True, {A: 10_000, B: 0}, id="a canary enters at 0"),
        pytest.param(
            {A: 10_000, B: 0}, {A: 9_500, B: 500}, False, {A: 10_000, B: 0}, id="it waits for the gateway to know it"
        ),
        pytest.param({A: 10_000, B: 0}, {A: 9_500, B: 500}, True, {A: 9_500, B: 500}, id="then it gets its weight"),
        pytest.param(
            {A: 9_500, B: 500}, {A: 7_500, B: 2_500}, False, {A: 7_500, B: 2_500}, id="a known weight grows at once"
        ),
        pytest.param({A: 5_000, B: 5_000}, {A: 10_000}, False, {A: 10_000, B: 0}, id="a rollback does not wait"),
        pytest.param({A: 10_000, B: 0}, {A: 10_000}, False, {A: 10_000, B: 0}, id="a 0 that is not settled stays"),
        pytest.param({A: 10_000, B: 0}, {A: 10_000}, True, {A: 10_000}, id="a settled 0 leaves"),
        pytest.param({A: 5_000, B: 5_000}, {B: 10_000}, False, {A: 0, B: 10_000}, id="a promotion is one move"),
        pytest.param({A: 10_000}, {B: 10_000}, True, {A: 10_000, B: 0}, id="a new backend waits at 0"),
        pytest.param({A: 10_000}, {B: 5_000, C: 5_000}, True, {A: 10_000, B: 0, C: 0}, id="two new backends wait at 0"),
        pytest.param(
            {A: 9_500, B: 500}, {A: 9_500, C: 500}, True, {A: 10_000, B: 0, C: 0}, id="one canary replaces another"
        ),
        pytest.param({A: 3_333, B: 3_333}, {A: 10_000}, False, {A: 10_000}, id="an edited route is set right"),
    ],
)
def test_next_split_moves_safely(
    current: dict[str, int],
    wanted: dict[str, int],
    *,
    settled: bool,
    expected: dict[str, int],
) -> None:
    assert next_split(current, wanted, settled=settled) == expected


@settings(max_examples=300)
@given(splits(), splits(), st.booleans())
def test_every_split_is_complete_and_backends_pass_through_zero(
    current: dict[str, int],
    wanted: dict[str, int],
    settled: bool,  # noqa: FBT001
) -> None:
    split = next_split(current, wanted, settled=settled)
    assert sum(split.values()) == FULL_WEIGHT
    assert min(split.values()) >= 0
    for revision in split.keys() - current.keys():
        assert split[revision] == 0, "entered with traffic"
    for revision in current.keys() - split.keys():
        assert current[revision] == 0, "left with traffic"
        assert settled, "left before its 0 was served"
    if not settled:
        for revision, weight in current.items():
            assert weight or not split[revision], "got traffic before its 0 was served"


@settings(max_examples=300)
@given(splits(), splits(), st.booleans())
def test_unwanted_backend_loses_weight_at_once_if_another_can_serve(
    current: dict[str, int],
    wanted: dict[str, int],
    settled: bool,  # noqa: FBT001
) -> None:
    split = next_split(current, wanted, settled=settled)
    successors = [r for r, w in wanted.items() if w and (current.get(r) or (r in current and settled))]
    if successors:
        assert not any(split[r] for r in split.keys() - wanted.keys())
    else:
        assert {r: split[r] for r in current} == current


@settings(max_examples=300)
@given(splits(), splits())
def test_split_is_reached_in_at_most_three_moves(current: dict[str, int], wanted: dict[str, int]) -> None:
    split, moves = current, 0
    while split != wanted:
        split, moves = next_split(split, wanted, settled=True), moves + 1
        assert moves <= 3, split
    assert next_split(split, wanted, settled=True) == wanted


@pytest.mark.parametrize(
    ("age_seconds", "programmed", "expected"),
    [
        pytest.param(3, True, True, id="programmed and three seconds old"),
        pytest.param(2.9, True, False, id="too young: its time has whole seconds"),
        pytest.param(3_600, False, False, id="not programmed, however old"),
        pytest.param(-60, True, False, id="changed in the future by a clock that runs ahead"),
        pytest.param(None, True, False, id="never changed by us"),
    ],
)
def test_route_is_settled_only_when_programmed_long_enough(
    age_seconds: float | None,
    *,
    programmed: bool,
    expected: bool,
) -> None:
    changed_at = None if age_seconds is None else NOON - timedelta(seconds=age_seconds)
    assert is_settled(make_route({A: 10_000}, changed_at, programmed=programmed), NOON, 2.0) is expected


def test_revision_that_its_pods_may_not_know_gets_no_weight() -> None:
    assert next_split({A: 10_000, B: 0}, {A: 9_500, B: 500}, settled=True, unknown={B}) == {A: 10_000, B: 0}
    assert next_split({A: 9_500, B: 500}, {A: 5_000, B: 5_000}, settled=True, unknown={B}) == {A: 5_000, B: 5_000}


def test_revision_that_stays_is_not_removed() -> None:
    assert next_split({A: 10_000, B: 0}, {A: 10_000}, settled=True, stay={B}) == {A: 10_000, B: 0}
    assert next_split({A: 9_500, B: 500}, {A: 10_000}, settled=True, stay={B}) == {A: 10_000, B: 0}
