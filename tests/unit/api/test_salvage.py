"""A spec that breaks a rule is read as far as it can be, and never fails."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.operator_in_memory import spec
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.salvage import salvage_llmdeployment

FULL = spec(replicas=4, analysis={"blindTimeout": "1m", "metrics": [{"name": "errors", "preset": "ErrorRate"}]})


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def broken(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(FULL)
    holder: Any = changed
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return changed


def test_valid_spec_loses_nothing() -> None:
    assert salvage_llmdeployment({"spec": FULL}) == (LLMDeploymentSpec.model_validate(FULL), frozenset())


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([place for place in places(FULL) if place]),
    st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just([]), st.just({"a": {"b": 1}}), st.just("1e100")),
)
def test_any_broken_value_costs_only_its_field(path: tuple[Any, ...], value: Any) -> None:
    changed = broken(path, value)
    try:
        expected = LLMDeploymentSpec.model_validate(changed)
    except ValueError:
        read, lost = salvage_llmdeployment({"spec": changed})
        assert path[0] in lost
        if path[0] != "replicas":
            assert read.replicas == 4
        if path[0] != "analysis":
            assert read.analysis.blind_timeout.total_seconds() == 60 or "analysis" in lost
    else:
        assert salvage_llmdeployment({"spec": changed}) == (expected, frozenset())


@pytest.mark.parametrize("manifest", [{}, {"spec": None}, {"spec": "x"}, {"spec": []}])
def test_spec_that_is_no_map_has_defaults(manifest: dict[str, Any]) -> None:
    read, lost = salvage_llmdeployment(manifest)
    assert read.replicas == 1
    assert {"model", "routing"} <= lost


def test_deep_value_is_left_out() -> None:
    deep: Any = {}
    for _ in range(3_000):
        deep = {"a": deep}
    read, lost = salvage_llmdeployment({"spec": FULL | {"podTemplate": deep}})
    assert read.replicas == 4
    assert lost == frozenset({"podTemplate"})


def test_broken_rule_of_whole_spec_keeps_replicas_and_routing() -> None:
    ramp: dict[str, Any] = {"ramp": {"adaptive": {}}}
    analysis = {"metrics": [{"name": "latency", "preset": "TimeToFirstToken"}]}
    read, lost = salvage_llmdeployment({"spec": FULL | {"rollout": ramp, "analysis": analysis}})
    assert read.replicas == 4
    assert read.routing == LLMDeploymentSpec.model_validate(FULL).routing
    assert {"rollout", "analysis"} <= lost
