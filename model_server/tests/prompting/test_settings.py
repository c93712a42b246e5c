"""Parameters, tools and the output schema of a prompt: whose value wins, and what an endpoint has."""

from __future__ import annotations

from typing import Any

import pytest

from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.fields import CHAT_COMPLETIONS, MESSAGES_API, RESPONSES_API
from model_server.serin_model_server.prompting.prompt import EXTRA, PARAMETERS
from model_server.tests.prompting.prompts import ask, refusal

SET = {"temperature": 0.5, "topP": 0.9, "maxTokens": 7, "stop": ["x"], "seed": 3}
ALL = SET | {"extra": {"top_k": 4, "min_p": 0.1}}
TOOL = {"name": "search", "parameters": {"type": "object"}}
MINE = {"type": "function", "function": {"name": "mine"}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "triage", "schema": {"type": "object"}, "strict": False},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            paths.CHAT,
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "max_completion_tokens": 7,
                "stop": ["x"],
                "seed": 3,
                "top_k": 4,
                "min_p": 0.1,
            },
        ),
        (
            paths.RESPONSES,
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "max_output_tokens": 7,
                "stop": ["x"],
                "seed": 3,
                "top_k": 4,
                "min_p": 0.1,
            },
        ),
        (
            paths.MESSAGES,
            {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop_sequences": ["x"], "top_k": 4},
        ),
    ],
)
def test_parameters_have_the_names_of_the_endpoint(path: str, expected: dict[str, Any]) -> None:
    made = ask({}, path, parameters=ALL)
    assert {name: made[name] for name in made.keys() - {"messages", "input", "system"}} == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"temperature": 1}, {"temperature": 1}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": None}, {"temperature": 0.5}),
        ({"max_tokens": 2}, {"max_tokens": 2, "max_completion_tokens": None}),
        ({"max_completion_tokens": 2}, {"max_completion_tokens": 2}),
        ({"max_tokens": None}, {"max_completion_tokens": 7}),
        ({"stop": "y"}, {"stop": "y"}),
        ({"stop": []}, {"stop": []}),
    ],
    ids=str,
)
def test_client_wins(body: dict[str, Any], expected: dict[str, Any]) -> None:
    made = ask(body, parameters=SET)
    assert {name: made.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "body", [{}, {"temperature": 1, "max_tokens": 2}, {"max_completion_tokens": 3, "max_tokens": 4, "stop": "y"}]
)
def test_enforced_parameters_win(body: dict[str, Any]) -> None:
    made = ask(body, parameters=SET, enforce=True)
    assert (made["temperature"], made["max_completion_tokens"], made["stop"]) == (0.5, 7, ["x"])
    assert "max_tokens" not in made


@pytest.mark.parametrize(
    ("path", "parameters", "name"),
    [
        (paths.MESSAGES, {"seed": 1}, "seed"),
        (paths.MESSAGES, {"extra": {"min_p": 0.1}}, "min_p"),
        (paths.MESSAGES, {"extra": {"repetition_penalty": 1.1}}, "repetition_penalty"),
        (paths.RESPONSES, {"extra": {"bad_words": ["a"]}}, "bad_words"),
    ],
)
def test_parameter_that_the_endpoint_lacks(path: str, parameters: dict[str, Any], name: str) -> None:
    assert name not in ask({}, path, parameters=parameters)
    found = refusal({}, path, parameters=parameters, enforce=True)
    assert (found.status, found.code, found.param, found.outcome) == (400, "parameter_not_supported", name, "rejected")


def test_chat_has_every_parameter_and_all_places_are_allowed() -> None:
    assert CHAT_COMPLETIONS.places.keys() == set(PARAMETERS.values()) | EXTRA
    for endpoint in (CHAT_COMPLETIONS, RESPONSES_API, MESSAGES_API):
        others = [place for places in endpoint.aliases.values() for place in places]
        assert {place[0] for place in [*endpoint.places.values(), *others]} <= endpoint.allowed


@pytest.mark.parametrize(
    ("body", "choice", "tools", "chosen"),
    [
        ({}, None, ["search"], None),
        ({}, "required", ["search"], "required"),
        ({}, {"name": "search"}, ["search"], {"type": "function", "function": {"name": "search"}}),
        ({"tool_choice": "none"}, "required", ["search"], "none"),
        ({"tools": None}, "required", ["search"], "required"),
        ({"tools": [MINE]}, "required", ["mine"], None),
        ({"tools": [MINE]}, {"name": "search"}, ["mine"], None),
        ({"tools": [MINE], "tool_choice": "auto"}, "required", ["mine"], "auto"),
    ],
)
def test_tools_of_the_client_win_with_their_choice(body: Any, choice: Any, tools: list[str], chosen: Any) -> None:
    made = ask(body, tools=[TOOL], toolChoice=choice)
    assert [tool["function"]["name"] for tool in made["tools"]] == tools
    assert made.get("tool_choice") == chosen


def test_enforced_tools_win() -> None:
    made = ask({"tools": [MINE], "tool_choice": "none"}, tools=[TOOL], toolChoice="required", enforce=True)
    assert made["tools"] == [{"type": "function", "function": TOOL}]
    assert made["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        ({}, {}, FORMAT),
        ({"response_format": None}, {}, FORMAT),
        ({"response_format": {"type": "text"}}, {}, {"type": "text"}),
        ({"structured_outputs": {"regex": "a"}}, {}, None),
        ({"response_format": {"type": "text"}}, {"enforce": True}, FORMAT),
        ({"structured_outputs": {"regex": "a"}}, {"enforce": True}, FORMAT),
        ({}, {"structured": False}, None),
        (
            {},
            {"strict": True, "outputName": "answer"},
            FORMAT | {"json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_schema_is_enforced_by_vllm(body: Any, changes: dict[str, Any], expected: Any) -> None:
    prompted: dict[str, Any] = {"outputSchema": {"type": "object"}, "structured": True} | changes
    made = ask(body, **prompted)
    assert made.get("response_format") == expected
    if changes.get("enforce"):
        assert "structured_outputs" not in made
