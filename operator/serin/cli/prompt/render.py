"""The body of a chat completion with a prompt in force: what the pod's middleware passes to vLLM. Pure.

The same rules as `serin_model_server.prompting`, on decoded JSON instead of bytes; a contract test compares both on the
vectors in tests/fixtures/prompt_merge.json. Not here: the list of fields that a pod accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from serin.cli.prompt.template import SPECIAL_TOKEN, filled, spans
from serin.errors import InputError

Body = dict[str, Any]
Prompt = Mapping[str, Any]
"""A PromptVersion's spec as it was written."""
Variable = Mapping[str, Any]

SYSTEM_ROLES = frozenset({"system", "developer"})
CHOICES = frozenset({"none", "auto", "required"})
"""Values of `toolChoice` that name no tool."""
MAX_VALUE = 65_536
"""Characters of a value whose variable has no maxLength."""
MAX_RENDERED = 1 << 20
"""Characters of one message after values were put in."""
_TEXT_PARTS = frozenset({"text", "input_text"})
_PARAMETERS = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxTokens": "max_completion_tokens",
    "stop": "stop",
    "seed": "seed",
}
_ALIASES = {"max_completion_tokens": ("max_tokens",), "response_format": ("structured_outputs",)}


class Refused(InputError):  # noqa: N818 - what the pod does
    """A pod would answer this request with 400; `code` and `param` are those of its answer."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class ExactFloat(float):
    """A number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> ExactFloat:
        """The number in a JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def render(prompt: Prompt, request: Mapping[str, Any]) -> Body:
    """The body that vLLM gets for a client's body.

    Raises:
        Refused: the pod would refuse the request.
    """
    body = dict(request)
    values = _values(prompt, body)
    before, after = _rendered(prompt, values)
    _check_continued(body, after)
    sent = body.get("messages") or []
    body["messages"] = _conversation(prompt, before, list(sent), after)
    enforce = bool(prompt.get("enforce"))
    parameters = prompt.get("parameters") or {}
    for name, wire in _PARAMETERS.items():
        if parameters.get(name) not in (None, []):
            _default(body, wire, parameters[name], enforce=enforce)
    for wire, value in (parameters.get("extra") or {}).items():
        if value is not None:
            _default(body, wire, value, enforce=enforce)
    _tools(prompt, body, enforce=enforce)
    if prompt.get("structured") and prompt.get("outputSchema") is not None:
        _default(body, "response_format", _response_format(prompt), enforce=enforce)
    return body


def _values(prompt: Prompt, body: Body) -> dict[str, str]:
    """The value of every declared variable; removes the fields for Serin from the body."""
    family = body.pop("prompt_id", None)
    if family is not None and family != prompt["prompt"]:
        raise Refused(
            f"The prompt {str(family)[:64]!a} is not {prompt['prompt']}, which is rendered; correct prompt_id.",
            "prompt_not_found",
            "prompt_id",
        )
    for ignored in ("prompt_version", "prompt_label"):
        body.pop(ignored, None)
    sent = body.pop("prompt_variables", None) or {}
    if not isinstance(sent, dict):
        raise Refused("prompt_variables is not an object; correct it.", "invalid_body")
    return {
        variable["name"]: _value(variable, sent.get(variable["name"])) for variable in prompt.get("variables") or ()
    }


def _value(variable: Variable, sent: object) -> str:
    name, param = variable["name"], f"prompt_variables.{variable['name']}"
    if sent is None:
        if variable.get("required"):
            raise Refused(
                f"The prompt needs the variable {name}; give --var {name}=VALUE.", "missing_prompt_variable", param
            )
        return variable.get("default") or ""
    text = _text(variable, sent, param)
    longest = min(variable.get("maxLength", MAX_VALUE), MAX_VALUE)
    if len(text) > longest:
        raise Refused(
            f"The variable {name} has {len(text):,} characters and may have {longest:,}; give a shorter value.",
            "invalid_prompt_variable",
            param,
        )
    if variable.get("enum") and text not in variable["enum"]:
        raise Refused(
            f"The variable {name} is {text[:64]!a}; give one of {', '.join(variable['enum'])}.",
            "invalid_prompt_variable",
            param,
        )
    return text


def _text(variable: Variable, sent: object, param: str) -> str:
    kind = str(variable.get("type") or "string").lower()
    if kind == "string" and isinstance(sent, str):
        return sent
    if kind == "boolean" and isinstance(sent, bool):
        return "true" if sent else "false"
    if kind == "number" and isinstance(sent, int | float) and not isinstance(sent, bool):
        return sent.text if isinstance(sent, ExactFloat) else json.dumps(sent)
    raise Refused(
        f"The variable {variable['name']} is not a {kind}; correct the value.", "invalid_prompt_variable", param
    )


def _rendered(prompt: Prompt, values: Mapping[str, str]) -> tuple[list[Body], list[Body]]:
    """The prompt's messages before and after the client's."""
    parts: tuple[list[Body], list[Body]] = ([], [])
    place = 0
    for message in prompt["messages"]:
        if "placeholder" in message:
            place = 1
        else:
            parts[place].append({"role": message["role"], "content": _content(message["content"], values)})
    return parts


def _content(template: str, values: Mapping[str, str]) -> str:
    text = filled(template, values)
    if text == template:
        return text
    if len(text) > MAX_RENDERED:
        raise Refused(
            f"A message has {len(text):,} characters and may have {MAX_RENDERED:,}; give shorter values.",
            "prompt_too_long",
            "prompt_variables",
        )
    tokens = [found.span() for found in SPECIAL_TOKEN.finditer(text)]
    for name, begin, end in spans(template, values):
        if any(first < end and last > begin for first, last in tokens):
            raise Refused(
                f"The variable {name} contains a special token of a model; remove the token from the value.",
                "special_token_in_variable",
                f"prompt_variables.{name}",
            )
    return text


def _check_continued(body: Body, after: Sequence[Body]) -> None:
    if after and (body.get("continue_final_message") is True or body.get("add_generation_prompt") is False):
        raise Refused(
            "The prompt ends with a message of its own; remove continue_final_message and add_generation_prompt.",
            "message_not_last",
            "continue_final_message",
        )


def _conversation(prompt: Prompt, before: Sequence[Body], sent: Sequence[Body], after: Sequence[Body]) -> list[Body]:
    """All messages in order; the client's leading system messages are joined to the last of the prompt's."""
    if prompt.get("clientSystem") == "Reject" and any(map(_is_system, sent)):
        raise Refused(
            "The prompt accepts no system message of clients; send its text in a user message.",
            "client_system_not_accepted",
        )
    leading = next((n for n, message in enumerate(sent) if not _is_system(message)), len(sent))
    texts = [text for text in map(_plain_text, sent[:leading]) if text]
    lead = next((n for n, message in enumerate(before) if message["role"] not in SYSTEM_ROLES), len(before))
    front = list(before[:lead])
    if texts:
        last = front.pop() if front else {"role": "system", "content": ""}
        front.append({"role": last["role"], "content": "\n\n".join(t for t in (last["content"], *texts) if t)})
    return [*front, *before[lead:], *sent[leading:], *after]


def _is_system(message: object) -> bool:
    if not isinstance(message, dict):
        raise Refused("A message of the request is not an object; correct it.", "invalid_body")
    return message.get("role") in SYSTEM_ROLES


def _plain_text(message: Body) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if not isinstance(content, list) or len(parts) < len(content):
        raise Refused("The content of a system message is neither a text nor a list of parts.", "invalid_body")
    if any(part.get("type") not in _TEXT_PARTS for part in parts):
        raise Refused(
            "A system message has something else than text; send it in a user message.", "system_content_not_text"
        )
    return "\n".join(part.get("text") or "" for part in parts)


def _default(body: Body, name: str, value: object, *, enforce: bool) -> bool:
    """Set a value of the prompt, unless the client's wins; whether it was set."""
    others = _ALIASES.get(name, ())
    if enforce:
        for other in others:
            body.pop(other, None)
    elif any(body.get(each) is not None for each in (name, *others)):
        return False
    body[name] = value
    return True


def _tools(prompt: Prompt, body: Body, *, enforce: bool) -> None:
    tools = [_tool(tool) for tool in prompt.get("tools") or ()]
    if tools and not _default(body, "tools", tools, enforce=enforce):
        return  # the choice is one among the prompt's tools
    if (choice := prompt.get("toolChoice")) is not None:
        _default(body, "tool_choice", _choice(choice), enforce=enforce)


def _tool(tool: Mapping[str, Any]) -> Body:
    function = tool.get("function", tool)
    keys = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: function[key] for key in keys if function.get(key) is not None}}


def _choice(choice: object) -> object:
    if isinstance(choice, str):
        return choice if choice in CHOICES else {"type": "function", "function": {"name": choice}}
    function = choice.get("function", choice) if isinstance(choice, dict) else {}
    return {"type": "function", "function": {"name": function["name"]}}


def _response_format(prompt: Prompt) -> Body:
    name = prompt.get("outputName") or re.sub(r"[^A-Za-z0-9_-]", "_", prompt["prompt"])
    schema = {"name": name, "schema": prompt["outputSchema"], "strict": bool(prompt.get("strict"))}
    return {"type": "json_schema", "json_schema": schema}
