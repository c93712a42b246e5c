"""A prompt in the Responses API."""

from __future__ import annotations

from typing import Any

import pytest

from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.refusal import Refusal
from model_server.tests.prompting import prompts
from model_server.tests.prompting.prompts import HISTORY, SYSTEM, user

ASSISTANT = {"role": "assistant", "content": "Yes."}
JOINED = {"role": "system", "content": "Be brief.\n\nAnswer in French."}
AFTER = {"role": "system", "content": "Remember."}


def ask(body: Any, **changes: Any) -> dict[str, Any]:
    return prompts.ask(body, paths.RESPONSES, **changes)


def refusal(body: Any, **changes: Any) -> Refusal:
    return prompts.refusal(body, paths.RESPONSES, **changes)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "a"}, [SYSTEM, user("a")]),
        ({"input": 'ü"\n'}, [SYSTEM, user('ü"\n')]),
        ({"input": [user("a"), ASSISTANT]}, [SYSTEM, user("a"), ASSISTANT]),
        ({}, [SYSTEM]),
        ({"input": None}, [SYSTEM]),
        ({"input": []}, [SYSTEM]),
        ({"input": "a", "instructions": "Answer in French."}, [JOINED, user("a")]),
        ({"input": "a", "instructions": ""}, [SYSTEM, user("a")]),
        ({"input": "a", "instructions": None}, [SYSTEM, user("a")]),
        (
            {"input": [{"role": "developer", "content": [{"type": "input_text", "text": "French."}]}, user("a")]},
            [{"role": "system", "content": "Be brief.\n\nFrench."}, user("a")],
        ),
        (
            {"instructions": "I.", "input": [{"type": "message", "role": "system", "content": "S."}, user("a")]},
            [{"role": "system", "content": "Be brief.\n\nI.\n\nS."}, user("a")],
        ),
        (
            {"input": [{"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"}]},
            [SYSTEM, {"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"}],
        ),
    ],
    ids=str,
)
def test_input_of_prompt_and_client(body: dict[str, Any], expected: list[Any]) -> None:
    made = ask(body)
    assert made["input"] == expected
    # vLLM repeats it in its answers.
    assert "instructions" not in made


def test_examples_and_what_follows_the_history_are_items() -> None:
    made = ask({"input": "a"}, messages=[SYSTEM, user("q"), ASSISTANT, HISTORY, AFTER])
    assert made["input"] == [SYSTEM, user("q"), ASSISTANT, user("a"), AFTER]


@pytest.mark.parametrize(
    "body",
    [
        {"instructions": "Answer in French."},
        {"input": [{"role": "system", "content": "a"}]},
        {"input": [user("a"), {"type": "message", "role": "developer", "content": "a"}]},
    ],
    ids=str,
)
def test_system_text_is_refused_where_the_prompt_says_so(body: dict[str, Any]) -> None:
    assert refusal(body, clientSystem="Reject").code == "client_system_not_accepted"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", {"id": "conv_1"}),
        ("background", True),
        ("truncation", "auto"),
        ("enable_response_messages", True),
        ("previous_input_messages", []),
        ("kv_transfer_params", {"a": 1}),
        ("vllm_xargs", {"a": 1}),
        ("echo", True),
        ("a_field_of_a_later_vllm", 1),
    ],
)
def test_field_that_is_not_known_to_be_safe_is_refused(name: str, value: Any) -> None:
    found = refusal({"input": "a", name: value})
    assert (found.status, found.code, found.param) == (400, "field_not_accepted", name)


def test_truncation_that_is_null_does_not_reach_vllm() -> None:
    # vLLM 0.32 compares with "disabled" and truncates also for null.
    assert "truncation" not in ask({"input": "a", "truncation": None})
    assert "truncation" not in ask({"input": "a", "truncation": "disabled"})


VARIABLES = {
    "messages": [{"role": "system", "content": "For {{ team }} in {{ place }}."}],
    "variables": [{"name": "team"}, {"name": "place"}],
}


def test_prompt_object_of_openai_gives_variables_and_is_removed() -> None:
    chosen = {"id": "triage", "version": "9", "variables": {"team": "support", "place": "Rome"}}
    made = ask({"prompt": chosen, "prompt_variables": {"place": "Bonn"}, "input": "a"}, **VARIABLES)

    assert made["input"][0]["content"] == "For support in Bonn."
    assert "prompt" not in made


def test_variable_of_openai_that_is_no_text_is_rejected() -> None:
    picture = {"type": "input_image", "image_url": "data:"}
    found = refusal({"prompt": {"id": "triage", "variables": {"team": picture}}}, **VARIABLES)
    assert found.code == "invalid_prompt_variable"


@pytest.mark.parametrize("value", [1, "a", []], ids=str)
def test_prompt_object_of_another_form_is_refused(value: Any) -> None:
    assert refusal({"prompt": value}).code == "invalid_body"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"structured_outputs": {"json": {"type": "object"}}}),
        ({"text": {"verbosity": "low"}}, {"structured_outputs": {"json": {"type": "object"}}}),
        ({"text": {"format": {"type": "text"}}}, {"text": {"format": {"type": "text"}}}),
        ({"structured_outputs": {"regex": "a"}}, {"structured_outputs": {"regex": "a"}}),
    ],
    ids=str,
)
def test_schema_is_a_default_that_vllm_does_not_repeat(body: dict[str, Any], expected: dict[str, Any]) -> None:
    made = ask(body, outputSchema={"type": "object"}, structured=True)
    assert {name: made.get(name) for name in expected} == expected
    assert ("structured_outputs" in made) == ("structured_outputs" in expected)


def test_enforced_schema_replaces_the_format_of_the_client() -> None:
    text = {"verbosity": "low", "format": {"type": "json_object"}}
    made = ask({"text": text}, outputSchema={"type": "object"}, structured=True, enforce=True)

    assert made["text"] == {"verbosity": "low"}
    assert made["structured_outputs"] == {"json": {"type": "object"}}


def test_tools_have_all_keys_that_vllm_requires() -> None:
    made = ask({}, tools=[{"name": "search"}], toolChoice={"name": "search"})

    empty = {"type": "object", "properties": {}}
    assert made["tools"] == [
        {"type": "function", "name": "search", "description": None, "parameters": empty, "strict": False}
    ]
    assert made["tool_choice"] == {"type": "function", "name": "search"}


def test_effort_is_part_of_reasoning() -> None:
    extra = {"parameters": {"extra": {"reasoning_effort": "low"}}}
    assert ask({"reasoning": {"summary": "auto"}}, **extra)["reasoning"] == {"summary": "auto", "effort": "low"}
    assert ask({"reasoning": {"effort": "high"}}, **extra)["reasoning"] == {"effort": "high"}
    assert ask({"reasoning": {"effort": "high"}}, enforce=True, **extra)["reasoning"] == {"effort": "low"}
    assert ask({}, **extra)["reasoning"] == {"effort": "low"}
