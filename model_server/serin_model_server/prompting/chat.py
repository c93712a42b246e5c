"""A prompt in a body of `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from . import history
from .body import Fields, Json, array
from .fields import CHAT_COMPLETIONS
from .prompt import Prompt, Tool
from .refusal import rejected
from .settings import apply_default, apply_parameters, apply_tools, given
from .special import SpecialTokens


def apply(fields: Fields, prompt: Prompt, values: Mapping[str, str], specials: SpecialTokens) -> list[Json]:
    """The elements of `messages` with the prompt; the other fields are changed in place.

    Raises:
        Refusal: it cannot be put in.
    """
    leading, rest = history.divide(given(fields, ("messages",)), prompt, "The field messages")
    if prompt.after and (
        fields.get("continue_final_message") == b"true" or fields.get("add_generation_prompt") == b"false"
    ):
        raise rejected(
            "The last message cannot be continued, because the prompt in force ends with a message of its own. "
            "Send the request without continue_final_message and add_generation_prompt.",
            code="message_not_last",
            param="continue_final_message",
        )
    systems = [history.plain_text(history.content_of(item)) for item in leading]
    before = history.render(prompt.before, values, specials)
    after = history.render(prompt.after, values, specials)
    apply_parameters(fields, prompt, CHAT_COMPLETIONS)
    apply_tools(fields, prompt, array([_tool(tool) for tool in prompt.tools]), _choice(prompt.tool_choice))
    if prompt.schema is not None:
        apply_default(fields, prompt, _format(prompt, prompt.schema), ("response_format",), ("structured_outputs",))
    return history.compose(before, systems, rest, after)


def _format(prompt: Prompt, schema: bytes) -> bytes:
    name, strict = msgspec.json.encode(prompt.output_name), b"true" if prompt.strict else b"false"
    return b'{"type":"json_schema","json_schema":{"name":%s,"schema":%s,"strict":%s}}' % (name, schema, strict)


def _tool(tool: Tool) -> bytes:
    inner = [b'"name":' + msgspec.json.encode(tool.name)]
    for key, value in (("description", tool.description), ("parameters", tool.parameters), ("strict", tool.strict)):
        if value is not None:
            inner.append(b'"%s":%s' % (key.encode(), value))
    return b'{"type":"function","function":{%s}}' % b",".join(inner)


def _choice(choice: str | None) -> bytes | None:
    if choice is None or not choice.startswith("="):
        return None if choice is None else msgspec.json.encode(choice)
    return b'{"type":"function","function":{"name":%s}}' % msgspec.json.encode(choice[1:])
