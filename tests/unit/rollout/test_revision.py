"""What makes new pods and what does not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fakes.nested import nested
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.errors import SpecError
from serin.rollout.revision import HASH_SCHEMA, WITH_CONTRACT, WRITTEN, engine_revision, revision

SMALLEST: dict[str, Any] = {
    "model": {"name": "triage", "source": "file:///models/triage"},
    "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
}


def named(**changes: Any) -> str:
    return engine_revision(LLMDeploymentSpec.model_validate(SMALLEST | changes))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"replicas": 7}, id="replicas"),
        pytest.param({"paused": True}, id="paused"),
        pytest.param({"revisionHistoryLimit": 3}, id="revisionHistoryLimit"),
        pytest.param({"rollout": {"ramp": {"steps": [{"weight": 1}]}, "drainTimeout": "1h"}}, id="rollout"),
        pytest.param({"routing": {"gateway": {"parentRefs": [{"name": "other"}], "hostnames": ["a.b"]}}}, id="routing"),
        pytest.param({"engine": {"cache": {"pvc": "weights"}}}, id="engine.cache"),
        pytest.param({"prompt": {"name": "triage-1"}}, id="prompt: it makes a revision, not pods"),
    ],
)
def test_unhashed_fields_keep_the_engine_revision(changes: dict[str, Any]) -> None:
    assert named(**changes) == named()


CHANGES: dict[str, dict[str, Any]] = {
    "model name": {"model": {"name": "other", "source": "file:///models/triage"}},
    "model source": {"model": {"name": "triage", "source": "file:///models/other"}},
    "image": {"engine": {"image": "vllm:1"}},
    "args": {"engine": {"args": {"max-model-len": "8192"}}},
    "another value of an arg": {"engine": {"args": {"max-model-len": "4096"}}},
    "limits": {"engine": {"resources": {"limits": {"nvidia.com/gpu": 1}}}},
    "more limits": {"engine": {"resources": {"limits": {"nvidia.com/gpu": 2}}}},
    "requests": {"engine": {"resources": {"requests": {"cpu": "1"}}}},
    "no resources at all": {"engine": {"resources": {}}},
    "token": {"engine": {"hfTokenSecretRef": {"name": "hf"}}},
    "another key of the token": {"engine": {"hfTokenSecretRef": {"name": "hf", "key": "other"}}},
    "pod labels": {"podTemplate": {"metadata": {"labels": {"team": "a"}}}},
    "pod spec": {"podTemplate": {"spec": {"nodeSelector": {"disk": "fast"}}}},
}


def test_each_hashed_field_changes_the_engine_revision() -> None:
    names = {"nothing": named()} | {what: named(**change) for what, change in CHANGES.items()}
    assert len(set(names.values())) == len(names), names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"engine": {}}, id="an empty engine"),
        pytest.param({}, {"engine": {"args": {}}}, id="empty args"),
        pytest.param(
            {"engine": {"hfTokenSecretRef": {"name": "hf"}}},
            {"engine": {"hfTokenSecretRef": {"name": "hf", "key": "token"}}},
            id="the default key of a Secret",
        ),
        pytest.param({"engine": {"resources": {}}}, {"engine": {"resources": {"limits": {}}}}, id="empty limits"),
        pytest.param(
            {"engine": {"resources": {"limits": {"nvidia.com/gpu": 1}}}},
            {"engine": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
            id="a quantity as a number and as text",
        ),
        pytest.param(
            {"engine": {"args": {"dtype": "float32", "seed": "2"}}},
            {"engine": {"args": {"seed": "2", "dtype": "float32"}}},
            id="another order",
        ),
        pytest.param({}, {"podTemplate": {}}, id="an empty overlay"),
        pytest.param({}, {"podTemplate": {"metadata": {}, "spec": {}}}, id="an overlay of empty parts"),
    ],
)
def test_equivalent_specs_have_the_same_engine_revision(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert named(**one) == named(**other)


def test_number_beyond_json_is_refused_with_sentence() -> None:
    with pytest.raises(SpecError, match=r"; keep whole numbers within 53 bits, or write them as strings\.$"):
        named(podTemplate={"spec": {"priority": 2**60}})


@pytest.mark.parametrize(
    "value", [float("inf"), "\ud800", nested(1_000), nested(9_900)], ids=["inf", "text", "1000", "9900"]
)
def test_overlay_without_canonical_json_is_refused_with_sentence(value: object) -> None:
    with pytest.raises(SpecError, match=r"^spec .*\.$"):
        named(podTemplate={"spec": {"affinity": value}})


def test_hashes_are_ten_hex_digits_and_never_change() -> None:
    """A change here renames everything that runs: raise HASH_SCHEMA, and plan for upgrades."""
    assert named() == "362dc84630"
    assert revision(named(), None) == "9d0f56ced5"
    assert re.fullmatch("[0-9a-f]{10}", named())
    spec = LLMDeploymentSpec.model_validate(SMALLEST)
    assert engine_revision(spec, WRITTEN) == named()
    assert engine_revision(spec, WITH_CONTRACT) == "4992341223"
    assert (WRITTEN, WITH_CONTRACT, HASH_SCHEMA) == (1, 2, 2)


def test_revision_depends_on_pods_and_prompt() -> None:
    names = {
        revision("e1", None),
        revision("e1", "p1"),
        revision("e1", "p2"),
        revision("e2", "p1"),
        revision("e2", None),
    }
    assert len(names) == 5
