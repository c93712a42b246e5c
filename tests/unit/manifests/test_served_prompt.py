"""What of a recorded prompt the pods get."""

from __future__ import annotations

from serin.api.content_hash import NOT_HASHED
from serin.api.parse import parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.manifests.served_prompt import SERVED, served_prompts
from tests.unit.manifests.samples import make_resolved

WRITTEN = {
    "prompt": "triage",
    "version": "1.4.0",
    "model": "triage",
    "author": "Ana",
    "description": "Sorts tickets.",
    "labels": {"team": "support"},
    "messages": [{"role": "system", "content": "Triage for {{ team }}."}],
    "variables": [{"name": "team", "required": True, "description": "The team."}],
    "parameters": {"temperature": 0.2, "maxTokens": 128},
    "outputSchema": {"type": "object"},
}


def test_pods_get_a_prompt_as_written_without_what_only_people_read() -> None:
    resolved = make_resolved(prompt_name="triage-1.4.0", prompt_hash="3f9c00aa11bb", prompt_content=WRITTEN)
    kept = {name: WRITTEN[name] for name in ("messages", "variables", "parameters", "outputSchema")}
    assert served_prompts(resolved) == {"triage": {"version": "1.4.0", "hash": "3f9c00aa11bb", **kept}}
    assert served_prompts(make_resolved()) == {}


def test_tool_that_is_chosen_by_name_has_the_form_of_a_request() -> None:
    def served(choice: str | None) -> object:
        (prompt,) = served_prompts(make_resolved(prompt_content=WRITTEN | {"toolChoice": choice})).values()
        return prompt.get("toolChoice")

    assert [served(choice) for choice in (None, "none", "auto", "required")] == [None, "none", "auto", "required"]
    assert served("look_up") == {"type": "function", "function": {"name": "look_up"}}


def test_pods_get_every_hashed_field_but_the_model() -> None:
    parse_promptversion({"spec": WRITTEN})
    hashed = {PromptVersionSpec.model_fields[name].alias for name in PromptVersionSpec.model_fields.keys() - NOT_HASHED}
    assert set(SERVED) == hashed - {"model"}
