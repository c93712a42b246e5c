"""The check of prompts that only the parser does: all placeholders are declared."""

from __future__ import annotations

from typing import Any

import pytest

from serin.api.parse import parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.errors import SpecError


def _prompt(content: str, *variables: str) -> dict[str, Any]:
    return {
        "spec": {
            "prompt": "triage",
            "version": "1.0.0",
            "messages": [{"role": "user", "content": content}],
            "variables": [{"name": name} for name in variables],
        }
    }


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        ("no placeholder", ()),
        ("{{ team }} and {{team}}", ("team",)),
        ("{{ team }}", ("team", "unused")),
        ('Answer as {"a": {"b": 1}}.', ()),
        ('A literal {{"queue": 1}} or {{ a b }} or {{}} or { team }.', ()),
    ],
)
def test_declared_variables_and_plain_braces_are_accepted(content: str, variables: tuple[str, ...]) -> None:
    assert isinstance(parse_promptversion(_prompt(content, *variables)), PromptVersionSpec)


@pytest.mark.parametrize(
    ("content", "variables", "named"),
    [("{{ team }}", (), "team"), ("{{tema}} {{ team }}", ("team",), "tema"), ("{{ b }}{{ a }}", (), "a, b")],
)
def test_undeclared_placeholder_is_named_in_the_error(content: str, variables: tuple[str, ...], named: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_promptversion(_prompt(content, *variables))
    assert str(refusal.value) == f"spec: Declare {named} in variables, or correct the placeholder."
