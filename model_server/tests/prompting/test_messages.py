"""A prompt in Anthropic's messages and in their token count."""

from __future__ import annotations

from typing import Any

import pytest

from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.refusal import Refusal
from model_server.tests.prompting import prompts
from model_server.tests.prompting.prompts import HISTORY, SYSTEM, user

ASSISTANT = {"role": "assistant", "content": "Yes."}
AFTER = {"role": "system", "content": "Remember."}
FRENCH = {"type": "text", "text": "Answer in French.", "cache_control": {"type": "ephemeral"}}


def ask(body: Any, path: str = paths.MESSAGES, **changes: Any) -> dict[str, Any]:
    return prompts.ask(body, path, **changes)


def refusal(body: Any, path: str = paths.MESSAGES, **changes: Any) -> Refusal:
    return prompts.refusal(body, path, **changes)


def block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize("path", [paths.MESSAGES, paths.COUNT_TOKENS])
@pytest.mark.parametrize(
    ("body", "system", "messages"),
    [
        ({"messages": [user("a")]}, [block("Be brief.")], [user("a")]),
        ({"messages": [user("a")], "system": None}, [block("Be brief.")], [user("a")]),
        ({"messages": [user("a")], "system": ""}, [block("Be brief.")], [user("a")]),
        ({"messages": [user("a")], "system": "F."}, [block("Be brief.\n\n"), block("F.")], [user("a")]),
        ({"messages": [user("a")], "system": [FRENCH]}, [block("Be brief.\n\n"), FRENCH], [user("a")]),
        ({"messages": [AFTER, user("a")]}, [block("Be brief.\n\n"), block("Remember.")], [user("a")]),
        (
            {"messages": [{"role": "system", "content": [FRENCH]}, user("a")], "system": "F."},
            [block("Be brief.\n\n"), block("F."), FRENCH],
            [user("a")],
        ),
        ({"messages": [user("a"), AFTER]}, [block("Be brief.\n\n")], [user("a"), AFTER]),
        ({}, [block("Be brief.")], []),
    ],
    ids=str,
)
def test_system_blocks_and_messages(path: str, body: dict[str, Any], system: list[Any], messages: list[Any]) -> None:
    made = ask(body, path)
    assert (made["system"], made["messages"]) == (system, messages)


def test_message_that_changes_tools_stays_a_message() -> None:
    change = {"role": "system", "content": [{"type": "tool_addition", "tool": {}}]}
    made = ask({"messages": [change, user("a")]})
    assert made["messages"] == [change, user("a")]


def test_examples_and_what_follows_the_history_are_messages() -> None:
    made = ask({"messages": [user("a")]}, messages=[SYSTEM, AFTER, user("q"), ASSISTANT, HISTORY, AFTER])

    assert made["system"] == [block("Be brief.\n\nRemember.\n\n")]
    assert made["messages"] == [user("q"), ASSISTANT, user("a"), AFTER]


def test_prompt_without_system_text_adds_no_block() -> None:
    made = ask({"messages": [user("a")]}, messages=[user("q"), ASSISTANT])
    assert "system" not in made


def test_developer_is_system_for_anthropic() -> None:
    made = ask({"messages": [user("a")]}, messages=[user("q"), {"role": "developer", "content": "D."}])
    assert made["messages"] == [user("q"), {"role": "system", "content": "D."}, user("a")]


@pytest.mark.parametrize(
    "body", [{"system": "a"}, {"system": [FRENCH]}, {"messages": [user("a"), AFTER]}, {"messages": [AFTER]}], ids=str
)
def test_system_text_is_refused_where_the_prompt_says_so(body: dict[str, Any]) -> None:
    assert refusal(body, clientSystem="Reject").code == "client_system_not_accepted"


@pytest.mark.parametrize(
    "messages",
    [[{"role": "system", "content": "{{ a }}: brief."}], [user("q"), {"role": "system", "content": "{{ a }}"}]],
)
def test_variable_cannot_make_vllm_drop_the_prompt(messages: list[Any]) -> None:
    body = {"messages": [user("a")], "prompt_variables": {"a": "x-anthropic-billing-header"}}
    assert refusal(body, messages=messages, variables=[{"name": "a"}]).code == "invalid_prompt_variable"


@pytest.mark.parametrize("system", [1, {}, True], ids=str)
def test_system_of_another_form_is_refused(system: Any) -> None:
    assert refusal({"system": system}).status == 400


def test_count_needs_no_variables_and_no_parameters() -> None:
    changes: dict[str, Any] = {
        "messages": [{"role": "system", "content": "For {{ team }}."}],
        "variables": [{"name": "team", "required": True}],
        "parameters": {"seed": 1},
        "enforce": True,
    }
    made = ask({"model": "m", "messages": []}, paths.COUNT_TOKENS, **changes)
    assert made == {"model": "m", "messages": [], "system": [block("For .")]}
    assert refusal({"model": "m", "messages": []}, **changes).code == "missing_prompt_variable"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"name": "search"}, {"type": "tool", "name": "search"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [paths.MESSAGES, paths.COUNT_TOKENS])
def test_tools_have_the_form_of_anthropic(path: str, choice: Any, expected: dict[str, Any]) -> None:
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    tool = {"name": "search", "description": "Searches.", "parameters": parameters, "strict": True}
    made = ask({"messages": []}, path, tools=[tool], toolChoice=choice)

    assert made["tools"] == [{"name": "search", "description": "Searches.", "input_schema": parameters, "strict": True}]
    assert made["tool_choice"] == expected


def test_schema_is_the_format_of_the_output() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    made = ask({"output_config": {"effort": "low"}}, outputSchema={"type": "object"}, structured=True)
    assert made["output_config"] == {"effort": "low", "format": form}

    mine = {"format": {"type": "json_schema", "schema": {}}}
    assert ask({"output_config": mine}, outputSchema={"type": "object"}, structured=True)["output_config"] == mine


@pytest.mark.parametrize(("effort", "expected"), [("low", {"effort": "low"}), ("none", None), ("minimal", None)])
def test_effort_that_the_endpoint_does_not_have_is_left_out(effort: str, expected: Any) -> None:
    extra: dict[str, Any] = {"parameters": {"extra": {"reasoning_effort": effort}}}
    assert ask({}, **extra).get("output_config") == expected
    if expected is None:
        assert refusal({}, enforce=True, **extra).code == "parameter_not_supported"


@pytest.mark.parametrize("name", ["kv_transfer_params", "vllm_xargs", "mm_payload", "container", "mcp_servers"])
def test_field_that_is_not_known_to_be_safe_is_refused(name: str) -> None:
    assert refusal({"messages": [], name: {"a": 1}}).param == name
