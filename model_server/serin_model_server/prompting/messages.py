"""A prompt in a body of Anthropic's `/v1/messages` and `/v1/messages/count_tokens`.

The prompt's system text is a block of its own in `system`, before the client's blocks. vLLM joins blocks with nothing
between them, so it ends with a blank line where something follows; and vLLM drops a block that begins with the header
of Anthropic's billing, so a text that begins with it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from . import history
from .body import Fields, Json, array, elements, text_of
from .fields import MESSAGES_API
from .history import BLANK_LINE, Rendered
from .prompt import SYSTEM_ROLES, Prompt, Tool
from .refusal import Refusal, rejected
from .settings import apply_default, apply_parameters, apply_tools, given
from .special import SpecialTokens

# Where a message of the client may be a system message; only the blank line depends on it.
_SYSTEM = re.compile(rb'"system"')
_DROPPED = b"x-anthropic-billing-header"
_CHOICES = {"auto": b'{"type":"auto"}', "required": b'{"type":"any"}', "none": b'{"type":"none"}'}


def apply(fields: Fields, prompt: Prompt, values: Mapping[str, str], specials: SpecialTokens) -> list[Json]:
    """The elements of `messages` with the prompt; the other fields are changed in place.

    Raises:
        Refusal: it cannot be put in.
    """
    made = apply_to_count(fields, prompt, values, specials)
    apply_parameters(fields, prompt, MESSAGES_API)
    if prompt.schema is not None:
        form = b'{"type":"json_schema","schema":%s}' % prompt.schema
        apply_default(fields, prompt, form, ("output_config", "format"))
    return made


def apply_to_count(fields: Fields, prompt: Prompt, values: Mapping[str, str], specials: SpecialTokens) -> list[Json]:
    """As `apply`, but only what counts as input: messages and tools.

    Raises:
        Refusal: it cannot be put in.
    """
    leading, rest = history.divide(given(fields, ("messages",)), prompt, "The field messages")
    blocks = _blocks(given(fields, ("system",)))
    if blocks and prompt.reject_client_system:
        raise history.client_system()
    moved, staying = _as_blocks(leading)
    blocks += moved
    rest = staying + rest
    before = history.render(prompt.before, values, specials)
    after = history.render(prompt.after, values, specials)
    lead = 0
    while lead < len(before) and before[lead].role in SYSTEM_ROLES:
        lead += 1
    if text := history.join(message.text for message in before[:lead]):
        _refuse_dropped(text)
        follows = blocks or after or any(_SYSTEM.search(item) for item in rest)
        blocks.insert(0, _block(b'"%s%s"' % (text, BLANK_LINE if follows else b"")))
    if blocks:
        fields["system"] = array(blocks)
    apply_tools(fields, prompt, array([_tool(tool) for tool in prompt.tools]), _choice(prompt.tool_choice))
    return [*_inline(before[lead:]), *rest, *_inline(after)]


def _blocks(system: Json | None) -> list[Json]:
    """The client's system blocks."""
    if system is None or system in (b'""', b"[]"):
        return []
    return [_block(system)] if system[:1] == b'"' else elements(system, "The field system")


def _as_blocks(leading: list[Json]) -> tuple[list[Json], list[Json]]:
    """System messages as blocks, up to one that changes tools: it stays a message, and so do those after it."""
    blocks: list[Json] = []
    for number, item in enumerate(leading):
        content = history.content_of(item)
        try:
            # Only to see that it is text.
            history.plain_text(content)
        except Refusal:
            return blocks, leading[number:]
        if content[:1] == b"[":
            blocks += elements(content, "The content of a system message")
        elif content != b"null":
            blocks.append(_block(content))
    return blocks, []


def _inline(messages: Sequence[Rendered]) -> list[Json]:
    """Messages of the prompt as elements of `messages`; Anthropic has no role developer."""
    found: list[Json] = []
    for message in messages:
        system = message.role in SYSTEM_ROLES
        if system:
            _refuse_dropped(message.text)
        found.append(history.message(message._replace(role="system") if system else message))
    return found


def _refuse_dropped(text: bytes) -> None:
    if text.startswith(_DROPPED):
        raise rejected(
            "With these variables, the prompt begins with the name of a header that the server removes. "
            "Send other values.",
            code="invalid_prompt_variable",
            param="prompt_variables",
        )


def _block(text: Json) -> bytes:
    if text[:1] != b'"':
        text_of(text, "A system text")
    return b'{"type":"text","text":%s}' % text


def _tool(tool: Tool) -> bytes:
    more = b"".join(
        b',"%s":%s' % (key, value)
        for key, value in ((b"description", tool.description), (b"strict", tool.strict))
        if value
    )
    return b'{"name":%s,"input_schema":%s%s}' % (
        msgspec.json.encode(tool.name),
        tool.parameters or b'{"type":"object"}',
        more,
    )


def _choice(choice: str | None) -> bytes | None:
    if choice is None or choice in _CHOICES:
        return _CHOICES.get(choice or "")
    return b'{"type":"tool","name":%s}' % msgspec.json.encode(choice[1:])
