"""A prompt as the split document has it: checked, and prepared so that a request costs little.

Strict: a key that is not known, or a value of another form, refuses the document, because a prompt that is understood
by half must not be served. The keys are those of a PromptVersion's spec that its content hash covers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .template import Template, compiled

HISTORY = "history"
SYSTEM_ROLES = frozenset({"system", "developer"})
ROLES = SYSTEM_ROLES | {"user", "assistant"}
MAX_MESSAGES = 64
MAX_VARIABLES = 64
MAX_TOOLS = 128
TYPES = ("string", "number", "boolean")
TOOL_CHOICES = ("auto", "none", "required")
DEFAULT_MAX_LENGTH = 65_536
"""Characters of a value whose variable has no maxLength."""
# The names in the API, and on the wire.
PARAMETERS = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxTokens": "max_tokens",
    "stop": "stop",
    "seed": "seed",
}
EXTRA = frozenset(
    {
        *("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens"),
        *("stop_token_ids", "ignore_eos", "logit_bias", "bad_words", "reasoning_effort", "parallel_tool_calls"),
        *("skip_special_tokens", "include_stop_str_in_output", "thinking_token_budget"),
    }
)
"""Parameters of vLLM that a prompt may set besides, by their names on the wire."""
_KEYS = frozenset(
    {
        *("version", "hash", "messages", "variables", "parameters", "tools", "toolChoice", "outputSchema"),
        *("outputName", "strict", "structured", "clientSystem", "enforce"),
    }
)
_VARIABLE_KEYS = frozenset({"name", "required", "default", "description", "type", "enum", "maxLength"})
_FAMILY = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class PromptInvalid(Exception):  # noqa: N818 - the document is refused because of it
    """The prompt is not used; the message says what is wrong with it, beginning with `its` or `the`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt."""

    role: str
    template: Template


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the messages use or that a client may send."""

    name: str
    required: bool
    default: str
    kind: str
    """One of TYPES."""
    allowed: frozenset[str] | None
    max_length: int


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; values are JSON."""

    name: str
    description: bytes | None
    parameters: bytes | None
    strict: bytes | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A checked prompt."""

    family: str
    version: str
    content_hash: str
    before: tuple[Message, ...]
    """Messages before the client's."""
    after: tuple[Message, ...]
    variables: Mapping[str, Variable]
    parameters: Mapping[str, bytes]
    """JSON by name on the wire (`max_tokens`, `stop`; an endpoint may call it otherwise)."""
    tools: tuple[Tool, ...]
    tool_choice: str | None
    """One of TOOL_CHOICES, or `=NAME` for a function."""
    schema: bytes | None
    """JSON Schema that vLLM enforces; None unless the prompt is `structured`."""
    output_name: str
    strict: bool
    reject_client_system: bool
    enforce: bool

    @property
    def label(self) -> str:
        """Family and version, as the response header names it."""
        return f"{self.family}@{self.version}"


def parse_prompts(value: Any) -> Prompt | None:
    """The prompt of a revision's entry in the split document; None if it has none.

    Raises:
        PromptInvalid: it is not as this module says.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > 1:
        _invalid("its prompts are not an object with at most one family")
    for family, content in value.items():
        if not _FAMILY.fullmatch(family):
            _invalid("the name of a prompt's family is not a label of at most 63 characters")
        return _prompt(family, content)
    return None


def _prompt(family: str, content: Any) -> Prompt:
    if not isinstance(content, dict):
        _invalid("the prompt is not an object")
    _only(content, _KEYS, "the prompt")
    version, content_hash = content.get("version"), content.get("hash")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        _invalid("the prompt's version is not 1 to 64 characters of a semantic version")
    if not isinstance(content_hash, str) or not _HASH.fullmatch(content_hash):
        _invalid("the prompt's hash is not 12 hex digits")
    variables = _variables(content.get("variables"))
    before, after = _messages(content.get("messages"), variables)
    tools = tuple(_tool(each) for each in _list(content, "tools", MAX_TOOLS))
    schema = content.get("outputSchema")
    if schema is not None and not isinstance(schema, dict):
        _invalid("the prompt's outputSchema is not an object")
    structured = _flag(content, "structured")
    if structured and schema is None:
        _invalid("the prompt is structured but has no outputSchema")
    client_system = content.get("clientSystem") or "Merge"
    if client_system not in ("Merge", "Reject"):
        _invalid("the prompt's clientSystem is neither Merge nor Reject")
    name = content.get("outputName") or re.sub(r"[^A-Za-z0-9_-]", "_", family)
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        _invalid("the prompt's outputName is not 1 to 128 letters, digits, '_', '-' or '.'")
    return Prompt(
        family=family,
        version=version,
        content_hash=content_hash,
        before=before,
        after=after,
        variables=variables,
        parameters=_parameters(content.get("parameters")),
        tools=tools,
        tool_choice=_tool_choice(content.get("toolChoice"), tools),
        schema=_json(schema) if structured else None,
        output_name=name,
        strict=_flag(content, "strict"),
        reject_client_system=client_system == "Reject",
        enforce=_flag(content, "enforce"),
    )


def _messages(value: Any, variables: Mapping[str, Variable]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        _invalid(f"the prompt's messages are not a list of 1 to {MAX_MESSAGES}")
    before: list[Message] = []
    after: list[Message] | None = None
    for entry in value:
        if entry == {"placeholder": HISTORY}:
            if after is not None:
                _invalid("the prompt has the placeholder of the history twice")
            after = []
            continue
        if not isinstance(entry, dict) or entry.keys() != {"role", "content"}:
            _invalid("a message of the prompt has other keys than role and content")
        role, text = entry["role"], entry["content"]
        if role not in ROLES or not isinstance(text, str):
            _invalid("a message of the prompt has an unknown role, or a content that is not a text")
        if after is not None and role != "system":
            _invalid("a message after the history has another role than system")
        try:
            message = Message(role, compiled(text))
            text.encode()
        except UnicodeEncodeError:
            _invalid("a message of the prompt has half of a surrogate pair")
        if unknown := set(message.template.names) - variables.keys():
            _invalid(f"the prompt uses the variable {min(unknown)} but does not declare it")
        (before if after is None else after).append(message)
    return tuple(before), tuple(after or ())


def _variables(value: Any) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for entry in _list({"variables": value}, "variables", MAX_VARIABLES):
        if not isinstance(entry, dict):
            _invalid("a variable of the prompt is not an object")
        _only(entry, _VARIABLE_KEYS, "a variable of the prompt")
        name, default, kind = entry.get("name"), entry.get("default"), entry.get("type")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in found:
            _invalid("a variable of the prompt has no name, or one that another has")
        if default is not None and not isinstance(default, str):
            _invalid(f"the default of the variable {name} is not a text")
        kind = "string" if kind is None else str(kind).lower()
        if kind not in TYPES:
            _invalid(f"the type of the variable {name} is none of {', '.join(TYPES)}")
        allowed = entry.get("enum")
        if allowed is not None and not (isinstance(allowed, list) and all(isinstance(each, str) for each in allowed)):
            _invalid(f"the enum of the variable {name} is not a list of texts")
        longest = entry.get("maxLength")
        if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 0):
            _invalid(f"the maxLength of the variable {name} is not a whole number")
        found[name] = Variable(
            name=name,
            required=_flag(entry, "required"),
            default=default or "",
            kind=kind,
            allowed=frozenset(allowed) if allowed else None,
            max_length=DEFAULT_MAX_LENGTH if longest is None else min(longest, DEFAULT_MAX_LENGTH),
        )
    return found


def _parameters(value: Any) -> dict[str, bytes]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        _invalid("the prompt's parameters are not an object")
    _only(value, PARAMETERS.keys() | {"extra"}, "the prompt's parameters")
    extra = value.get("extra") or {}
    if not isinstance(extra, dict):
        _invalid("the prompt's parameters.extra is not an object")
    _only(extra, EXTRA, "the prompt's parameters.extra")
    named = {wire: value[name] for name, wire in PARAMETERS.items() if value.get(name) not in (None, [])}
    return {name: _json(each) for name, each in (named | extra).items() if each is not None}


def _tool(entry: Any) -> Tool:
    if isinstance(entry, dict) and "function" in entry:
        _only(entry, {"type", "function"}, "a tool of the prompt")
        if entry.get("type", "function") != "function":
            _invalid("a tool of the prompt is not a function")
        entry = entry["function"]
    if not isinstance(entry, dict):
        _invalid("a tool of the prompt is not an object")
    _only(entry, {"name", "description", "parameters", "strict"}, "a tool of the prompt")
    name = entry.get("name")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        _invalid("a tool of the prompt has no name of 1 to 128 letters, digits, '_', '-' or '.'")
    if not isinstance(entry.get("parameters", {}) or {}, dict):
        _invalid(f"the parameters of the tool {name} are not an object")
    values = {
        key: None if entry.get(key) is None else _json(entry[key]) for key in ("description", "parameters", "strict")
    }
    return Tool(name, values["description"], values["parameters"], values["strict"])


def _tool_choice(value: Any, tools: tuple[Tool, ...]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.lower() in TOOL_CHOICES:
        return value.lower()
    function = value.get("function", value) if isinstance(value, dict) else {"name": value}
    name = function.get("name") if isinstance(function, dict) else None
    if name not in [tool.name for tool in tools]:
        _invalid("the prompt's toolChoice is none of auto, none and required, and names none of its tools")
    return f"={name}"


def _list(content: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = content.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        _invalid(f"the prompt's {name} are not a list of at most {most}")
    return value


def _flag(content: Mapping[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        _invalid(f"the prompt's {name} is neither true nor false")
    return value


def _only(content: Mapping[str, Any], known: Any, what: str) -> None:
    if unknown := content.keys() - known:
        _invalid(f"{what} has the key {ascii(min(unknown))[:40]}, which this pod does not know")


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        _invalid("the prompt has a number or a text that JSON cannot have")


def _invalid(why: str) -> NoReturn:
    raise PromptInvalid(why)
