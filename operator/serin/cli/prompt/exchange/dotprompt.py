"""dotprompt: a `.prompt` file of YAML front matter and a template of Handlebars. Pure.

Source: github.com/google/dotprompt, python/dotpromptz/src/dotpromptz: parse.py (front matter, roles, history, white
space), typing.py (fields), helpers.py (`{{role "..."}}`, `{{history}}`), picoschema.py. Values are not escaped there.
The text between two markers is the message, with all its white space; only that around the whole template goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from serin.cli.prompt.exchange import chat_fields
from serin.cli.prompt.exchange.form import Draft, Fields, File, Format
from serin.cli.prompt.exchange.front_matter import Parts, normalized, parts, written
from serin.cli.prompt.exchange.properties import picoschema, variables_of
from serin.cli.prompt.exchange.templates import HANDLEBARS, HANDLEBARS_WORDS, check_exported, check_template
from serin.errors import InputError
from serin.kube_types import Object

_DELIMITER = re.compile(r"^---[ \t]*$", re.MULTILINE)
_BEFORE = re.compile(r"(?:(?:#[^\n]*|[ \t]*)\n)*")
# Not after a brace or a backslash: those make other tags of Handlebars.
_MARKER = re.compile(r"""(?<![{\\])\{\{\s*(?:role\s+(?:"([^"]*)"|'([^']*)')|(history))\s*\}\}""")
_INTERNAL = "<<<dotprompt:"
_ROLES = {"model": "assistant", "assistant": "assistant", "user": "user", "system": "system"}
_EXTENSION = "serin.spec"
_NAMES = {"top_p": "topP", "max_tokens": "maxOutputTokens", "stop": "stopSequences", "top_k": "topK"}
_HISTORY_NOTE = (
    "dotprompt puts earlier messages before the last user message; Serin puts the client's messages after the "
    "prompt's, or where {placeholder: history} stands."
)


def decode(file: File) -> Draft:
    """The draft of a prompt.

    Raises:
        InputError: it is no dotprompt file, or says what a PromptVersion cannot.
    """
    cut = _cut(file)
    matter = cut.matter
    draft = Draft(family=matter.take("name", str), version=matter.take("version", str))
    draft.put("description", matter.take("description", str))
    draft.put("model", matter.take("model", str))
    config = matter.below("config")
    chat_fields.take_parameters(config, draft)
    draft.left_out += config.rest()
    _read_input(matter, draft)
    _read_output(matter, draft)
    _read_tools(matter, draft)
    draft.put("messages", _messages(file, cut))
    draft.notes += notes(draft.spec)
    draft.extension = matter.take(_EXTENSION, dict) or {}
    draft.left_out += matter.rest()
    return draft


def _cut(file: File) -> Parts:
    text = normalized(file.text)
    before = _BEFORE.match(text)
    opening = _DELIMITER.match(text, before.end() if before else 0)
    closing = _DELIMITER.search(text, opening.end()) if opening else None
    return parts(file, text, opening and opening.span(), closing and closing.span())


def _read_input(matter: Fields, draft: Draft) -> None:
    given = matter.below("input")
    defaults = given.below("default")
    schema = given.take("schema")
    if schema is not None:
        where = given.path("schema")
        draft.put("variables", variables_of(matter.file, where, picoschema(matter.file, where, schema), defaults))
    draft.left_out += [*defaults.rest(), *given.rest()]


def _read_output(matter: Fields, draft: Draft) -> None:
    output = matter.below("output")
    form, schema = output.take("format", str), output.take("schema")
    if form not in {None, "json", "text"} or (form == "json" and schema is None):
        output.refuse("format", f"{form!a} without a schema cannot be said in a PromptVersion; add output.schema.")
    if schema is not None:
        chat_fields.put_schema(draft, picoschema(matter.file, output.path("schema"), schema))
    draft.left_out += output.rest()


def _read_tools(matter: Fields, draft: Draft) -> None:
    if matter.take("tools", list):
        matter.refuse("tools", "these tools are registered elsewhere; write them out in toolDefs.")
    tools = []
    for number, value in enumerate(matter.take("toolDefs", list) or []):
        tool = Fields(matter.file, f"toolDefs[{number}]", value)
        schema = tool.take("inputSchema", dict, str)
        function = {
            "name": tool.take("name", str),
            "description": tool.take("description", str),
            "parameters": picoschema(matter.file, tool.path("inputSchema"), schema) if schema else None,
        }
        draft.left_out += tool.rest()
        tools.append(
            {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}
        )
    draft.put("tools", tools)


def _messages(file: File, cut: Parts) -> list[Object]:
    messages: list[Object] = []
    for marker, text, line in _pieces(cut):
        role = marker
        if marker == "history":
            messages.append({"placeholder": "history"})
            role = "model"
        if _INTERNAL in text:
            file.refuse(f"line {line}", f"{_INTERNAL!r} is a marker inside of dotprompt; remove it.")
        check_template(text, file, "", HANDLEBARS, HANDLEBARS_WORDS, line=line)
        if not text.strip():
            continue
        if role not in _ROLES:
            file.refuse(f"line {line}", f"a PromptVersion has no role {role!a}; write system, user or model.")
        messages.append({"role": _ROLES[role], "content": text})
    return messages


def _pieces(cut: Parts) -> Iterator[tuple[str, str, int]]:
    """Role or `history`, the text after it, and its line; the first text is a user's."""
    body = cut.body.strip()
    line = cut.line + cut.body[: len(cut.body) - len(cut.body.lstrip())].count("\n")
    marker, begin = "user", 0
    for found in _MARKER.finditer(body):
        text = body[begin : found.start()]
        yield marker, text, line
        line += text.count("\n") + found[0].count("\n")
        marker, begin = found[3] or found[1] or found[2] or "", found.end()
    yield marker, body[begin:], line


def notes(spec: Object) -> list[str]:
    """What is different about the place of the client's messages, if it is not said."""
    messages = spec.get("messages") or [{}]
    said = any("placeholder" in message for message in messages)
    return [] if said or messages[-1].get("role") != "user" else [_HISTORY_NOTE]


def encode(spec: Object, extension: Object) -> str:
    """A dotprompt file.

    Raises:
        InputError: dotprompt would read a message in another way, or has none like it.
    """
    check_exported(spec, "dotprompt", HANDLEBARS, HANDLEBARS_WORDS)
    body = "".join(_text(number, message) for number, message in enumerate(spec["messages"]))
    if body != body.strip():
        raise InputError(
            f"spec.messages[{len(spec['messages']) - 1}].content: dotprompt does not keep white space at the end; "
            "remove it."
        )
    variables = spec.get("variables") or []
    schema = spec.get("outputSchema") if spec.get("structured") else None
    given = {
        "schema": dict(map(_input, variables)),
        "default": {each["name"]: each["default"] for each in variables if each.get("default") is not None},
    }
    matter = {
        "name": spec["prompt"],
        "version": spec["version"],
        "description": spec.get("description"),
        "model": spec.get("model"),
        "config": chat_fields.parameters_of(spec, _NAMES),
        "input": {name: value for name, value in given.items() if value},
        "output": {"format": "json", "schema": schema} if schema and isinstance(schema.get("type"), str) else None,
        _EXTENSION: extension,
    }
    return written({name: value for name, value in matter.items() if value}, body)


def _text(number: int, message: Object) -> str:
    if "placeholder" in message:
        return "{{history}}"
    where, content = f"spec.messages[{number}]", message["content"]
    roles = {"system": "system", "user": "user", "assistant": "model"}
    if message["role"] not in roles:
        raise InputError(f"{where}.role: dotprompt has no role {message['role']}; use system.")
    if not content.strip() or "\r" in content or _INTERNAL in content:
        raise InputError(
            f"{where}.content: dotprompt does not keep empty messages, carriage returns or {_INTERNAL!r}; remove them."
        )
    if content.endswith(("{", "\\")):
        raise InputError(
            f"{where}.content: dotprompt reads a brace or backslash at the end with what follows; remove it."
        )
    return f'{{{{role "{roles[message["role"]]}"}}}}{content}'


def _input(variable: Object) -> tuple[str, object]:
    """Key and value of a variable in Picoschema; what it cannot say stands in the extension."""
    name = variable["name"] + ("" if variable.get("required") else "?")
    description = variable.get("description", "")
    if re.search(r"[()\n]", description):
        description = ""
    suffix = f", {description}" if description else ""
    if values := variable.get("enum"):
        return f"{name}(enum{suffix})", values
    return name, f"{variable.get('type') or 'string'}{suffix}"


DOTPROMPT = Format("dotprompt", _EXTENSION, decode, encode, notes)
