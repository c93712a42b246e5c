"""When the pods that count arrivals were scraped, and what is left out because one of the stable has gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from serin.analysis.arrivals_proof import arrivals_unproven
from serin.analysis.counts import Interval, Point
from serin.analysis.scraped import Scraped, StablePods
from serin.analysis.trial_state import Epoch, TrialState, begin_epoch
from serin.analysis.update import advance
from serin.evidence.frozen_map import FrozenMap
from serin.evidence.slices import RequestsBySide
from tests.unit.analysis.scraped_pods import STARTED
from tests.unit.rollout.cases import GOOD, MINUTE, NOON, A, B, make_evidence

SECOND = timedelta(seconds=1)


def begun() -> TrialState:
    state = make_evidence(GOOD, arrivals=STARTED, epochs={1: Epoch(NOON, 5_000)}, metrics=())
    return replace(state, since=NOON, until=NOON, arrived=RequestsBySide())


def after(
    state: TrialState,
    seconds: int,
    canary: dict[str, int],
    stable: dict[str, int],
    pods: StablePods | None = None,
) -> TrialState:
    """After an interval that ends so many seconds after noon; the samples by process, in seconds after noon."""
    sampled = {
        side: {process: NOON + at * SECOND for process, at in samples.items()}
        for side, samples in ((B, canary), (A, stable))
    }
    assert STARTED
    points: dict[Point, int] = {(side, 1, ""): 10 for side, samples in sampled.items() if samples}
    interval = Interval(state.until, NOON + seconds * SECOND, {STARTED: points}, sampled=sampled)
    return advance(state, [interval], canary=B, stable=A, pods=pods)


def listed(seconds: int, *names: str, **ready_since: int) -> StablePods:
    known = {name: NOON + at * SECOND for name, at in ready_since.items()}
    return StablePods(NOON + seconds * SECOND, {**dict.fromkeys(names), **known})


def test_pod_of_stable_without_sample_holds_back_the_moment_of_comparison() -> None:
    state = after(begun(), 60, {"b": 58}, {"a": 57, "c": 50}, listed(70, "a", "c"))
    assert state.newest_arrivals[-1].stable_sampled == NOON + 50 * SECOND
    for end in (120, 300):
        state = after(state, end, {"b": end - 2}, {"a": end - 3}, listed(end + 10, "a", "c"))
        assert state.newest_arrivals[-1].stable_sampled == NOON + 50 * SECOND, end
    back = after(state, 310, {"b": 308}, {"a": 307, "c": 305}, listed(320, "a", "c"))
    assert back.newest_arrivals[-1].stable_sampled == NOON + 305 * SECOND
    assert not back.scraped.left_out


def test_canary_requests_are_not_known_until_stable_is_scraped_however_long_it_takes() -> None:
    state = after(begun(), 60, {"b": 58}, {"a": 57, "c": 50}, listed(70, "a", "c"))
    for step in range(100):
        end = 65 + 5 * step
        state = after(state, end, {"b": end - 2}, {"a": end - 3}, listed(end + 10, "a", "c"))
    waiting = sum(each.canary for each in state.newest_arrivals)
    assert (state.arrived.canary - waiting, len(state.newest_arrivals)) == (0, 64)


def test_new_pod_of_stable_counts_from_when_it_is_ready() -> None:
    state = after(begun(), 300, {"b": 298}, {"a": 297}, listed(310, "a", c=280))
    assert state.newest_arrivals[-1].stable_sampled == NOON + 280 * SECOND
    later = after(state, 500, {"b": 498}, {"a": 497}, listed(510, "a", c=280))
    assert later.newest_arrivals[-1].stable_sampled == NOON + 497 * SECOND, "it gets no requests"


@pytest.mark.parametrize(
    ("pods", "until"), [(listed(520, "a"), 520), (None, 500)], ids=["pods are known", "only samples are known"]
)
def test_comparison_begins_again_when_a_pod_of_the_stable_has_gone(pods: StablePods | None, until: int) -> None:
    state = after(begun(), 300, {"b": 298}, {"a": 297, "c": 290}, pods and listed(310, "a", "c"))
    state = after(state, 500, {"b": 498}, {"a": 497}, pods)
    assert dict(state.scraped.stable) == {"a": NOON + 497 * SECOND}
    left = state.scraped.left_out[1]
    assert (left.until, left.requests) == (NOON + until * SECOND, RequestsBySide(20, 20))
    state = after(state, until + 10, {"b": until + 8}, {"a": until - 1}, pods)
    assert state.scraped.left_out[1].requests == RequestsBySide(30, 30), "both sides' samples may be of before"
    state = after(state, until + 20, {"b": until + 18}, {"a": until + 17}, pods)
    assert state.scraped.left_out[1].requests == RequestsBySide(30, 30)


def test_epoch_that_lost_a_pod_until_its_end_is_left_out_as_a_whole() -> None:
    state = after(begun(), 300, {"b": 298}, {"a": 297, "c": 290}, listed(310, "a", "c"))
    state = begin_epoch(state, 2, 5_000, NOON + 295 * SECOND)
    state = after(state, 500, {"b": 498}, {"a": 497}, listed(520, "a"))
    assert set(state.scraped.left_out) == {1, 2}
    assert state.scraped.left_out[1].until > NOON + 295 * SECOND


def test_sentence_names_the_pod_that_is_not_scraped() -> None:
    state = after(begun(), 60, {"b": 58}, {"a": 57, "c": 50}, listed(70, "a", "c"))
    state = after(state, 300, {"b": 298}, {"a": 297}, listed(310, "a", "c"))
    sentence = arrivals_unproven(state)
    assert sentence
    assert sentence.endswith(
        "Prometheus has had no count of arrivals from 1 pod of the stable (c) for 250 s, and only what arrived before "
        "is compared; check that the pod is scraped and gets requests."
    )


def test_value_of_an_epoch_that_is_used_again_is_compared_from_its_begin() -> None:
    scraped = Scraped(FrozenMap({"b": NOON}), FrozenMap({"a": NOON}))
    state = replace(begun(), scraped=scraped)
    state = after(state, 500, {"b": 498}, {"x": 497}, listed(520, "x"))
    assert set(state.scraped.left_out) == {1}
    again = begin_epoch(begin_epoch(state, 2, 5_000, NOON + 10 * MINUTE), 1, 5_000, NOON + 20 * MINUTE)
    assert 1 not in again.scraped.left_out
