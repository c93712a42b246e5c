"""The top level of a JSON body as undecoded values, checked against an endpoint's allow-list, and written again.

Values are not looked into here; vLLM checks them. A key that comes twice counts once, the last one, as for vLLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from .fields import TEMPLATE_ARGUMENTS, Endpoint
from .refusal import Refusal, quoted

Json = bytes | memoryview
"""A JSON value. A long one is a view of the body, so that it is copied only once, into the new body."""
Fields = dict[str, Json]
"""JSON values by name."""
_LONG = 4096
_CHECKED_BYTES = 64 << 10
CONTROLS = frozenset({"prompt", "prompt_variables", "prompt_id", "prompt_version", "prompt_label"})
"""Fields for Serin; vLLM never sees them. `prompt` belongs to the Responses API."""
_BOM = b"\xef\xbb\xbf"
_MAX_TEXT = 64
T = TypeVar("T")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)


def parse(body: bytes) -> Fields:
    """The fields of a body.

    Raises:
        Refusal: it is not one JSON object in UTF-8.
    """
    # The parser skips texts without a look at their encoding. vLLM checks it, too, but answers in no API's shape; to
    # check a long body here as well would cost more than the rest.
    if len(body) <= _CHECKED_BYTES:
        _check_encoding(body)
    return {name: _view(value) for name, value in _decode(_object, body.removeprefix(_BOM), "The body").items()}


def _check_encoding(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"The body is not JSON in UTF-8: {error.reason}. Correct it.", code="invalid_json") from None


def members(value: Json, what: str) -> Fields:
    """The values of a JSON object by key.

    Raises:
        Refusal: it is not an object.
    """
    return {name: _view(each) for name, each in _decode(_object, value, what).items()}


def elements(value: Json, what: str) -> list[Json]:
    """The elements of a JSON array.

    Raises:
        Refusal: it is not an array.
    """
    return [_view(each) for each in _decode(_array, value, what)]


def text_of(value: Json, what: str) -> str:
    """The text of a JSON string.

    Raises:
        Refusal: it is not a string.
    """
    return _decode(_text, value, what)


def decode(decoder: msgspec.json.Decoder[T], value: Json, what: str) -> T:
    """The value of a decoder.

    Raises:
        Refusal: the JSON is not what the decoder expects.
    """
    return _decode(decoder, value, what)


def dump(fields: Fields, conversation: str, items: Sequence[Json]) -> bytes:
    """The body with these fields, and with these elements in the array `conversation`; all names are known ones."""
    parts: list[Json] = [b'{"%s":[' % conversation.encode()]
    for number, item in enumerate(items):
        parts += (b",", item) if number else (item,)
    parts.append(b"]")
    for name, value in fields.items():
        parts += (b',"%s":' % name.encode(), value)
    parts.append(b"}")
    return b"".join(parts)


def array(items: Sequence[Json]) -> bytes:
    """A JSON array."""
    return b"[" + b",".join(items) + b"]"


def _view(value: msgspec.Raw) -> Json:
    view = memoryview(value)
    return view if len(view) > _LONG else bytes(view)


def keep_allowed(fields: Fields, endpoint: Endpoint) -> None:
    """Remove what is not used, in place; afterwards all names are known.

    Raises:
        Refusal: a field is not known to be safe.
    """
    for name in [name for name in fields if name not in endpoint.allowed]:
        if name in CONTROLS:
            continue
        if not endpoint.unused(name, fields[name]):
            raise Refusal(
                f"The field {quoted(name)} is not accepted while a prompt is in force, because it is not known to "
                "leave the prompt as it is. Remove it from the request.",
                code="field_not_accepted",
                param=name if len(name) <= _MAX_TEXT and name.isascii() else None,
            )
        del fields[name]
    arguments = fields.get("chat_template_kwargs")
    if arguments is not None and arguments != b"null":
        _check_arguments(arguments)


def _check_arguments(value: Json) -> None:
    for name, each in members(value, "The field chat_template_kwargs").items():
        if name not in TEMPLATE_ARGUMENTS or each[:1] in (b"{", b"[") or len(each) > _MAX_TEXT:
            raise Refusal(
                f"The key {quoted(name)} of chat_template_kwargs, or its value, is not accepted while a prompt is in "
                f"force. Accepted are numbers, booleans and short texts for {', '.join(sorted(TEMPLATE_ARGUMENTS))}.",
                code="field_not_accepted",
                param="chat_template_kwargs",
            )


def _decode(decoder: msgspec.json.Decoder[T], value: Json, what: str) -> T:
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        raise Refusal(
            f"{what} has another form than this endpoint accepts: {str(error)[:150]}. Correct it.", code="invalid_body"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{what} is not JSON in UTF-8: {str(error)[:150]}. Correct it.", code="invalid_json") from None
    except RecursionError:
        raise Refusal(f"{what} is nested too deeply. Send flatter JSON.", code="invalid_json") from None
