"""The values that a request gives to the prompt's variables, and the fields of a body that select a prompt.

`prompt_variables` on every endpoint, `prompt.variables` on the Responses API as OpenAI had it; `prompt_id` and
`prompt.id` must name the prompt that is served. `prompt_version` and `prompt_label` are ignored, because the split
chooses the version. A variable that the prompt does not declare is ignored, so that clients can send what two versions
need.
"""

from __future__ import annotations

from .body import Fields, Json, members, text_of
from .prompt import Prompt, Variable
from .refusal import Refusal, quoted, rejected

_MAX_NUMBER = 64
"""Characters of a number."""


def take(fields: Fields, prompt: Prompt, *, lenient: bool = False) -> dict[str, str]:
    """The value of every declared variable; removes the fields for Serin from the body.

    Args:
        fields: the body's fields, changed in place.
        prompt: the prompt of the request's revision.
        lenient: a missing variable counts as empty.

    Raises:
        Refusal: another prompt is named, or a variable is missing or not as declared.
    """
    sent: Fields = {}
    chosen = _given(fields.pop("prompt", None))
    if chosen is not None:
        inner = members(chosen, "The field prompt")
        _check_family(_given(inner.get("id")), prompt, "prompt.id")
        if (values := _given(inner.get("variables"))) is not None:
            sent |= members(values, "The field prompt.variables")
    _check_family(_given(fields.pop("prompt_id", None)), prompt, "prompt_id")
    for ignored in ("prompt_version", "prompt_label"):
        fields.pop(ignored, None)
    if (values := _given(fields.pop("prompt_variables", None))) is not None:
        sent |= members(values, "The field prompt_variables")
    return {
        name: _value(variable, _given(sent.get(name)), lenient=lenient) for name, variable in prompt.variables.items()
    }


def _given(value: Json | None) -> Json | None:
    return None if value is None or value == b"null" else value


def _check_family(value: Json | None, prompt: Prompt, param: str) -> None:
    if value is None:
        return
    name = text_of(value, f"The field {param}")
    if name != prompt.family:
        raise Refusal(
            f"The prompt {quoted(name)} is not served here; {quoted(prompt.family)} is. Correct {param}, or remove it.",
            code="prompt_not_found",
            param=param,
        )


def _value(variable: Variable, sent: Json | None, *, lenient: bool) -> str:
    param = f"prompt_variables.{variable.name}"
    if sent is None:
        if variable.required and not lenient:
            raise rejected(
                f"The prompt needs the variable {variable.name}, and the request does not have it. "
                f"Send it in prompt_variables.",
                code="missing_prompt_variable",
                param=param,
            )
        return variable.default
    text = _text(variable, sent, param)
    if len(text) > variable.max_length:
        raise rejected(
            f"The variable {variable.name} has {len(text):,} characters; the prompt accepts {variable.max_length:,}. "
            "Send a shorter value.",
            code="invalid_prompt_variable",
            param=param,
        )
    if variable.allowed is not None and text not in variable.allowed:
        raise rejected(
            f"The variable {variable.name} is {quoted(text)}, which is none of the values that the prompt accepts. "
            "Send one of the values in the prompt's enum.",
            code="invalid_prompt_variable",
            param=param,
        )
    return text


def _text(variable: Variable, sent: Json, param: str) -> str:
    first = bytes(sent[:1])
    if variable.kind == "string" and first == b'"':
        return text_of(sent, f"The variable {variable.name}")
    if variable.kind == "number" and first in b"-0123456789" and len(sent) <= _MAX_NUMBER:
        return bytes(sent).decode("ascii")
    if variable.kind == "boolean" and first in (b"t", b"f"):
        return bytes(sent).decode("ascii")
    raise rejected(
        f"The variable {variable.name} is not a {variable.kind}. Send it in prompt_variables as JSON of that type.",
        code="invalid_prompt_variable",
        param=param,
    )
