"""What a model answered, and whether it is what the prompt promises. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from referencing import Registry

from serin.errors import InputError


def answer_text(body: Mapping[str, Any]) -> str:
    """The text of the first choice, or its tool calls as JSON.

    Raises:
        InputError: the body is no chat completion.
    """
    message = _choice(body).get("message")
    if not isinstance(message, dict):
        raise InputError("The server's answer is no chat completion; check --url.")
    if message.get("tool_calls"):
        return json.dumps(message["tool_calls"], ensure_ascii=False, indent=2)
    content = message.get("content")
    return content if isinstance(content, str) else ""


def summary(body: Mapping[str, Any]) -> str:
    """Tokens and finish reason in one line."""
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return (
        f"{counts.get('prompt_tokens', '?')} prompt tokens, {counts.get('completion_tokens', '?')} answer tokens, "
        f"finish reason {_choice(body).get('finish_reason')}"
    )


def violation(text: str, schema: Mapping[str, Any]) -> str | None:
    """Why an answer does not satisfy the output schema; None if it does. Nothing is fetched for references."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "the answer is not JSON"
    validator = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator(schema, registry=Registry()).validate(value)  # an empty registry cannot fetch
    except ValidationError as invalid:
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in invalid.absolute_path)
        return f"{where.lstrip('.') or 'the answer'}: {invalid.message[:200]}"
    except Exception as error:  # noqa: BLE001 - a reference that cannot be resolved, or a schema that is invalid
        return f"the schema cannot be used ({str(error)[:200]})"
    return None


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
