"""The trial state as JSON: it round-trips, stays small, and a damaged one is refused."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from serin.analysis.counts import EPOCHS, Baseline
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.scraped import LeftOut, Scraped
from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import (
    MOST_NEWEST,
    Arrived,
    MetricState,
    TrialState,
    begin_epoch,
)
from serin.api.analysis import Analysis
from serin.errors import RecordError
from serin.evidence.frozen_map import FrozenMap
from serin.evidence.slices import RequestsBySide, Totals
from tests.unit.analysis.trial_states import (
    fresh,
)
from tests.unit.rollout.cases import BAD, FEW, GOOD, NOON, make_evidence
from tests.unit.rollout.worlds import saved_states


@settings(max_examples=60)
@given(saved_states())
def test_state_round_trips_through_json(state: TrialState) -> None:
    text = json.dumps(to_json(state), allow_nan=False)
    again = from_json(json.loads(text))
    assert again == state
    assert to_json(again) == to_json(state)


WRITTEN = to_json(make_evidence(FEW))


def damaged(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(WRITTEN) | changes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="nothing"),
        pytest.param(damaged(version=0), id="another version"),
        pytest.param({k: v for k, v in WRITTEN.items() if k != "until"}, id="a key is missing"),
        pytest.param(damaged(until="yesterday"), id="a time that is none"),
        pytest.param(damaged(epochs=[]), id="epochs that are a list"),
        pytest.param(damaged(epochs={"one": ["2026-05-04T12:00:00+00:00", 500]}), id="an epoch that is no number"),
        pytest.param(damaged(epochs={"1": "2026"}), id="an epoch without weight"),
        pytest.param(damaged(evidence=[]), id="no evidence"),
        pytest.param(damaged(evidence=WRITTEN["evidence"][::-1]), id="evidence of another metric"),
        pytest.param(damaged(measurements=[]), id="no measurements"),
        pytest.param(damaged(measurements=[3, 4]), id="measurements that are none"),
        pytest.param(damaged(unseen="many"), id="a number that is none"),
        pytest.param(damaged(unseen=math.nan), id="not a number"),
        pytest.param(damaged(sliceSeconds=math.inf), id="an infinite number"),
        pytest.param(damaged(arrived=[-1, 5]), id="a negative number of requests"),
        pytest.param(damaged(since="2026-05-04T12:00:00"), id="a time without a zone"),
        pytest.param(
            damaged(epochs={str(e): ["2026-05-04T12:00:00+00:00", 500] for e in range(EPOCHS + 1)}),
            id="more epochs than the label has values",
        ),
        pytest.param(
            damaged(lately=[["2026-05-04T12:00:00+00:00", 1]] * (MOST_NEWEST + 1)), id="too many newest arrivals"
        ),
        pytest.param(damaged(lately=[], latelyAtCanary=[1]), id="arrivals of the canary at an unknown time"),
        pytest.param(damaged(latelySampled=[[None, None]]), id="samples of arrivals at an unknown time"),
        pytest.param(damaged(evidence=[{"leaves": [], "totals": []}] * 2), id="evidence without leaves"),
    ],
)
def test_damaged_state_raises_error_that_says_what_follows(data: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="The trial starts again"):
        from_json(data)


def test_state_of_sixteen_histograms_is_below_500_kb() -> None:
    """A ConfigMap holds a MiB; sixteen histograms with every epoch open are far from it."""
    metrics = [{"name": f"m{i}", "preset": "TimeToFirstToken"} for i in range(16)]
    pinned = measurements(
        Analysis.model_validate({"metrics": metrics}), DEFAULT_SERIES, Baseline(NOON, 1e6), measured=True
    )
    state = fresh(metrics=tuple(map(MetricState.begin, pinned)), epochs={})
    for epoch in range(EPOCHS):
        state = begin_epoch(state, epoch, 5_000, NOON)
        full: dict[str, Any] = {"t": 1.0, "epoch": epoch, "settled": True}
        grown = (replace(m, tests=m.tests.add([Totals(10**9, 10**9, 1, 1)] * 4, **full)) for m in state.metrics)
        state = replace(state, metrics=tuple(grown))
    assert len(json.dumps(to_json(state))) < 500_000


def test_states_of_other_tests_round_trip_through_json() -> None:
    for counts in (GOOD, BAD, FEW):
        assert from_json(to_json(make_evidence(counts))) == make_evidence(counts)


def test_state_of_earlier_version_without_new_keys_is_read() -> None:
    written = to_json(fresh())
    later_on = ("noise", "arrivals", "arrived", "lately", "latelyAtCanary", "sliceSeconds", "throughputs", "generated")
    for later in (*later_on, "arrivedBefore", "ended", "inProgress", "crowdedSince"):
        del written[later]
    for metric in written["evidence"]:
        del metric["incomparable"]
    for measurement in written["measurements"]:
        del measurement["total"]["scale"]
    assert from_json(json.loads(json.dumps(written))) == fresh()


def test_newest_arrivals_of_the_canary_have_a_key_of_their_own() -> None:
    """Version 0.1 reads `lately` as pairs; it would start the trial again after a downgrade."""
    state = replace(fresh(), newest_arrivals=(Arrived(NOON, 300, 15, NOON), Arrived(NOON, 200)))

    written = to_json(state)

    assert (written["lately"], written["latelyAtCanary"]) == ([[NOON.isoformat(), n] for n in (300, 200)], [15, 0])
    assert written["latelySampled"] == [[NOON.isoformat(), None], [None, None]]
    assert from_json(json.loads(json.dumps(written))) == state


def test_times_of_samples_by_process_round_trip_and_may_be_absent() -> None:
    left_out = {3: LeftOut(NOON, RequestsBySide(4, 5))}
    scraped = Scraped(FrozenMap({"b": NOON}), FrozenMap({"a": NOON, "c": NOON}), FrozenMap(left_out))
    written = json.loads(json.dumps(to_json(replace(fresh(), scraped=scraped))))
    assert from_json(written) == replace(fresh(), scraped=scraped)
    del written["scraped"]
    assert from_json(written) == fresh()


def test_newest_arrivals_of_an_earlier_version_have_no_times_of_samples() -> None:
    known = replace(fresh(), newest_arrivals=(Arrived(NOON, 300, 15, NOON, NOON),))
    written = to_json(known)
    del written["latelySampled"]
    assert from_json(written) == replace(known, newest_arrivals=(Arrived(NOON, 300, 15),))


def test_unknown_keys_of_stored_state_are_ignored() -> None:
    """A later version may have written them before the operator was downgraded."""
    later = damaged(inventedLater={"a": [1]})
    later["measurements"][0]["inventedLater"] = 1
    later["evidence"][0]["inventedLater"] = 1
    assert from_json(later) == from_json(WRITTEN)
