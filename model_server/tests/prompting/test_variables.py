"""Variables of a prompt in a request: values, types, bounds, special tokens."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.outcome import EXCLUDED, REJECTED
from model_server.serin_model_server.prompting.special import SpecialTokens, of_application
from model_server.serin_model_server.prompting.template import MAX_RENDERED, compiled
from model_server.tests.prompting.prompts import ask, refusal
from serin.api.promptversion import PromptVersionSpec


def with_variables(text: str, *variables: dict[str, Any]) -> dict[str, Any]:
    """Changes of a prompt: one system message, and its variables."""
    return {"messages": [{"role": "system", "content": text}], "variables": list(variables)}


def rendered(text: str, sent: Any, *variables: dict[str, Any]) -> str:
    made = ask({"messages": [], "prompt_variables": sent}, **with_variables(text, *variables))
    assert "prompt_variables" not in made
    (message,) = made["messages"]
    found: str = message["content"]
    return found


NAMED = {"name": "name"}


@pytest.mark.parametrize(
    ("text", "sent", "variables", "expected"),
    [
        ("Hi {{ name }}!", {"name": "Ana"}, [NAMED], "Hi Ana!"),
        ("{{name}}{{ name}}{{name }}", {"name": "x"}, [NAMED], "xxx"),
        ("Hi {{ name }}!", {}, [NAMED], "Hi !"),
        ("Hi {{ name }}!", None, [NAMED], "Hi !"),
        ("Hi {{ name }}!", {"name": None}, [NAMED | {"default": "you"}], "Hi you!"),
        ("Hi {{ name }}!", {"name": ""}, [NAMED | {"default": "you"}], "Hi !"),
        ("Hi {{ name }}!", {"name": "Ana", "unknown": {"a": [1]}}, [NAMED], "Hi Ana!"),
        ("{{ name }}", {"name": "{{ other }}", "other": "x"}, [NAMED, {"name": "other"}], "{{ other }}"),
        ("{{ name }} {{", {"name": "}}"}, [NAMED], "}} {{"),
        ('{"a": {{ name }}}', {"name": "1"}, [NAMED], '{"a": 1}'),
        ("{{ name }}", {"name": 'é"\\\n\u2028😀\x00'}, [NAMED], 'é"\\\n\u2028😀\x00'),
        ("{{ name }}", {"name": 1}, [NAMED | {"type": "number"}], "1"),
        ("{{ name }}", {"name": -1.5}, [NAMED | {"type": "number"}], "-1.5"),
        ("{{ name }}", {"name": True}, [NAMED | {"type": "boolean"}], "true"),
        ("{{ name }}", {"name": "b"}, [NAMED | {"enum": ["a", "b"]}], "b"),
        ("{{ name }}", {"name": "ééé"}, [NAMED | {"maxLength": 3}], "ééé"),
        ("{{ name }}", {"name": "<b>a < b [1]</b>"}, [NAMED], "<b>a < b [1]</b>"),
    ],
)
def test_values_are_put_in_once(text: str, sent: Any, variables: list[dict[str, Any]], expected: str) -> None:
    assert rendered(text, sent, *variables) == expected


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ({"required": True}, ..., "missing_prompt_variable"),
        ({"required": True}, None, "missing_prompt_variable"),
        ({}, 1, "invalid_prompt_variable"),
        ({}, True, "invalid_prompt_variable"),
        ({}, ["a"], "invalid_prompt_variable"),
        ({}, {"a": "b"}, "invalid_prompt_variable"),
        ({"type": "number"}, "1", "invalid_prompt_variable"),
        ({"type": "number"}, True, "invalid_prompt_variable"),
        ({"type": "number"}, 10**100, "invalid_prompt_variable"),
        ({"type": "boolean"}, "true", "invalid_prompt_variable"),
        ({"type": "boolean"}, 1, "invalid_prompt_variable"),
        ({"enum": ["a"]}, "b", "invalid_prompt_variable"),
        ({"enum": ["a"]}, "а", "invalid_prompt_variable"),  # noqa: RUF001 - a Cyrillic letter
        ({"maxLength": 3}, "aaaa", "invalid_prompt_variable"),
        ({"maxLength": 0}, "a", "invalid_prompt_variable"),
        ({"maxLength": 10**9}, "a" * 65_537, "invalid_prompt_variable"),
        ({}, "a" * 10_000_000, "invalid_prompt_variable"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_value_that_is_not_as_declared_is_rejected(variable: dict[str, Any], value: Any, code: str) -> None:
    sent = {} if value is ... else {"name": value}
    found = refusal({"prompt_variables": sent}, **with_variables("{{ name }}", NAMED | variable))

    assert (found.status, found.code, found.param, found.outcome) == (400, code, "prompt_variables.name", REJECTED)
    assert len(found.message) < 300


@pytest.mark.parametrize("sent", [1, "x", ["a"], True], ids=str)
def test_variables_that_are_no_object_are_refused(sent: Any) -> None:
    found = refusal({"prompt_variables": sent}, **with_variables("{{ name }}", NAMED))
    assert (found.code, found.outcome) == ("invalid_body", EXCLUDED)


@pytest.mark.parametrize(
    "value",
    [
        "<end_of_message>",
        "a<end_of_message>b",
        "[STOP]",
        "<|im_end|>",
        "<|eot_id|>",
        "</s>",
        "[/INST]",
        "<end_of_turn>",
        "<\uff5cUser\uff5c>",
    ],
)
def test_special_token_in_a_value_is_rejected(value: str) -> None:
    found = refusal({"prompt_variables": {"name": value}}, **with_variables("Hi {{ name }}!", NAMED))
    assert (found.code, found.outcome) == ("special_token_in_variable", REJECTED)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("<{{ name }}>", {"name": "/s"}),
        ("<{{ name }}>", {"name": "end_of_message"}),
        ("[{{ name }}]", {"name": "STOP"}),
        ("<end_of{{ name }}>", {"name": "_message"}),
        ("{{ name }}{{ other }}", {"name": "<end_of", "other": "_message>"}),
        ("{{ name }}of_{{ other }}", {"name": "<end_", "other": "message>"}),
        ("x" * 500 + "{{ name }}" + "y" * 500, {"name": "<end_of_message>"}),
    ],
)
def test_special_token_that_a_value_completes_is_rejected(text: str, sent: dict[str, str]) -> None:
    found = refusal({"prompt_variables": sent}, **with_variables(text, NAMED, {"name": "other"}))
    assert found.code == "special_token_in_variable"


def test_special_token_of_the_author_stays() -> None:
    assert rendered("<end_of_message> {{ name }} </s>", {"name": "a"}, NAMED) == "<end_of_message> a </s>"


def test_bomb_of_placeholders_is_rejected_before_it_grows() -> None:
    began = time.thread_time()
    found = refusal({"prompt_variables": {"name": "a" * 65_536}}, **with_variables("{{name}}" * 8_000, NAMED))
    assert (found.code, found.outcome) == ("prompt_too_long", REJECTED)
    assert time.thread_time() - began < 1


def test_many_placeholders_cost_little() -> None:
    began = time.thread_time()
    assert len(rendered("{{name}} " * 7_000, {"name": "<a[" * 30}, NAMED)) < MAX_RENDERED
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "{{a}}",
        "{{ a }}",
        "{{  a  }}",
        "{{\ta}}",
        "{{ a.b }}",
        "{{ 1a }}",
        "{a}",
        "{{{a}}}",
        "{{ a",
        "{{ é }}",
        "{{a\n}}",
    ],
    ids=ascii,
)
def test_placeholders_are_those_of_the_api(text: str) -> None:
    spec = {"prompt": "triage", "version": "1.0.0", "messages": [{"role": "system", "content": text}]}
    try:
        PromptVersionSpec.model_validate(spec)
        declared_needed = False
    except ValueError:
        # Nothing is declared, so a placeholder is an error.
        declared_needed = True

    assert bool(compiled(text).names) is declared_needed


@given(st.text(st.characters(codec="utf-8"), max_size=50), st.text("{} na", max_size=30))
def test_value_arrives_as_it_was_sent(value: str, around: str) -> None:
    template = compiled(around.replace("{{", "(") + "{{ name }}" + around.replace("{{", "("))
    inside = template.render({"name": value}, SpecialTokens()).decode()

    assert json.loads(f'"{inside}"') == "".join((template.literals[0], value, template.literals[1]))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt_id": "another"}, "prompt_id"),
        ({"prompt_id": "Triage"}, "prompt_id"),
        ({"prompt": {"id": "another"}}, "prompt.id"),
    ],
)
def test_another_prompt_is_not_found(body: dict[str, Any], param: str) -> None:
    found = refusal(body)
    assert (found.status, found.code, found.param, found.outcome) == (400, "prompt_not_found", param, EXCLUDED)


def test_fields_for_serin_do_not_reach_vllm() -> None:
    body = {"prompt_id": "triage", "prompt_version": "9.9.9", "prompt_label": "production", "prompt_variables": {}}
    assert ask({"messages": []} | body).keys() == {"messages"}


class _Token(str):
    special = True


class _Tokenizer:
    all_special_tokens = ("<bos_of_model>",)
    added_tokens_decoder = {1: _Token("<turn_end>"), 2: "\n\n"}  # noqa: RUF012

    def get_tokenizer(self) -> _Tokenizer:
        return self


class _Application:
    class state:  # noqa: N801
        engine_client = _Tokenizer()


def test_special_tokens_are_those_of_the_served_model() -> None:
    found = of_application(_Application)

    assert found.overlapping("<bos_of_model>", 0, 5)
    assert found.overlapping("<turn_end>", 9, 1)
    assert not found.overlapping("a\n\nb", 0, 4)


def test_common_special_tokens_need_no_tokenizer() -> None:
    assert of_application(None).overlapping("<|im_end|>", 0, 10)
