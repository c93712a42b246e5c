"""Parsing: the models of a manifest, and the error for an invalid one."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.nested import nested
from serin.api.content_hash import content_hash
from serin.api.llmdeployment import DEFAULT_STEPS, LLMDeploymentSpec, Ramp, RampStep
from serin.api.parse import parse_llmdeployment, parse_promptversion, read_spec
from serin.errors import SpecError
from serin.metric_sources.promql import is_plain
from serin.rollout.revision import engine_revision
from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, changed


def test_smallest_manifest_gets_all_defaults() -> None:
    spec = parse_llmdeployment(LLMDEPLOYMENT)
    assert spec.replicas == 1
    assert spec.rollout.ramp == Ramp()  # no steps in the spec; a trial starts with the default steps
    assert [(step.weight, step.hold) for step in DEFAULT_STEPS] == [(w, timedelta(minutes=10)) for w in (5, 25, 50)]
    assert (spec.rollout.minimum_bake, spec.rollout.deadline) == (timedelta(minutes=10), timedelta(hours=24))
    assert (spec.rollout.on_inconclusive, spec.rollout.holdback) == ("Pause", None)
    assert spec.analysis.metrics is None
    assert [(m.name, m.preset, m.required) for m in spec.analysis.compared] == [
        ("errors", "ErrorRate", True),
        ("ttft", "TimeToFirstToken", False),
    ]
    assert (spec.analysis.false_rollback_rate, spec.analysis.blind_timeout) == (0.01, timedelta(minutes=10))
    assert (spec.rollout.progress_deadline, spec.rollout.drain_timeout) == (
        timedelta(minutes=30),
        timedelta(minutes=10),
    )
    assert spec.engine.resources is None


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("spec.model", {"name": "triage"}, "spec.model.source: Add this field; it is required."),
        ("spec.gates", [], "spec.gates: Remove this field; it does not exist."),
        (
            "spec.rollout.ramp.steps",
            [{"weight": 5}, {}],
            "spec.rollout.ramp.steps[1]: Set either weight or pause in a step",
        ),
        ("spec.model.source", "org/model", "spec.model.source: Begin with hf://, pvc:// or file://."),
        (
            "spec.podTemplate.metadata",
            {"name": "x"},
            "spec.podTemplate.metadata: Remove name; only labels and annotations",
        ),
        (
            "spec.podTemplate.metadata",
            {"labels": []},
            "spec.podTemplate.metadata: Write labels as a map from strings to strings.",
        ),
        (
            "spec.routing.gateway.timeouts",
            {"idle": "1s"},
            "spec.routing.gateway.timeouts: Remove idle; the only timeouts are",
        ),
        (
            "spec.engine.resources",
            {"limits": {"cpu": 0.5}},
            "spec.engine.resources.limits.cpu: Write a whole number or a",
        ),
        *(
            (
                "spec.routing.gateway.filters",
                [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}],
                "spec.routing.gateway.filters: Write requestHeaderModifier as a map of lists: set, add and remove.",
            )
            for modifier in (5, "x", [1], {"set": 5}, {"set": "x"}, {"add": {"a": 1}}, {"remove": True})
        ),
        ("metadata.name", "x" * 41, "metadata.name: Choose a name of lower case letters"),
    ],
)
def test_error_names_the_field_and_what_to_do(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_llmdeployment(changed(LLMDEPLOYMENT, path, value))
    assert str(refusal.value).startswith(sentence)
    assert str(refusal.value).endswith(".")


DEEP = {
    "spec.podTemplate": {"spec": {"affinity": nested(9_900)}},
    "spec.engine": {"resources": {"limits": nested(9_900)}},
    "spec.routing": {"gateway": {"parentRefs": [{"name": "llm"}], "filters": [nested(9_900)]}},
    "spec.analysis": nested(2_000),
    "spec.unknown": nested(100),
}


@pytest.mark.parametrize("path", DEEP)
def test_a_deep_llmdeployment_is_refused_with_its_field(path: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_llmdeployment(changed(LLMDEPLOYMENT, path, DEEP[path]))
    assert str(refusal.value) == f"{path} is nested more than 64 levels deep, counted from spec; flatten it."


@pytest.mark.parametrize("levels", [64, 400, 9_900])
def test_a_deep_promptversion_is_refused_with_its_field(levels: int) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_promptversion(changed(PROMPTVERSION, "spec.outputSchema", nested(levels)))
    assert str(refusal.value) == (
        "spec.outputSchema is nested more than 64 levels deep, counted from spec; flatten it."
    )


def test_a_promptversion_of_64_levels_is_accepted() -> None:
    spec = parse_promptversion(changed(PROMPTVERSION, "spec.outputSchema", nested(63)))
    assert spec.output_schema == nested(63)
    assert content_hash(spec)


def test_a_spec_that_is_deep_and_no_map_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^spec is nested more than 64 levels deep"):
        parse_promptversion({"metadata": {"name": "triage"}, "spec": [nested(100)]})


def test_an_object_without_a_spec_is_told_what_is_missing() -> None:
    with pytest.raises(SpecError, match=r"^spec\.model: Add this field; it is required\.$"):
        parse_llmdeployment({"metadata": {"name": "triage"}})


@given(st.integers(min_value=1, max_value=9999))
def test_weight_with_two_decimals_is_accepted(hundredths: int) -> None:
    weight = float(f"{hundredths // 100}.{hundredths % 100:02}")
    assert RampStep(weight=weight).weight == weight


@given(st.floats(min_value=0, max_value=100).filter(lambda weight: float(f"{weight:.2f}") != weight))
def test_weight_with_more_than_two_decimals_is_rejected(weight: float) -> None:
    with pytest.raises(ValueError, match="at most two decimals"):
        RampStep(weight=weight)


def test_spec_survives_dump_and_parse() -> None:
    manifest = changed(
        LLMDEPLOYMENT, "spec.rollout.ramp.steps", [{"weight": 2.5, "hold": "90m"}, {"pause": {"for": "1h"}}]
    )
    spec = parse_llmdeployment(manifest)
    written = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert written["rollout"]["ramp"]["steps"] == [{"weight": 2.5, "hold": "1h30m"}, {"pause": {"for": "1h"}}]
    assert LLMDeploymentSpec.model_validate(written) == spec


@given(st.text(alphabet="ab_:{}[]()\"=~!,\\/ \t\r\n'@#.059-", max_size=24))
def test_api_accepts_exactly_the_selectors_that_queries_accept(selector: str) -> None:
    """A selector that the API accepts and the queries reject would leave a trial without metrics for ever."""
    metric = {"name": "own", "ratio": {"bad": selector, "total": "my_total"}}
    try:
        parse_llmdeployment(changed(LLMDEPLOYMENT, "spec.analysis", {"metrics": [metric]}))
    except SpecError:
        accepted = False
    else:
        accepted = True
    assert accepted == is_plain(selector)


HUGE = 10**5_000
"""More digits than Python writes."""


@pytest.mark.parametrize("path", ["spec.podTemplate", "spec.routing.gateway.matches", "spec.routing.gateway.filters"])
def test_free_form_fields_beyond_64_kib_are_refused(path: str) -> None:
    def manifest(length: int) -> dict[str, Any]:
        value = {"spec": {"x": "a" * length}}
        return changed(LLMDEPLOYMENT, path, value if path == "spec.podTemplate" else [value])

    parse_llmdeployment(manifest(65_000))
    with pytest.raises(SpecError) as refusal:
        parse_llmdeployment(manifest(65_536))
    assert re.fullmatch(
        rf"{re.escape(path)} is too large: podTemplate, matches and filters have 655\d\d bytes as JSON, and at most "
        "65536 are allowed; shorten it.",
        str(refusal.value),
    )


@pytest.mark.parametrize("value", [HUGE, [HUGE], {"a": {"b": HUGE}}], ids=["bare", "in a list", "in a map"])
def test_number_of_thousands_of_digits_is_refused_with_a_sentence(value: Any) -> None:
    with pytest.raises(SpecError, match=r"^spec\.podTemplate holds a number that is too long; write it as a string\.$"):
        parse_llmdeployment(changed(LLMDEPLOYMENT, "spec.podTemplate", {"spec": {"affinity": value}}))
    with pytest.raises(SpecError, match=r"^spec holds a number that is too long; write it as a string\.$"):
        parse_promptversion(changed(PROMPTVERSION, "spec.outputSchema", {"maximum": value}))


NASTY: dict[str, Any] = {  # by name, because hypothesis prints what it draws
    "huge": HUGE,
    "61 bits": 2**60,
    "infinity": float("inf"),
    "no number": float("nan"),
    "1e300": 1e300,
    "surrogate": "\ud800",
    "NUL": "a\0b",
    "58 levels": nested(58),
    "400 levels": nested(400),
}
FREE_FORM = st.recursive(
    st.sampled_from(list(NASTY)).map(lambda name: NASTY[name])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2) | st.just("\ud800"), inner),
    max_leaves=6,
)
PLACES = ["podTemplate", "podTemplate.spec", "podTemplate.metadata", "routing.gateway.filters", "engine.resources"]
PLACES += ["routing.gateway.matches", "engine.args", "analysis", "rollout.ramp", "prompt", "unknown"]
PROMPT_PLACES = ["outputSchema", "parameters", "parameters.extra", "tools", "variables", "messages", "labels"]


@given(st.sampled_from(PLACES), FREE_FORM)
def test_any_value_in_an_llmdeployment_is_hashed_or_refused(path: str, value: Any) -> None:
    spec, _, _ = read_spec(changed(LLMDEPLOYMENT, f"spec.{path}", value))
    with suppress(SpecError):
        engine_revision(spec)


@given(st.sampled_from(PROMPT_PLACES), FREE_FORM)
def test_any_value_in_a_promptversion_is_hashed_or_refused(path: str, value: Any) -> None:
    with suppress(SpecError):
        content_hash(parse_promptversion(changed(PROMPTVERSION, f"spec.{path}", value)))
