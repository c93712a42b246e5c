"""Conversion of the trial state to a ConfigMap and back, also of damaged and foreign ConfigMaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

from serin.analysis.trial_state import TrialState
from serin.manifests.evidence_map import name_of, read_evidence, render_evidence
from tests.unit.manifests.samples import OWNER
from tests.unit.rollout.cases import GOOD, make_evidence
from tests.unit.rollout.worlds import saved_states

WRITTEN = render_evidence(OWNER, make_evidence(GOOD))


def with_unseen(number: str) -> str:
    text = str(WRITTEN["data"]["state.json"])
    assert '"unseen":0.0' in text
    return text.replace('"unseen":0.0', f'"unseen":{number}')


@settings(max_examples=30)
@given(saved_states())
def test_what_is_kept_comes_back(state: TrialState) -> None:
    assert read_evidence(render_evidence(OWNER, state)) == state


def test_configmap_has_owner_and_a_name_unlike_any_revision() -> None:
    metadata = WRITTEN["metadata"]
    assert (WRITTEN["apiVersion"], WRITTEN["kind"]) == ("v1", "ConfigMap")
    assert metadata["name"] == name_of("triage") == "triage-serin-evidence"
    assert metadata["labels"]["app.kubernetes.io/component"] == "evidence"
    assert [ref["uid"] for ref in metadata["ownerReferences"]] == [OWNER.uid]
    assert len(name_of("x" * 40)) <= 63


def test_equal_states_render_equal_text() -> None:
    """Otherwise every reconcile would write it."""
    assert render_evidence(OWNER, make_evidence(GOOD)) == WRITTEN
    read = read_evidence(WRITTEN)
    assert read is not None
    assert render_evidence(OWNER, read) == WRITTEN


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="empty"),
        pytest.param({"data": None}, id="null data"),
        pytest.param({"data": {}}, id="no data"),
        pytest.param({"data": {"state.json": ""}}, id="an empty text"),
        pytest.param({"data": {"state.json": "{oops"}}, id="no JSON"),
        pytest.param({"data": {"state.json": "[]"}}, id="a list"),
        pytest.param({"data": {"state.json": "3"}}, id="a number"),
        pytest.param({"data": {"state.json": '{"version": 99}'}}, id="another version"),
        pytest.param({"data": {"state.json": WRITTEN["data"]["state.json"][:-40]}}, id="cut off"),
        pytest.param({"data": {"state.json": "[" * 100_000}}, id="nested without end"),
        pytest.param({"data": {"state.json": with_unseen("NaN")}}, id="not a number"),
        pytest.param({"data": {"state.json": with_unseen("1e999")}}, id="beyond all numbers"),
    ],
)
def test_unreadable_state_is_none(obj: Mapping[str, Any] | None) -> None:
    assert read_evidence(obj) is None


@pytest.mark.parametrize("key", sorted(json.loads(WRITTEN["data"]["state.json"])))
@pytest.mark.parametrize("value", [None, "x", -1, [], {}], ids=["null", "text", "negative", "list", "object"])
def test_damaged_entry_raises_nothing(key: str, value: Any) -> None:
    """A damaged entry is ignored or the trial starts again; it must not make every reconcile fail."""
    data = json.loads(WRITTEN["data"]["state.json"]) | {key: value}
    read_evidence({"data": {"state.json": json.dumps(data)}})
