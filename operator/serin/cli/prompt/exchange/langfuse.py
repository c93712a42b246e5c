"""Langfuse: the answer of `GET /api/public/v2/prompts/NAME`, and the body of `POST /api/public/v2/prompts`. Pure.

Sources: github.com/langfuse/langfuse, packages/shared/src/features/prompts/types.ts (fields of both),
parsePromptDependencyTags.ts (references to other prompts) and constants.ts (length of a commit message); and
github.com/langfuse/langfuse-python, langfuse/model.py (placeholders; a text in braces is a variable whatever it is).
`config` is free; its names here are those of chat completions, which Langfuse's own examples use.
"""

from __future__ import annotations

import json
from typing import Any

from serin.cli.prompt.exchange import chat_fields
from serin.cli.prompt.exchange.form import Draft, Fields, File, Format
from serin.cli.prompt.exchange.templates import MUSTACHE, check_exported, check_template
from serin.errors import InputError
from serin.kube_types import Object

_REFERENCE = "@@@langfusePrompt:"
_MAX_COMMIT_MESSAGE = 500
_EXTENSION = "serin"
_MESSAGE_TYPES = {None, "message", "chatmessage"}


def decode(file: File) -> Draft:
    """The draft of a prompt.

    Raises:
        InputError: it is no prompt of Langfuse, or says what a PromptVersion cannot.
    """
    top = Fields(file, "", file.json())
    draft = Draft(family=top.take("name", str))
    number = top.take("version", int)
    draft.version = None if number is None else str(number)
    draft.put("messages", _messages(file, top, draft))
    draft.put("changeNote", top.take("commitMessage", str))
    config = top.take("config")
    if isinstance(config, dict):
        _read_config(top.below("config"), draft)
    elif config not in (None, [], ""):
        draft.left_out.append("config")
    for name in ("labels", "tags"):
        if values := top.take(name, list):
            draft.left_out.append(f"{name} ({', '.join(map(str, values))[:200]})")
    draft.left_out += top.rest()
    return draft


def _messages(file: File, top: Fields, draft: Draft) -> list[Object]:
    prompt, kind = top.take("prompt", str, list), top.take("type", str)
    if prompt is None:
        top.refuse("prompt", "this is no prompt of Langfuse; give the answer of GET /api/public/v2/prompts/NAME.")
    if kind not in {None, "text", "chat"} or (kind is not None and (kind == "text") != isinstance(prompt, str)):
        top.refuse("type", f"{kind!a} does not fit the prompt; write text for a text, and chat for a list.")
    if isinstance(prompt, str):
        _check(file, prompt, "prompt")
        draft.notes.append(f"A text prompt has no role; it becomes a {file.role} message (--role).")
        return [{"role": file.role, "content": prompt}]
    return [_message(Fields(file, f"prompt[{number}]", value), draft) for number, value in enumerate(prompt)]


def _message(fields: Fields, draft: Draft) -> Object:
    kind = fields.take("type", str)
    if kind == "placeholder":
        name = fields.take("name", str)
        if name != "history":
            draft.notes.append(f"The placeholder {name!a} becomes the place of the client's messages.")
        message: Object = {"placeholder": "history"}
    elif kind in _MESSAGE_TYPES:
        message = {"role": fields.take("role", str), "content": fields.take("content", str)}
        _check(fields.file, message["content"] or "", fields.path("content"))
    else:
        fields.refuse("type", f"{kind!a} is no message of text; remove it.")
    if unknown := fields.rest():
        fields.file.refuse(unknown[0], "a message of a PromptVersion has only role and content; remove it.")
    return message


def _check(file: File, text: str, where: str) -> None:
    if _REFERENCE in text:
        file.refuse(where, "this includes another prompt; fetch it without ?resolve=false, so that its text is put in.")
    check_template(text, file, where, MUSTACHE)


def _read_config(config: Fields, draft: Draft) -> None:
    draft.extension = config.take(_EXTENSION, dict) or {}
    draft.put("model", config.take("model", str))
    chat_fields.take_parameters(config, draft)
    chat_fields.take_tools(config, draft)
    chat_fields.take_response_format(config, draft)
    draft.left_out += config.rest()


def encode(spec: Object, extension: Object) -> str:
    """The body that creates the prompt in Langfuse.

    Raises:
        InputError: Langfuse would read a message in another way.
    """
    check_exported(spec, "Langfuse", MUSTACHE)
    for number, message in enumerate(spec["messages"]):
        if _REFERENCE in message.get("content", ""):
            raise InputError(
                f"spec.messages[{number}].content: {_REFERENCE!r} is plain text here, but includes another prompt in "
                "Langfuse; write it in another way."
            )
    config: dict[str, Any] = {
        **({"model": spec["model"]} if "model" in spec else {}),
        **chat_fields.parameters_of(spec, {}),
        **chat_fields.tools_of(spec),
        **chat_fields.response_format_of(spec),
        **({_EXTENSION: extension} if extension else {}),
    }
    note = spec.get("changeNote")
    body = {
        "type": "chat",
        "name": spec["prompt"],
        "prompt": [
            {"type": "placeholder", "name": "history"} if "placeholder" in message else message
            for message in spec["messages"]
        ],
        "config": config,
        "labels": [],
        "tags": [],
        **({"commitMessage": note} if note and len(note) <= _MAX_COMMIT_MESSAGE else {}),
    }
    return json.dumps(body, indent=2, ensure_ascii=False)


LANGFUSE = Format("Langfuse", f"config.{_EXTENSION}", decode, encode)
