"""The key `checks` of the split document."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.checks.answer import FINISHED, Choice
from model_server.serin_model_server.document import DocumentRefused, parse
from model_server.tests.prompting.prompts import content
from model_server.tests.split_documents import CANARY, STABLE, raw, shared

SCHEMA = {"type": "object"}


def test_document_without_checks_has_none() -> None:
    assert parse(raw()).checks is None
    assert parse(raw(checks=[])).checks is None


def test_both_revisions_have_the_checks_with_their_own_schema() -> None:
    revisions = [
        {"revision": STABLE, "weight": 9500, "prompts": {"triage": content(outputSchema={"type": "string"})}},
        {"revision": CANARY, "weight": 500, "prompts": {"triage": content(outputSchema=SCHEMA)}},
    ]
    checks = parse(
        raw(epoch=7, revisions=revisions, checks=[{"name": "schema", "kind": "Schema"}, {"name": "e", "kind": "Empty"}])
    ).checks

    assert checks is not None
    stable, canary = (checks.of_revision[revision] for revision in (STABLE, CANARY))
    assert stable[0].task == '["Schema", {"outputSchema": {"type": "string"}}]'
    assert canary[0].task == '["Schema", {"outputSchema": {"type": "object"}}]'
    assert stable[0].definition == canary[0].definition == checks.definitions["schema"]
    assert stable[1] == canary[1]
    assert stable[1].judge is not None
    assert stable[1].judge(Choice("", 0, called=False, finish=FINISHED)) == "fail"


def test_revision_without_a_schema_has_the_check_and_no_schema() -> None:
    checks = parse(shared(checks=[{"name": "s", "kind": "Schema", "sample": 0.25}])).checks
    assert checks is not None
    [check] = checks.of_revision[STABLE]
    assert (check.task, check.sample) == ('["Schema", {"outputSchema": null}]', 0.25)


def test_every_kind_is_read_with_its_parameters() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "schema", "kind": "Schema"},
        {"name": "empty", "kind": "Empty"},
        {"name": "truncated", "kind": "Truncated"},
        {"name": "repetition", "kind": "Repetition", "times": 5, "compressionRatio": 10},
        {"name": "refusal", "kind": "Refusal", "patterns": ["a"]},
        {"name": "regex", "kind": "Regex", "pattern": "a", "expect": "Absent"},
        {"name": "contains", "kind": "Contains", "texts": ["a"], "expect": "Present"},
        {"name": "max-chars", "kind": "MaxChars", "maxChars": 5},
    ]
    checks = parse(raw(checks=entries)).checks
    assert checks is not None
    assert [check.name for check in checks.of_revision[STABLE]] == [entry["name"] for entry in entries]


@pytest.mark.parametrize(
    ("checks", "why"),
    [
        ({}, "not a list of at most 16"),
        ([{"name": f"a{n}", "kind": "Empty"} for n in range(17)], "not a list of at most 16"),
        (["a"], "no name"),
        ([{"kind": "Empty"}], "no name"),
        ([{"name": "A", "kind": "Empty"}], "no name"),
        ([{"name": "a,b", "kind": "Empty"}], "no name"),
        ([{"name": "a" * 64, "kind": "Empty"}], "no name"),
        ([{"name": "a", "kind": "Empty"}] * 2, "the same name"),
        ([{"name": "a"}], "a kind that this pod does not know"),
        ([{"name": "a", "kind": "empty"}], "a kind that this pod does not know"),
        ([{"name": "a", "kind": ["Empty"]}], "a kind that this pod does not know"),
        ([{"name": "a", "kind": "Empty", "sample": 0}], "sample"),
        ([{"name": "a", "kind": "Empty", "sample": 1.01}], "sample"),
        ([{"name": "a", "kind": "Empty", "sample": True}], "sample"),
        ([{"name": "a", "kind": "Empty", "other": 1}], "unknown parameter 'other'"),
        ([{"name": "a", "kind": "Regex", "pattern": "a", "other": 1}], "unknown parameter 'other'"),
        ([{"name": "a", "kind": "Schema", "outputSchema": {}}], "unknown parameter 'outputSchema'"),
        ([{"name": "a", "kind": "MaxChars"}], "check a cannot be used: its maxChars"),
        ([{"name": "a", "kind": "Regex", "pattern": "x" * 70_000}], "more than 65,536 characters"),
    ],
)
def test_malformed_checks_refuse_the_document(checks: Any, why: str) -> None:
    with pytest.raises(DocumentRefused, match=why):
        parse(raw(checks=checks))


def test_check_that_only_the_child_can_find_wrong_refuses_nothing() -> None:
    schema = {"$ref": "http://example.com/s.json"}
    revisions = [{"revision": STABLE, "weight": 10_000, "prompts": {"triage": content(outputSchema=schema)}}]
    entries = [{"name": "schema", "kind": "Schema"}, {"name": "r", "kind": "Regex", "pattern": "("}]
    assert parse(raw(revisions=revisions, checks=entries)).checks is not None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "kind", "texts"]), inner),
    max_leaves=6,
)


@given(
    st.lists(_json | st.fixed_dictionaries({"name": st.just("a"), "kind": _json | st.just("Contains"), "texts": _json}))
)
def test_no_checks_raise_anything_but_a_refusal(checks: Any) -> None:
    with suppress(DocumentRefused):
        parse(raw(checks=checks))
