"""What version 0.1 stored is read by this version: an upgrade in the middle of a trial forgets nothing.

`tests/fixtures/stored` holds ConfigMaps and ControllerRevisions as commit af6ca3c wrote them, in the middle of a ramp
with fixed steps, in a holdback, and on an adaptive ramp. The files are never rewritten by newer code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serin.analysis.verdict import judge
from serin.evidence.slices import Counts
from serin.manifests.controller_revision import read_record, render_record
from serin.manifests.evidence_map import read_evidence, render_evidence
from serin.manifests.owner import Owner
from serin.rollout.record import Record

STORED = Path(__file__).parents[2] / "fixtures" / "stored"
OWNER = Owner(namespace="default", name="triage", uid="uid-1")
NAMES = ("fixed-steps", "holdback", "adaptive")


def stored(name: str) -> dict[str, Any]:
    return dict(json.loads((STORED / f"{name}.json").read_text()))


def with_what_is_new(before: Any, after: Any) -> Any:
    """`before` with the keys that only `after` has, at any depth: a newer version may add keys, and changes none."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {key: with_what_is_new(before.get(key, after[key]), after[key]) for key in after} | {
            key: value for key, value in before.items() if key not in after
        }
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [with_what_is_new(one, other) for one, other in zip(before, after, strict=True)]
    return before


def decoded(annotations: dict[str, str]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in annotations.items() if key.startswith("serin.dev/")}


@pytest.mark.parametrize("name", NAMES)
def test_stored_trial_state_round_trips_unchanged(name: str) -> None:
    config_map = stored(name)["configMap"]

    state = read_evidence(config_map)

    assert state is not None
    before = json.loads(config_map["data"]["state.json"])
    after = json.loads(render_evidence(OWNER, state)["data"]["state.json"])
    assert after == with_what_is_new(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_stored_records_round_trip_unchanged(name: str) -> None:
    for obj in stored(name)["records"]:
        rendered = render_record(OWNER, read_record(obj))

        assert rendered["data"] == obj["data"]
        before, after = (decoded(each["metadata"].get("annotations", {})) for each in (obj, rendered))
        assert after == with_what_is_new(before, after)
        assert rendered["metadata"]["labels"].items() <= obj["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("name", "canary", "stable", "evidence"),
    [
        ("fixed-steps", Counts(2250, 22), Counts(16750, 166), 0.0),
        ("holdback", Counts(7650, 76), Counts(26350, 262), 0.0),
        ("adaptive", Counts(1370, 67), Counts(8632, 444), 0.0),
    ],
)
def test_stored_counts_give_the_same_verdict(name: str, canary: Counts, stable: Counts, evidence: float) -> None:
    judgement = judge(read_evidence(stored(name)["configMap"]))

    errors = next(metric for metric in judgement.metrics if metric.name == "errors")
    assert (errors.canary, errors.stable) == (canary, stable)
    assert errors.evidence == pytest.approx(evidence, abs=1e-12)


def test_stored_trials_keep_their_steps_clocks_and_commands() -> None:
    def trialled(name: str) -> Record:
        return next(r for r in map(read_record, stored(name)["records"]) if r.trial and not r.rejection)

    fixed, holdback, adaptive = (trialled(name) for name in NAMES)

    assert fixed.trial
    assert holdback.trial
    assert adaptive.trial
    assert fixed.handled == ("night-1",)
    assert [step.weight for step in fixed.trial.steps] == [500, None, 2500]
    assert fixed.trial.step == 2
    assert not fixed.trial.in_holdback
    assert holdback.trial.in_holdback
    assert holdback.trial.holdback
    assert holdback.trial.holdback.weight == 8000
    assert adaptive.trial.budget
    assert adaptive.trial.budget.max_weight == 2500
    assert adaptive.trial.weight == 2500
