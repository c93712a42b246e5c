"""The content hash covers exactly the fields that can change an answer."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.reference.content_hash_page import VECTORS, spec_of
from fakes.nested import MOST, nested
from serin.api.content_hash import NOT_HASHED, content_hash
from serin.api.promptversion import PromptVersionSpec
from serin.errors import SpecError

BASE: dict[str, Any] = {
    "prompt": "triage",
    "version": "1.4.0",
    "model": "triage",
    "messages": [{"role": "system", "content": "Triage for {{ team }}."}],
    "variables": [{"name": "team", "required": True}],
    "parameters": {"temperature": 0, "maxTokens": 128},
    "outputSchema": {"type": "object", "required": ["queue", "priority"]},
}


RECORDED = {
    "smallest": "8b81479e1cb5",
    "every default spelt out": "8b81479e1cb5",
    "fields of the first version": "7bef1c4c449e",
    "history and variables": "43adf4a939c8",
    "tools": "b3ffaa0673a6",
    "structured output": "e87a2ab4a4de",
}
"""The hashes of the documented vectors."""
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def _hash(**changes: Any) -> str:
    return content_hash(PromptVersionSpec.model_validate({**BASE, **changes}))


def test_hash_equals_documented_value() -> None:
    hashed = {name: BASE[name] for name in ("messages", "variables", "parameters", "outputSchema", "model")}
    assert _hash() == "c4bd1530ce2c", "Serin 0.1 gave this hash; records of it must stay valid"
    # For ASCII names and whole numbers, this is the canonical form of RFC 8785.
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    assert _hash() == hashlib.sha256(canonical.encode()).hexdigest()[:12]
    assert re.fullmatch("[0-9a-f]{12}", _hash())


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "other"},
        {"version": "2.0.0"},
        {"author": "somebody"},
        {"description": "text"},
        {"labels": {"a": "b"}},
        {"parameters": {"maxTokens": 128, "temperature": 0.0}},
        {"parameters": {"maxTokens": 128, "temperature": 0, "stop": []}},
        {"parameters": {"maxTokens": 128, "temperature": 0, "extra": {}}},
        {"changeNote": "Shorter."},
        {"tools": [], "structured": False, "strict": False, "clientSystem": "Merge", "enforce": False},
        {"messages": [{"role": "system", "content": "Triage for {{ team }}.", "placeholder": None}]},
        {"outputSchema": {"required": ["queue", "priority"], "type": "object"}},
    ],
    ids=str,
)
def test_hash_ignores_fields_that_do_not_change_answers(changes: dict[str, Any]) -> None:
    assert _hash(**changes) == _hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"model": None},
        {"messages": [{"role": "user", "content": "Triage for {{ team }}."}]},
        {"messages": [{"role": "system", "content": "Triage for {{ team }}. "}]},
        {"variables": [{"name": "team", "default": "x"}]},
        {"parameters": {"temperature": 0.1, "maxTokens": 128}},
        {"parameters": None},
        {"outputSchema": {"type": "object", "required": ["priority", "queue"]}},
        {"outputSchema": {"type": "object", "required": ["queue", "priority"], "default": None}},
        {"outputSchema": None},
        {"messages": [{"role": "developer", "content": "Triage for {{ team }}."}]},
        {"messages": [{"role": "system", "content": "Triage for {{ team }}."}, {"placeholder": "history"}]},
        {"variables": [{"name": "team", "required": True, "type": "string"}]},
        {"variables": [{"name": "team", "required": True, "enum": ["a"]}]},
        {"variables": [{"name": "team", "required": True, "maxLength": 9}]},
        {"parameters": {"temperature": 0, "maxTokens": 128, "extra": {"top_k": 20}}},
        {"tools": [TOOL]},
        {"tools": [TOOL], "toolChoice": "look_up"},
        {"structured": True},
        {"strict": True},
        {"outputName": "ticket"},
        {"clientSystem": "Reject"},
        {"enforce": True},
    ],
    ids=str,
)
def test_hash_changes_with_every_field_that_can_change_answers(changes: dict[str, Any]) -> None:
    assert _hash(**changes) != _hash()


def test_hash_ignores_defaults_from_the_api_server() -> None:
    bare = {"variables": [{"name": "team"}]}
    filled = {"variables": [{"name": "team", "required": False}]}
    assert _hash(**bare) == _hash(**filled)


def test_hash_of_empty_parameters_equals_hash_without_parameters() -> None:
    assert _hash(parameters={}) == _hash(parameters=None) == _hash(parameters={"stop": []})


def test_a_number_that_json_cannot_carry_is_told() -> None:
    with pytest.raises(
        SpecError,
        match=r"^spec\.outputSchema cannot be hashed .*; keep whole numbers within 53 bits, or .*\.$",
    ):
        _hash(outputSchema={"maximum": 2**60})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_a_sentence(number: float) -> None:
    with pytest.raises(SpecError, match=r"^spec\.outputSchema cannot be hashed .*; write finite numbers only\.$"):
        _hash(outputSchema={"maximum": number})


@pytest.mark.parametrize("schema", [{"title": "\ud800"}, {"\ud800": 1}], ids=["a value", "a key"])
def test_half_of_a_surrogate_pair_is_a_sentence(schema: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"^spec\.outputSchema cannot be hashed .*; write valid Unicode"):
        _hash(outputSchema=schema)


def test_a_schema_too_deep_to_hash_is_a_sentence() -> None:
    with pytest.raises(SpecError, match=r"^spec\.outputSchema is nested too deeply to be hashed; flatten it\.$"):
        _hash(outputSchema=nested(MOST))


@pytest.mark.parametrize("parameters", [{"maximum": 2**60}, {"maximum": float("inf")}, {"title": "\ud800"}], ids=str)
def test_tool_without_canonical_json_is_a_sentence(parameters: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": parameters}}
    with pytest.raises(SpecError, match=r"^spec\.tools and spec\.outputSchema cannot be hashed .*\.$"):
        _hash(tools=[tool])


def test_every_field_is_in_a_vector_or_is_not_hashed() -> None:
    fields = {field for vector in VECTORS.values() for field in vector}
    assert fields >= {field.alias for name, field in PromptVersionSpec.model_fields.items() if name not in NOT_HASHED}
    hashes = [content_hash(spec_of(vector)) for vector in VECTORS.values()]
    assert hashes == [*hashes[:1] * 2, *hashes[2:]]
    assert len(set(hashes)) == len(VECTORS) - 1


def test_documented_vectors_never_change() -> None:
    """A change here gives running prompts another revision."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "content-hash.md").read_text()
    assert re.findall("^Hash: `(.*)`$", page, re.MULTILINE) == list(RECORDED.values())
    blocks = re.findall("^```json\n(.*)\n```$", page, re.MULTILINE)
    for written, canonical, recorded in zip(blocks[::2], blocks[1::2], RECORDED.values(), strict=True):
        assert hashlib.sha256(canonical.encode()).hexdigest().startswith(recorded)
        assert content_hash(spec_of(json.loads(written))) == recorded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_hash_ignores_order_of_keys(schema: dict[str, Any]) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return [backwards(each) for each in value] if isinstance(value, list) else value

    assert _hash(outputSchema=schema) == _hash(outputSchema=backwards(schema))


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_different_texts_have_different_hashes(one: str, other: str) -> None:
    def hashed(text: str) -> str:
        return _hash(messages=[{"role": "user", "content": text}], variables=[])

    assert (hashed(one) == hashed(other)) == (one == other)
