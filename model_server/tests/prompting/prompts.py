"""Prompts and requests for the tests of prompting."""

from __future__ import annotations

import json
from typing import Any

from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.apply import apply
from model_server.serin_model_server.prompting.prompt import Prompt, parse_prompts
from model_server.serin_model_server.prompting.refusal import Refusal
from model_server.serin_model_server.prompting.special import SpecialTokens

FAMILY, VERSION = "triage", "1.4.0"
SYSTEM = {"role": "system", "content": "Be brief."}
HISTORY = {"placeholder": "history"}
SPECIALS = SpecialTokens(["<end_of_message>", "[STOP]"])


def content(**changes: Any) -> dict[str, Any]:
    """A prompt as in the split document; `...` takes a key away."""
    made = {"version": VERSION, "hash": "0123456789ab", "messages": [SYSTEM]} | changes
    return {name: value for name, value in made.items() if value is not ...}


def prompt(**changes: Any) -> Prompt:
    """A checked prompt."""
    found = parse_prompts({FAMILY: content(**changes)})
    assert found is not None
    return found


def ask(body: Any, path: str = paths.CHAT, **changes: Any) -> dict[str, Any]:
    """What vLLM gets of a body, with the prompt `content(**changes)`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    made: dict[str, Any] = json.loads(apply(path, raw, prompt(**changes), SPECIALS))
    return made


def refusal(body: Any, path: str = paths.CHAT, **changes: Any) -> Refusal:
    """The refusal of a body."""
    try:
        made = ask(body, path, **changes)
    except Refusal as found:
        return found
    raise AssertionError(f"not refused: {made}")


def user(text: str) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text}
