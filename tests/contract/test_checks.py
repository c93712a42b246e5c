"""The checks of the API are those of the model server: kinds, limits, results, and what a split document lists."""

from __future__ import annotations

from typing import Any

import pytest

from model_server.serin_model_server import document
from model_server.serin_model_server.checks import answer, contains, kinds, max_chars, pattern, refusal, repetition
from model_server.serin_model_server.checks import document as check_document
from serin.analysis.measurement import _RESULTS, How
from serin.analysis.pod_checks import checks_for
from serin.api.analysis import Analysis
from serin.api.check import Check, CheckKind
from serin.metric_sources.counters import OWN_LABELS
from tests.unit.manifests.samples import REVISION, make_document

LONG = "\U0001f600" * 256
LARGEST: list[dict[str, Any]] = [
    {"kind": "Schema", "sample": 0.001},
    {"kind": "Empty"},
    {"kind": "Truncated"},
    {"kind": "Repetition", "times": 20, "compressionRatio": 1000},
    {"kind": "Refusal", "patterns": [LONG] * 16},
    {"kind": "Regex", "pattern": LONG * 2, "expect": "Absent"},
    {"kind": "Contains", "texts": [LONG] * 16, "expect": "Present"},
    {"kind": "MaxChars", "maxChars": 10_000_000},
]


def test_middleware_takes_every_kind_with_its_largest_parameters() -> None:
    metrics = [{"name": f"check-{n}", "check": check} for n, check in enumerate(LARGEST * 2)]
    listed = checks_for(Analysis.model_validate({"metrics": metrics}), None)
    assert len(listed) == check_document.MOST
    read = document.parse(make_document(checks=listed).to_json().encode())

    assert read.checks is not None
    assert [check.name for check in read.checks.of_revision[REVISION]] == [metric["name"] for metric in metrics]
    for check, entry in zip(read.checks.of_revision[REVISION], listed, strict=True):
        given = {name: value for name, value in entry.items() if name not in {"name", "kind", "sample"}}
        given |= {"outputSchema": {}} if entry["kind"] == "Schema" else {}
        kinds.prepare(entry["kind"], given)
        assert (check.judge is None) == (entry["kind"] in kinds.IN_CHILD)


def test_kinds_are_the_same() -> None:
    assert kinds.INLINE.keys() | kinds.IN_CHILD.keys() == set(CheckKind) == {check["kind"] for check in LARGEST}
    assert kinds.IN_CHILD.keys() == kinds.PARAMETERS.keys()


def test_limits_are_the_same() -> None:
    schema = Check.model_json_schema(by_alias=True)["properties"]

    def limits(name: str) -> dict[str, Any]:
        return next(each for each in schema[name]["anyOf"] if each.get("type") != "null")

    assert limits("pattern")["maxLength"] == pattern.LONGEST
    for name, module in (("texts", contains), ("patterns", refusal)):
        assert (limits(name)["maxItems"], limits(name)["items"]["maxLength"]) == (module.MOST, module.LONGEST)
    assert limits("maxChars")["maximum"] == max_chars.MOST
    described = f"at most {repetition.LONGEST_PERIOD} characters", f"least {repetition.LEAST_REPEATED} characters"
    assert all(text in " ".join(schema["times"]["description"].split()) for text in described)
    assert f"Default: {repetition.TIMES}." in schema["times"]["description"]
    assert f"last {repetition.TAIL} characters" in schema["compressionRatio"]["description"]
    assert f"Default: {repetition.RATIO:g}." in schema["compressionRatio"]["description"]
    assert f"first {refusal.CHARACTERS} characters" in " ".join(schema["patterns"]["description"].split())


@pytest.mark.parametrize("label", ["check", "result"])
def test_labels_of_the_counter_are_its_own(label: str) -> None:
    assert label in OWN_LABELS


def test_results_are_the_same() -> None:
    bad = {how: {result for result, is_bad in of.items() if is_bad} for how, of in _RESULTS.items()}
    assert bad == {How.CHECK: {answer.FAIL}, How.SKIPPED_CHECK: {answer.SKIPPED}}
    assert set(answer.RESULTS) - _RESULTS[How.CHECK].keys() == {answer.SKIPPED}
    assert set(answer.RESULTS) == _RESULTS[How.SKIPPED_CHECK].keys()
