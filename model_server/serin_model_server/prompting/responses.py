"""A prompt in a body of `/v1/responses`.

The system text becomes a leading item of `input`, never `instructions`, which vLLM repeats in its answers; the client's
own `instructions` are joined to it. The schema goes to `structured_outputs`, because `text` is repeated as well. Tools
and parameters are repeated by vLLM; a prompt cannot hide them on this endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from . import history
from .body import Fields, Json, array, text_of
from .fields import RESPONSES_API
from .prompt import Prompt, Tool
from .settings import apply_default, apply_parameters, apply_tools, given
from .special import SpecialTokens


def apply(fields: Fields, prompt: Prompt, values: Mapping[str, str], specials: SpecialTokens) -> list[Json]:
    """The elements of `input` with the prompt; the other fields are changed in place.

    Raises:
        Refusal: it cannot be put in.
    """
    leading, rest = history.divide(_items(given(fields, ("input",))), prompt, "The field input")
    instructions = _instructions(fields)
    if instructions and prompt.reject_client_system:
        raise history.client_system()
    systems = [instructions, *(history.plain_text(history.content_of(item)) for item in leading)]
    before = history.render(prompt.before, values, specials)
    after = history.render(prompt.after, values, specials)
    apply_parameters(fields, prompt, RESPONSES_API)
    apply_tools(fields, prompt, array([_tool(tool) for tool in prompt.tools]), _choice(prompt.tool_choice))
    if prompt.schema is not None:
        constraint = b'{"json":%s}' % prompt.schema
        apply_default(fields, prompt, constraint, ("structured_outputs",), ("text", "format"))
    return history.compose(before, systems, rest, after)


def _items(sent: Json | None) -> Json | None:
    """The client's input as an array."""
    return b'[{"role":"user","content":%s}]' % sent if sent is not None and sent[:1] == b'"' else sent


def _instructions(fields: Fields) -> bytes:
    """The client's instructions, inside of a JSON string; removes them from the body."""
    sent = given(fields, ("instructions",))
    fields.pop("instructions", None)
    if sent is None:
        return b""
    if sent[:1] != b'"':
        text_of(sent, "The field instructions")
    return bytes(sent[1:-1])


def _tool(tool: Tool) -> bytes:
    # vLLM requires all of these keys.
    return b'{"type":"function","name":%s,"description":%s,"parameters":%s,"strict":%s}' % (
        msgspec.json.encode(tool.name),
        tool.description or b"null",
        tool.parameters or b'{"type":"object","properties":{}}',
        tool.strict or b"false",
    )


def _choice(choice: str | None) -> bytes | None:
    if choice is None or not choice.startswith("="):
        return None if choice is None else msgspec.json.encode(choice)
    return b'{"type":"function","name":%s}' % msgspec.json.encode(choice[1:])
