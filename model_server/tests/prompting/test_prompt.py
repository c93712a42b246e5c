"""Which prompts a split document may have: anything that is not known exactly refuses the document."""

from __future__ import annotations

from typing import Any

import pytest

from model_server.serin_model_server.document import DocumentRefused, Key, parse
from model_server.serin_model_server.prompting.prompt import PromptInvalid, parse_prompts
from model_server.tests.prompting.prompts import HISTORY, SYSTEM, content, prompt, user
from model_server.tests.split_documents import CANARY, STABLE, raw, shared

TOOL = {"name": "search", "description": "Searches.", "parameters": {"type": "object"}}
YES: Any = True


def revisions(*prompts: Any) -> list[dict[str, Any]]:
    """Entries with these values of `prompts`; `...` takes the key away."""
    weight = 10_000 // len(prompts)
    entries = [
        {"revision": revision, "weight": weight, "prompts": each}
        for revision, each in zip((STABLE, CANARY), prompts, strict=False)
    ]
    return [{name: value for name, value in entry.items() if value is not ...} for entry in entries]


def test_document_has_prompts_by_revision() -> None:
    one, other = {"triage": content()}, {"triage": content(version="2.0.0")}
    found = parse(raw(epoch=7, revisions=revisions(one, other)))

    assert {revision: each.label for revision, each in found.prompts.items()} == {
        STABLE: "triage@1.4.0",
        CANARY: "triage@2.0.0",
    }


@pytest.mark.parametrize("absent", [..., None, {}], ids=str)
def test_revision_without_prompt_is_missing(absent: Any) -> None:
    found = parse(raw(epoch=7, revisions=revisions(absent, {"triage": content()})))
    assert list(found.prompts) == [CANARY]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (..., None),
        (None, None),
        ({"header": "x-session-id"}, Key(b"x-session-id")),
        ({"header": "X-Session-ID"}, Key(b"x-session-id")),
        ({"conversation": {}}, Key(None)),
    ],
    ids=str,
)
def test_key_of_sticky_requests(key: Any, expected: Key | None) -> None:
    assert parse(shared(500, key=key)).key == expected


@pytest.mark.parametrize(
    ("canary", "key", "needed"),
    [
        (500, {"conversation": {}}, True),
        (0, {"conversation": {}}, False),
        (10_000, {"conversation": {}}, False),
        (500, {"header": "a"}, False),
        (500, None, False),
    ],
)
def test_body_is_needed_only_to_choose_by_conversation(canary: int, key: Any, *, needed: bool) -> None:
    assert parse(shared(canary, key=key)).needs_body is needed


@pytest.mark.parametrize(
    "value", [1, "x", [], {}, {"header": ""}, {"header": "a b"}, {"header": "ü"}, {"header": None}]
)
def test_unknown_key_of_sticky_requests_is_refused(value: Any) -> None:
    with pytest.raises(DocumentRefused, match="its key names neither"):
        parse(shared(500, key=value))


@pytest.mark.parametrize("value", [{"header": "a", "conversation": {}}, {"user": {}}, {"conversation": None}])
def test_key_with_other_members_is_refused(value: Any) -> None:
    with pytest.raises(DocumentRefused):
        parse(shared(500, key=value))


@pytest.mark.parametrize(("value", "expected"), [(..., False), (False, False), (True, True)])
def test_access_log(value: Any, *, expected: bool) -> None:
    assert parse(raw(accessLog=value)).access_log is expected


@pytest.mark.parametrize("value", [None, 1, "true", {}])
def test_wrong_access_log_is_refused(value: Any) -> None:
    with pytest.raises(DocumentRefused, match="its accessLog"):
        parse(raw(accessLog=value))


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [HISTORY, SYSTEM]},
        {"messages": [SYSTEM, user("a"), {"role": "assistant", "content": "b"}, HISTORY, SYSTEM]},
        {"messages": [{"role": "developer", "content": "a"}]},
        {"messages": [{"role": "system", "content": '{{ not a name }} {{x-y}} {{{}}} {{ {"a": 1}'}]},
        {"variables": [{"name": "a", "type": "Number", "required": True, "enum": ["1"], "maxLength": 3}]},
        {"variables": [{"name": "a", "default": "x", "description": "text"}]},
        {
            "parameters": {
                "temperature": 0.5,
                "topP": 1,
                "maxTokens": 3,
                "stop": ["a"],
                "seed": -1,
                "extra": {"top_k": 3},
            }
        },
        {"parameters": {"temperature": None, "stop": []}},
        {"tools": [TOOL, {"type": "function", "function": {"name": "b"}}], "toolChoice": {"name": "b"}},
        {"tools": [TOOL], "toolChoice": "Auto"},
        {"tools": [TOOL], "toolChoice": "search"},
        {"tools": [TOOL], "toolChoice": {"type": "function", "function": {"name": "search"}}},
        {"outputSchema": {"type": "object"}, "structured": True, "outputName": "answer", "strict": True},
        {"clientSystem": "Reject", "enforce": True},
    ],
    ids=str,
)
def test_good_prompts(changes: dict[str, Any]) -> None:
    assert prompt(**changes).label == "triage@1.4.0"


@pytest.mark.parametrize(
    "changes",
    [
        {"later": 1},
        {"model": "a"},
        {"version": ...},
        {"version": "a\nb"},
        {"version": "1" * 65},
        {"hash": "0123"},
        {"hash": "0123456789AB"},
        {"messages": ...},
        {"messages": []},
        {"messages": [SYSTEM] * 65},
        {"messages": [SYSTEM | {"name": "a"}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "system", "content": ["a"]}]},
        {"messages": [{"role": "system", "content": "\ud800"}]},
        {"messages": [{"role": "system", "content": "{{ absent }}"}]},
        {"messages": [HISTORY, HISTORY]},
        {"messages": [HISTORY, user("a")]},
        {"messages": [{"placeholder": "future"}]},
        {"variables": {"a": 1}},
        {"variables": [{"name": "a"}, {"name": "a"}]},
        {"variables": [{"name": "а"}]},  # noqa: RUF001 - a Cyrillic letter
        {"variables": [{"name": "a\n"}]},
        {"variables": [{"name": "a", "type": "list"}]},
        {"variables": [{"name": "a", "default": 1}]},
        {"variables": [{"name": "a", "enum": [1]}]},
        {"variables": [{"name": "a", "maxLength": YES}]},
        {"variables": [{"name": "a", "pattern": "(a+)+"}]},
        {"parameters": {"logprobs": 1}},
        {"parameters": {"extra": {"kv_transfer_params": {}}}},
        {"parameters": {"extra": {"truncate_prompt_tokens": 1}}},
        {"tools": [{"name": "a b"}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [TOOL | {"x": 1}]},
        {"tools": [TOOL], "toolChoice": {"name": "another"}},
        {"toolChoice": "always"},
        {"outputSchema": []},
        {"structured": True},
        {"structured": 1},
        {"strict": "yes"},
        {"clientSystem": "merge"},
        {"outputName": "a b"},
    ],
    ids=ascii,
)
def test_prompts_that_are_not_understood_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PromptInvalid) as invalid:
        parse_prompts({"triage": content(**changes)})

    assert str(invalid.value).startswith(("its ", "the ", "a "))
    assert len(str(invalid.value)) < 200


@pytest.mark.parametrize(
    "prompts", [[], "x", {"a": content(), "b": content()}, {"A B": content()}, {"a": None}], ids=str
)
def test_document_with_wrong_prompts_is_refused(prompts: Any) -> None:
    with pytest.raises(DocumentRefused):
        parse(raw(revisions=revisions(prompts)))


def test_prompt_nested_64_deep_is_accepted() -> None:
    schema: dict[str, Any] = {}
    for _ in range(63):
        schema = {"not": schema}
    assert parse(raw(revisions=revisions({"triage": content(outputSchema=schema)}))).prompts
