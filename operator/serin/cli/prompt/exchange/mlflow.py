"""MLflow's prompt registry: the answer of `GET /api/2.0/mlflow/model-versions/get` for a prompt. Pure.

A prompt is a model version whose tags hold text, model configuration and response format. Source:
github.com/mlflow/mlflow, mlflow/prompt/constants.py (names of the tags, form of a variable) and
mlflow/entities/model_registry/prompt_version.py (types, `PromptModelConfig`). A text with Jinja is a template of Jinja.
"""

from __future__ import annotations

import json
from typing import Any

from serin.cli.prompt.exchange import chat_fields
from serin.cli.prompt.exchange.form import Draft, Fields, File, Format
from serin.cli.prompt.exchange.templates import JINJA, JINJA_WORDS, check_exported, check_template
from serin.errors import InputError
from serin.kube_types import Object

_TEXT = "mlflow.prompt.text"
_IS_PROMPT = "mlflow.prompt.is_prompt"
_TYPE = "_mlflow_prompt_type"
_MODEL_CONFIG = "_mlflow_prompt_model_config"
_RESPONSE_FORMAT = "_mlflow_prompt_response_format"
_EXTENSION = "serin"
_NAMES = {"stop": "stop_sequences"}


def decode(file: File) -> Draft:
    """The draft of a prompt.

    Raises:
        InputError: it is no prompt of MLflow, or says what a PromptVersion cannot.
    """
    top = Fields(file, "", file.json())
    version = top.below("model_version") if top.has("model_version") else top
    draft = Draft(family=version.take("name", str))
    tags = Fields(file, version.path("tags"), _tags(version, draft))
    number = version.take("version", str, int)
    draft.version = None if number is None else str(number)
    draft.put("changeNote", version.take("description", str))
    draft.put("messages", _messages(tags, draft))
    if model := _json(tags, _MODEL_CONFIG):
        _read_model(model, draft)
    if schema := _json(tags, _RESPONSE_FORMAT):
        _read_schema(schema, draft)
    if extension := _json(tags, _EXTENSION):
        draft.extension = {name: extension.take(name) for name in extension.names()}
    tags.take(_IS_PROMPT)
    draft.left_out += dict.fromkeys([*tags.rest(), *version.rest(), *top.rest()])
    return draft


def _tags(version: Fields, draft: Draft) -> dict[str, Any]:
    """The tags by name; the REST API writes a list of pairs, the Python client a map."""
    given = version.take("tags", list, dict)
    if given is None:
        version.refuse("tags", "a prompt of MLflow has its text in tags; give the answer of model-versions/get.")
    if isinstance(given, dict):
        return given
    tags: dict[str, Any] = {}
    for number, pair in enumerate(given):
        fields = Fields(version.file, f"{version.path('tags')}[{number}]", pair)
        key = fields.take("key", str)
        if key is None or key in tags:
            fields.refuse("key", f"the key {key!a} is missing or appears twice; correct it.")
        tags[key] = fields.take("value", str)
        draft.left_out += fields.rest()
    return tags


def _json(tags: Fields, name: str) -> Fields | None:
    text = tags.take(name, str)
    return Fields(tags.file, tags.path(name), tags.file.json(text, tags.path(name))) if text else None


def _messages(tags: Fields, draft: Draft) -> list[Object]:
    text, kind = tags.take(_TEXT, str), tags.take(_TYPE, str)
    file, where = tags.file, tags.path(_TEXT)
    if text is None:
        tags.refuse(_TEXT, "the text of the prompt is missing; give the version of a prompt, not of a model.")
    if kind != "chat":
        check_template(text, file, where, JINJA, JINJA_WORDS)
        draft.notes.append(f"A text prompt has no role; it becomes a {file.role} message (--role).")
        return [{"role": file.role, "content": text}]
    found = file.json(text, where)
    if not isinstance(found, list):
        tags.refuse(_TEXT, "a chat prompt is a list of messages; correct it.")
    messages = []
    for number, value in enumerate(found):
        fields = Fields(file, f"{where}[{number}]", value)
        message = {"role": fields.take("role", str), "content": fields.take("content", str)}
        check_template(message["content"] or "", file, fields.path("content"), JINJA, JINJA_WORDS)
        if unknown := fields.rest():
            file.refuse(unknown[0], "a message of a PromptVersion has only role and content; remove it.")
        messages.append(message)
    return messages


def _read_model(model: Fields, draft: Draft) -> None:
    draft.put("model", model.take("model_name", str))
    chat_fields.take_parameters(model, draft)
    chat_fields.take_tools(model, draft)
    draft.left_out += model.rest()


def _read_schema(schema: Fields, draft: Draft) -> None:
    value = {name: schema.take(name) for name in schema.names()}
    if "json_schema" in value:
        chat_fields.take_response_format(Fields(schema.file, "", {"response_format": value}), draft)
    else:
        chat_fields.put_schema(draft, value)


def encode(spec: Object, extension: Object) -> str:
    """The model version that holds the prompt, as the REST API answers it.

    Raises:
        InputError: MLflow would read a message in another way, or has none like it.
    """
    check_exported(spec, "MLflow", JINJA, JINJA_WORDS)
    if any("placeholder" in message for message in spec["messages"]):
        raise InputError("MLflow has no placeholder for the client's messages; export a version without {placeholder}.")
    model = {
        **({"model_name": spec["model"]} if "model" in spec else {}),
        **chat_fields.parameters_of(spec, _NAMES),
        **chat_fields.tools_of(spec),
    }
    tags: dict[str, str] = {
        _IS_PROMPT: "true",
        _TYPE: "chat",
        _TEXT: json.dumps(spec["messages"], ensure_ascii=False),
    }
    for name, value in (
        (_MODEL_CONFIG, model),
        (_RESPONSE_FORMAT, spec["outputSchema"] if spec.get("structured") else None),
        (_EXTENSION, extension),
    ):
        if value:
            tags[name] = json.dumps(value, ensure_ascii=False)
    version = {
        "name": spec["prompt"],
        **({"description": spec["changeNote"]} if "changeNote" in spec else {}),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return json.dumps({"model_version": version}, indent=2, ensure_ascii=False)


MLFLOW = Format("MLflow", f"the tag {_EXTENSION}", decode, encode)
