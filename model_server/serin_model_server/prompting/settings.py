"""Parameters, tools and the output schema of a prompt, put into a body as its endpoint has them.

They are defaults: what the client sets wins, unless the prompt says `enforce`. `null` counts as not set.
"""

from __future__ import annotations

import msgspec

from .body import Fields, Json, members
from .fields import Endpoint, Place
from .prompt import Prompt
from .refusal import rejected


def given(fields: Fields, place: Place) -> Json | None:
    """The JSON value at a place; None if it is missing or null."""
    value = fields.get(place[0])
    if value is None or value == b"null":
        return None
    if len(place) == 1:
        return value
    inner = members(value, f"The field {place[0]}").get(place[1])
    return None if inner is None or inner == b"null" else inner


def put(fields: Fields, place: Place, value: Json) -> None:
    """Set the value at a place; other keys of the field's object stay."""
    if len(place) == 1:
        fields[place[0]] = value
        return
    outer = given(fields, place[:1])
    inner = members(outer, f"The field {place[0]}") if outer is not None else {}
    inner[place[1]] = value
    fields[place[0]] = _object(inner)


def remove(fields: Fields, place: Place) -> None:
    """Remove the value at a place."""
    if len(place) == 1:
        fields.pop(place[0], None)
    elif given(fields, place) is not None:
        inner = members(fields[place[0]], f"The field {place[0]}")
        del inner[place[1]]
        fields[place[0]] = _object(inner)


def apply_default(fields: Fields, prompt: Prompt, value: bytes, place: Place, *others: Place) -> bool:
    """Set a value of the prompt, unless the client's wins; whether it was set.

    Args:
        fields: the body's fields, changed in place.
        prompt: it says whether its values are enforced.
        value: JSON.
        place: where the endpoint has it.
        others: other places where the client may have set it.
    """
    if prompt.enforce:
        for other in others:
            remove(fields, other)
    elif any(given(fields, each) is not None for each in (place, *others)):
        return False
    put(fields, place, value)
    return True


def apply_parameters(fields: Fields, prompt: Prompt, endpoint: Endpoint) -> None:
    """Set the prompt's parameters.

    Raises:
        Refusal: one is enforced that this endpoint does not have.
    """
    for name, value in prompt.parameters.items():
        place = endpoint.place(name, value)
        if place is not None:
            apply_default(fields, prompt, value, place, *endpoint.aliases.get(name, ()))
        elif prompt.enforce:
            raise rejected(
                f"The prompt enforces the parameter {name}, which this endpoint does not have. Use another endpoint.",
                code="parameter_not_supported",
                param=name,
            )


def apply_tools(fields: Fields, prompt: Prompt, tools: bytes, choice: bytes | None) -> None:
    """Set the prompt's tools and its choice among them; `tools` and `choice` are in the endpoint's form.

    The choice belongs to the prompt's tools, so it is not set if the client's tools win.
    """
    if prompt.tools and not apply_default(fields, prompt, tools, ("tools",)):
        return
    if choice is not None:
        apply_default(fields, prompt, choice, ("tool_choice",))


def _object(inner: Fields) -> bytes:
    # The keys are a client's, so they are encoded, unlike those of a body, which are all known.
    return b"{" + b",".join(b"%s:%s" % (msgspec.json.encode(name), value) for name, value in inner.items()) + b"}"
