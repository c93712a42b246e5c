"""The caveats: what the comparison of a trial cannot show."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serin.analysis.counts import Baseline, MetricReadings
from serin.analysis.presets import DEFAULT_SERIES, measurements
from serin.analysis.trial_state import Arrived, Epoch, MetricState
from serin.api.analysis import Analysis
from serin.api.names import MIDDLEWARE_ARG
from serin.evidence.slices import Counts, RequestsBySide
from serin.reporting.caveats import MIXED_TOOLS, NO_EPOCH, NOT_RANDOM, ONE_POD, caveats
from serin.rollout.decide import decide
from serin.rollout.snapshot import Snapshot
from tests.unit.reporting.statuses import (
    NOTHING_COUNTED,
    status_of,
)
from tests.unit.rollout.cases import (
    ENGINE,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    A,
    B,
    by_name,
    canary_at,
    make_engine,
    make_evidence,
    make_pods,
    make_record,
    make_spec,
)

BARE = make_record(A, promotion=1, pod_template={})
ROUTED_BY_HEADER = {"parentRefs": [{"name": "llm"}], "matches": [{"headers": [{"name": "x-team", "value": "a"}]}]}


def caveats_of(snapshot: Snapshot) -> tuple[str, ...]:
    decision = decide(snapshot)
    assert decision.canary
    return caveats(snapshot, decision, decision.canary)


def arrived(canary: int, stable: int, *, weight: int = 500, recent: int = 0, age: timedelta = 24 * HOUR) -> Snapshot:
    epochs = {1: Epoch(NOON - age, weight)}
    newest = (Arrived(NOON, recent),)
    state = make_evidence(GOOD, epochs=epochs, arrived=RequestsBySide(canary, stable), newest_arrivals=newest)
    return replace(canary_at(), saved_state=state)


@pytest.mark.parametrize(
    ("snapshot", "side"),
    [
        (arrived(500, 9_500), None),
        (arrived(470, 9_530), None),
        (arrived(200, 9_800), "canary"),
        (arrived(0, 9_800), "canary"),
        (arrived(1_000, 9_000), "stable"),
        (arrived(0, 6_000, recent=6_000), None),
        (arrived(270, 9_000, recent=4_500), None),
        (arrived(3_800, 95_000, recent=2_000), "canary"),
        (arrived(3_000, 6_000, weight=5_000, age=MINUTE), None),
        (arrived(5_000, 10_000, weight=5_000, recent=2_000, age=2 * MINUTE), None),
        (arrived(1_000, 2_000, weight=9_000, age=MINUTE), None),
        (arrived(2_000, 10_000, weight=5_000, recent=3_000, age=2 * MINUTE), "canary"),
        (arrived(0, 0), None),
        (arrived(500, 0, weight=10_000), None),
        (arrived(0, 500, weight=0), None),
    ],
    ids=[
        *("as the weight", "about", "half is lost", "all are lost", "twice as many", "all of them just now"),
        *("half of them just now", "a fifth is lost", "an epoch of four scrapes", "three scrapes behind of eight"),
        *("two scrapes behind of four", "two thirds are lost in two minutes"),
        *("no request at all", "everything is the canary's", "nothing is"),
    ],
)
def test_requests_that_do_not_follow_the_weight_are_a_caveat(snapshot: Snapshot, side: str | None) -> None:
    off_weight = [sentence for sentence in caveats_of(snapshot) if "reached the canary" in sentence]
    assert [f"Requests to the {side} are lost" in sentence for sentence in off_weight] == [True] * (side is not None)


def test_noisy_metric_is_named() -> None:
    state = make_evidence(GOOD)
    noise = state.metrics[0].noise
    for _ in range(40):
        noise = noise.add({"a": [Counts(100, 50)], "b": [Counts(100, 5)]}, 15.0)
    state = replace(state, metrics=(replace(state.metrics[0], noise=noise), *state.metrics[1:]))
    sentences = caveats_of(replace(canary_at(), saved_state=state))
    assert any(s.startswith("The stable's own pods differ by more than chance: errors.") for s in sentences)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(canary_at(), {ONE_POD}, id="one pod"),
        pytest.param(
            canary_at(engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(2)))), set(), id="none"
        ),
        pytest.param(
            canary_at(2, spec=make_spec(routing={"gateway": ROUTED_BY_HEADER})), {NOT_RANDOM}, id="a header chooses"
        ),
        pytest.param(
            canary_at(2, record={"pod_template": {}}), {NO_EPOCH}, id="the canary's pods carry no middleware"
        ),
        pytest.param(
            canary_at(2, records=(BARE, make_record(B))), {NO_EPOCH}, id="the stable's pods carry no middleware"
        ),
    ],
)  # fmt: skip
def test_caveats_name_the_limits_of_the_comparison(snapshot: Snapshot, expected: set[str]) -> None:
    seen = status_of(snapshot)
    assert seen.canary is not None
    assert set(seen.canary.caveats or ()) == expected


def test_unread_advisory_metric_is_a_caveat() -> None:
    seen = status_of(canary_at(2, readings=MetricReadings(left_out="Prometheus refused a query; check the selector.")))
    assert seen.canary is not None
    assert seen.canary.caveats == (
        (
            "An Advisory metric could not be read; the verdict does not depend on it. "
            "Prometheus refused a query; check the selector."
        ),
    )


def test_required_metric_without_samples_is_named_once_others_have_some() -> None:
    """It blocks nothing, so a misspelt selector would go unnoticed."""
    metrics = [{"name": "errors", "preset": "ErrorRate"}, {"name": "typo", "preset": "QueueTime"}]
    pinned = measurements(
        *(Analysis.model_validate({"metrics": metrics}), DEFAULT_SERIES, Baseline(NOON, 10.0)),
        measured=True,
        at_load=True,
    )
    for counts, named in ((GOOD, True), (NOTHING_COUNTED, False)):
        errors = replace(make_evidence(counts).metrics[0], measurement=pinned[0])
        metrics = (errors, MetricState.begin(pinned[1]))
        seen = status_of(canary_at(2, saved_state=make_evidence(counts, metrics=metrics)))
        assert seen.canary is not None
        sentence = "No samples on either side: typo. This metric is ignored; check its selector."
        assert (sentence in (seen.canary.caveats or ())) == named


@pytest.mark.parametrize(
    ("rps", "canary", "rollout", "sentence"),
    [
        (
            0.1,
            5,
            {},
            (
                "There is little traffic, 0.1 requests per second. If 1 % of the answers are bad on both sides "
                "(assumed), a proof takes about 1882 requests of the canary, about 10 h. More traffic or a wider "
                "tolerance shortens it."
            ),
        ),
        (0.1, 5, {"deadline": "6h"}, "That is longer than rollout.deadline, 6h."),
        (0.1, 150, {}, None),
        (10.0, 5, {}, None),
        (0.0, 5, {}, None),
    ],
    ids=["little traffic", "longer than the deadline", "well begun", "enough traffic", "unknown traffic"],
)
def test_start_with_little_traffic_says_how_long_a_proof_takes(
    rps: float, canary: int, rollout: dict[str, str], sentence: str | None
) -> None:
    counts = {A: Counts(20, 0), B: Counts(canary, 0)}
    state = make_evidence(counts, requests_per_second=rps, since=NOON)
    found = caveats_of(replace(canary_at(0, spec=make_spec(rollout=rollout)), saved_state=state))
    little = [caveat for caveat in found if "little traffic" in caveat]
    assert [sentence in caveat for caveat in little] == ([True] if sentence else [])


READS_PROMPTS = {
    "spec": {
        "containers": [
            {
                "name": "engine",
                "args": [MIDDLEWARE_ARG],
                "env": [{"name": "SERIN_SPLIT", "value": "x"}, {"name": "SERIN_PROMPTS", "value": "1"}],
                "volumeMounts": [{"name": "serin-split", "mountPath": "/etc/serin/split"}],
            }
        ]
    }
}
TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up"}}]}


@pytest.mark.parametrize(
    ("stable", "canary", "sticky", "warned"),
    [
        ({}, TOOLS, None, True),
        (TOOLS, None, None, True),
        (TOOLS, {"tools": []}, None, True),
        (TOOLS, TOOLS, None, False),
        (None, {}, None, False),
        ({}, TOOLS, {"conversation": {}}, False),
        ({}, TOOLS, {"header": "x-session-id"}, False),
    ],
    ids=str,
)
def test_prompts_with_other_tools_are_mixed_without_a_key(
    stable: dict[str, Any] | None, canary: dict[str, Any] | None, sticky: dict[str, Any] | None, *, warned: bool
) -> None:
    spec = make_spec(routing={"gateway": {"parentRefs": [{"name": "llm"}]}, "sticky": sticky})
    record = {"engine_revision": ENGINE[A], "pod_template": READS_PROMPTS, "prompt_content": canary}
    snapshot = canary_at(spec=spec, engines=by_name(make_engine(A, *make_pods(3))), record=record)
    assert snapshot.target
    promoted = make_record(A, promotion=1, pod_template=READS_PROMPTS, prompt_content=stable)
    told = caveats_of(replace(snapshot, records=(promoted, snapshot.target)))
    assert (MIXED_TOOLS in told) == warned
    own_pods = replace(snapshot.target, resolved=replace(snapshot.target.resolved, engine_revision=ENGINE[B]))
    elsewhere = replace(snapshot, target=own_pods, records=(promoted, own_pods), engines=canary_at().engines)
    assert MIXED_TOOLS not in caveats_of(elsewhere)
