"""prompty: a file of YAML front matter and a body with lines such as `system:`. Pure.

Source: github.com/microsoft/prompty, spec/spec.md: 2.2 (front matter), 2.3 to 2.9 (fields), 2.11 (`${env:...}`), 6.2 to
6.4 (roles). Of the first version of the format: `model.configuration`, `model.parameters`, `type` of an input. The body
is a template of Jinja, or of Mustache with the same plain variables.
"""

from __future__ import annotations

import re
from typing import Any

from serin.cli.prompt.exchange import chat_fields, properties
from serin.cli.prompt.exchange.form import Draft, Fields, File, Format
from serin.cli.prompt.exchange.front_matter import Parts, check_texts, normalized, parts, written
from serin.cli.prompt.exchange.templates import JINJA, JINJA_WORDS, check_exported, check_template
from serin.errors import InputError
from serin.kube_types import Object

_DELIMITER = re.compile(r"---|\+\+\+")
_ROLE = re.compile(
    r"[ \t]*(?:#[ \t]*)?(system|user|assistant|developer|tool|function)[ \t]*(\[.*\])?[ \t]*:[ \t]*", re.IGNORECASE
)
_ROLES = frozenset({"system", "user", "assistant", "developer"})
"""The specification lacks `developer`, prompty 2.1 has it (`prompty/core/types.py`)."""
_REFERENCE = re.compile(r"\$\{[A-Za-z]+:")
_EXTENSION = "serin"
_THREAD = "history"
_NAMES = {
    "top_p": "topP",
    "max_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "parallel_tool_calls": "allowMultipleToolCalls",
}
_KINDS = {"string": None, "float": "number", "number": "number", "integer": "number", "boolean": "boolean"}


def decode(file: File) -> Draft:
    """The draft of a prompt.

    Raises:
        InputError: it is no prompty file, or says what a PromptVersion cannot.
    """
    cut = _cut(file)
    matter = cut.matter
    _refuse_references(matter)
    draft = Draft(family=matter.take("name", str))
    draft.put("description", matter.take("description", str))
    _read_metadata(matter, draft)
    _read_template(matter, draft)
    _read_model(matter, draft)
    thread = _read_inputs(matter, draft)
    draft.put("messages", _messages(file, cut, thread))
    draft.put("tools", [_tool(tool, draft) for tool in _maps(matter, "tools")])
    chat_fields.put_schema(draft, properties.schema_of(matter, "outputs", draft))
    draft.left_out += matter.rest()
    return draft


def _cut(file: File) -> Parts:
    text = normalized(file.text)
    start = len(text) - len(text.lstrip())
    opening = _DELIMITER.match(text, start)
    closing = _DELIMITER.search(text, opening.end()) if opening else None
    return parts(file, text, opening and opening.span(), closing and closing.span())


def _refuse_references(matter: Fields) -> None:
    nodes: list[tuple[str, Any]] = [(name, matter.take(name)) for name in matter.names() if name != "model"]
    model = matter.take("model")
    # A connection is left out, and so are its references.
    nodes += [(f"model.{name}", value) for name, value in model.items()] if isinstance(model, dict) else []
    nodes = [(path, value) for path, value in nodes if path not in {"model.connection", "model.configuration"}]
    matter.forget()
    while nodes:
        path, value = nodes.pop()
        if isinstance(value, str) and _REFERENCE.search(value):
            matter.file.refuse(path, "this refers to the environment or to a file, which is not read; write the value.")
        if isinstance(value, dict):
            nodes += [(f"{path}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            nodes += [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]


def _read_metadata(matter: Fields, draft: Draft) -> None:
    for fields in (matter.below("metadata"), matter):
        if authors := fields.take("authors", list):
            draft.put("author", ", ".join(map(str, authors)))
        version = fields.take("version", str, int, float)
        draft.version = draft.version or (None if version is None else str(version))
        if fields is not matter:
            draft.extension = fields.take(_EXTENSION, dict) or {}
            draft.left_out += fields.rest()


def _read_template(matter: Fields, draft: Draft) -> None:
    template = matter.take("template", str, dict)
    if isinstance(template, dict):
        fields = Fields(matter.file, "template", template)
        template, parser = (_kind(fields, name, draft) for name in ("format", "parser"))
        draft.left_out += fields.rest()
        if parser not in {None, "prompty"}:
            fields.refuse("parser", f"{parser!a} is not known; write prompty.")
    if template == "mustache":
        draft.notes.append("Mustache writes &, <, > and quotes of values as HTML; Serin puts values in as they are.")
    elif template not in {None, "jinja2"}:
        matter.refuse("template", f"{template!a} is not known; write jinja2 or mustache.")


def _kind(fields: Fields, name: str, draft: Draft) -> str | None:
    """A field that is a text, or a map with a `kind`."""
    value = fields.take(name, str, dict)
    if isinstance(value, dict):
        inner = Fields(fields.file, fields.path(name), value)
        value = inner.take("kind", str)
        draft.left_out += inner.rest()
    return None if value is None else str(value)


def _read_model(matter: Fields, draft: Draft) -> None:
    model = matter.take("model", str, dict)
    if not isinstance(model, dict):
        draft.put("model", model)
        return
    fields = Fields(matter.file, "model", model)
    draft.put("model", fields.take("id", str))
    for name in ("apiType", "api"):
        if (kind := fields.take(name, str)) not in {None, "chat"}:
            fields.refuse(name, f"{kind!a} is no chat; a PromptVersion is for chats.")
    options = fields.below("options")
    for given in (options, options.below("additionalProperties"), fields.below("parameters")):
        chat_fields.take_parameters(given, draft)
        chat_fields.take_tools(given, draft)
        chat_fields.take_response_format(given, draft)
        draft.left_out += given.rest()
    draft.left_out += fields.rest()


def _read_inputs(matter: Fields, draft: Draft) -> str | None:
    """Read the variables; returns the name of the one that holds the conversation."""
    variables: list[Object] = []
    thread = None
    for name, field in properties.properties(matter, "inputs"):
        kind = properties.kind_of(field)
        if kind == "thread":
            if thread is not None:
                field.refuse("kind", f"{thread!a} is a thread, too; a PromptVersion has one place for messages.")
            thread = name
            continue
        if kind not in _KINDS:
            field.refuse("kind", f"a variable cannot be of the kind {kind!a}; let the client make the text.")
        variable: Object = {
            "name": name,
            "required": field.take("required", bool) or None,
            "default": properties.scalar_text(field, "default"),
            "description": field.take("description", str),
            "type": _KINDS[kind],
            "enum": field.take("enumValues", list) or None,
        }
        if variable["default"] is not None:
            variable["required"] = None
        variables.append({key: value for key, value in variable.items() if value is not None})
        draft.left_out += field.rest()
    draft.put("variables", variables)
    return thread


def _messages(file: File, cut: Parts, thread: str | None) -> list[Object]:
    """The messages of the body: text before the first line with a role is a system message."""
    messages: list[Object] = []
    role, begin, lines = "system", cut.line, list[str]()
    for number, line in enumerate(cut.body.split("\n"), start=cut.line):
        found = _ROLE.fullmatch(line)
        if found is None:
            lines.append(line)
            continue
        messages += _message(file, role, lines, begin, thread)
        role, begin, lines = found[1].lower(), number + 1, []
        if role not in _ROLES or found[2]:
            file.refuse(
                f"line {number}",
                f"{found[0].strip()!a} is no plain role; write system:, developer:, user: or assistant:.",
            )
    return [*messages, *_message(file, role, lines, begin, thread)]


def _message(file: File, role: str, lines: list[str], begin: int, thread: str | None) -> list[Object]:
    """The message of some lines, and the place of the conversation at their end."""
    lines, blank = _trimmed(lines)
    conversation = None if thread is None else re.compile(rf"\{{\{{\s*{re.escape(thread)}\s*\}}\}}")
    history = bool(lines and conversation and conversation.fullmatch(lines[-1].strip()))
    if history:
        lines = _trimmed(lines[:-1])[0]
    text = "\n".join(lines)
    check_template(text, file, "", JINJA, JINJA_WORDS, line=begin + blank)
    if conversation and (inside := conversation.search(text)):
        file.refuse(
            f"line {begin + blank + text.count(chr(10), 0, inside.start())}",
            f"the conversation {thread!a} must stand alone in the last line of a message; move it.",
        )
    said = [{"role": role, "content": text}] if text else []
    return [*said, *([{"placeholder": "history"}] if history else [])]


def _trimmed(lines: list[str]) -> tuple[list[str], int]:
    """The lines without blank ones at the ends, and how many went at the beginning."""
    said = [number for number, line in enumerate(lines) if line.strip()]
    return (lines[said[0] : said[-1] + 1], said[0]) if said else ([], 0)


def _maps(matter: Fields, name: str) -> list[Fields]:
    return [Fields(matter.file, f"{name}[{n}]", value) for n, value in enumerate(matter.take(name, list) or [])]


def _tool(tool: Fields, draft: Draft) -> Object:
    if (kind := tool.take("kind", str)) != "function":
        tool.refuse("kind", f"{kind!a} runs in prompty's own runtime; a PromptVersion has only functions.")
    if tool.take("bindings", dict):
        tool.refuse("bindings", "bound arguments are filled by prompty's own runtime; remove them and the parameters.")
    function = {
        "name": tool.take("name", str),
        "description": tool.take("description", str),
        "parameters": properties.schema_of(tool, "parameters", draft),
        "strict": tool.take("strict", bool),
    }
    draft.left_out += tool.rest()
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def encode(spec: Object, extension: Object) -> str:
    """A prompty file.

    Raises:
        InputError: prompty would read a message in another way, or has none like it.
    """
    check_exported(spec, "prompty", JINJA, JINJA_WORDS)
    check_texts(spec, "prompty")
    variables = spec.get("variables") or []
    body = _body(spec)
    history = any("placeholder" in message for message in spec["messages"])
    if history and any(variable["name"] == _THREAD for variable in variables):
        raise InputError(f"The variable {_THREAD} would stand for the conversation in prompty; rename it.")
    options = chat_fields.parameters_of(spec, _NAMES)
    known = {"temperature", "seed", *_NAMES.values()}
    more = {name: value for name, value in options.items() if name not in known}
    plain = {name: value for name, value in options.items() if name in known}
    metadata = {
        "version": spec["version"],
        **({"authors": [spec["author"]]} if "author" in spec else {}),
        **({_EXTENSION: extension} if extension else {}),
    }
    matter = {
        "name": spec["prompt"],
        **({"description": spec["description"]} if "description" in spec else {}),
        "metadata": metadata,
        "model": {
            **({"id": spec["model"]} if "model" in spec else {}),
            "apiType": "chat",
            "options": {**plain, **({"additionalProperties": more} if more else {})},
        },
        "inputs": [*map(_input, variables), *([{"name": _THREAD, "kind": "thread"}] if history else [])],
        # In full: prompty 2.1 does not read the shorthand of the specification.
        "template": {"format": {"kind": "jinja2"}, "parser": {"kind": "prompty"}},
    }
    text = written({name: value for name, value in matter.items() if value}, body)
    front = text[3 : len(text) - len(body) - 4]
    if _DELIMITER.search(front) or _REFERENCE.search(front):
        raise InputError(
            "Outside of messages, prompty reads '---' and '+++' as the end of the front matter, and '${...:' as a "
            "reference to the environment or to a file; remove them."
        )
    return text


def _body(spec: Object) -> str:
    blocks = []
    for number, message in enumerate(spec["messages"]):
        if "placeholder" in message:
            if number == 0:
                raise InputError("prompty has no conversation before the first message; put a message first.")
            blocks.append(f"{{{{{_THREAD}}}}}\n")
            continue
        where = f"spec.messages[{number}]"
        if line := next((line for line in message["content"].split("\n") if _ROLE.fullmatch(line)), None):
            raise InputError(f"{where}.content: the line {line.strip()!a} begins a message in prompty; change it.")
        if len(message["content"].splitlines()) > message["content"].count("\n") + 1:
            raise InputError(f"{where}.content: prompty reads more characters than \\n as line breaks; remove them.")
        blocks.append(f"{message['role']}:\n{message['content']}\n")
    return "\n".join(blocks)


def _input(variable: Object) -> Object:
    kind = {"number": "float", "boolean": "boolean"}.get(str(variable.get("type")), "string")
    default: Any = variable.get("default")
    if kind == "boolean" and default is not None:
        default = default == "true"
    found = {
        "name": variable["name"],
        "kind": kind,
        "required": variable.get("required"),
        "default": default,
        "description": variable.get("description"),
        "enumValues": variable.get("enum"),
    }
    return {name: value for name, value in found.items() if value is not None}


PROMPTY = Format("prompty", f"metadata.{_EXTENSION}", decode, encode)
