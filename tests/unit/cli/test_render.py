"""What the model gets: the vectors that pods are tested with, too, and properties of the merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.cli.prompt.render import ExactFloat, Refused, render
from serin.cli.prompt.template import filled, placeholders, spans

VECTORS = json.loads((Path(__file__).parents[2] / "fixtures" / "prompt_merge.json").read_text(encoding="utf-8"))
TEXTS = st.text(alphabet='{} x"<|>\\\n\u2028é', max_size=20)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_render_matches_the_vector(vector: dict[str, Any]) -> None:
    before = json.dumps(vector)
    prompt = {"prompt": "triage", "version": "1.4.0", **vector["prompt"]}
    if "refusal" in vector:
        with pytest.raises(Refused) as refused:
            render(prompt, vector["request"])
        assert {"code": refused.value.code, "param": refused.value.param} == vector["refusal"]
    else:
        assert render(prompt, vector["request"]) == vector["body"]
    assert json.dumps(vector) == before  # nothing that was given is changed


def test_number_keeps_the_spelling_of_its_argument() -> None:
    prompt = {
        "prompt": "triage",
        "messages": [{"role": "user", "content": "{{ x }}"}],
        "variables": [{"name": "x", "type": "number"}],
    }
    body = render(prompt, {"messages": [], "prompt_variables": {"x": ExactFloat("1.50e1")}})

    assert body["messages"] == [{"role": "user", "content": "1.50e1"}]


@given(TEXTS, TEXTS, TEXTS)
def test_filled_text_has_each_value_once_and_as_it_is(head: str, value: str, tail: str) -> None:
    template = f"{head} [{{{{ x }}}}] {tail}"
    if placeholders(template) != ["x"] or placeholders(head + tail):
        return
    text = filled(template, {"x": value})

    assert text.count(f"[{value}]") >= 1
    assert len(text) == len(template) - len("{{ x }}") + len(value)
    assert [text[begin:end] for _, begin, end in spans(template, {"x": value})] == ([value] if value else [])


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ({"required": True}, None, "The prompt needs the variable x; give --var x=VALUE."),
        ({"maxLength": 2}, "abc", "The variable x has 3 characters and may have 2; give a shorter value."),
        ({"enum": ["a", "b"]}, "\x1bc", "The variable x is '\\x1bc'; give one of a, b."),
        ({"type": "number"}, "x", "The variable x is not a number; correct the value."),
    ],
)
def test_refusal_says_what_to_give(variable: dict[str, Any], value: object, sentence: str) -> None:
    prompt = {
        "prompt": "p",
        "messages": [{"role": "user", "content": "{{ x }}"}],
        "variables": [{"name": "x", **variable}],
    }
    with pytest.raises(Refused) as refused:
        render(prompt, {"messages": [], "prompt_variables": {"x": value}})

    assert str(refused.value) == sentence
