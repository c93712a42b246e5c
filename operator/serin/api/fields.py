"""Field types that several models share: names of Kubernetes objects, hostnames, images.

Each is a rule with a message, because a bare `pattern` in the schema would show the user a regular expression.
The patterns use the syntax that RE2 (API server) and Python have in common. Used by the API models only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from serin.api.rule import Rule

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"

LABEL_KEY = rf"^({_SUBDOMAIN}/)?{_QUALIFIED}$"
LABEL_VALUE = f"^({_QUALIFIED})?$"


def matches(pattern: str) -> Callable[[str], bool]:
    """Predicate that is true for texts that match the pattern; the pattern contains its anchors."""
    # Python's `$` would also match before a trailing newline, RE2's does not.
    compiled = re.compile(pattern.replace("$", r"\Z"))
    return lambda text: compiled.search(text) is not None


def quoted(text: str) -> str:
    """The text as a raw CEL string literal; the text must not contain an apostrophe."""
    return f"r'{text}'"


def must_match(regex: str, message: str, *, prefix: str = "") -> Rule:
    """Rule: a text that begins with `prefix` matches the pattern."""
    condition = f"!self.startsWith('{prefix}') || " if prefix else ""
    is_match = matches(regex)
    return Rule(
        cel=f"{condition}self.matches({quoted(regex)})",
        message=message,
        holds=lambda text: not text.startswith(prefix) or is_match(text),
    )


def must_not_match(regex: str, message: str) -> Rule:
    """Rule: the text does not match the pattern."""
    is_match = matches(regex)
    return Rule(cel=f"!self.matches({quoted(regex)})", message=message, holds=lambda text: not is_match(text))


Subdomain = Annotated[
    str,
    Field(min_length=1, max_length=253),
    must_match(f"^{_SUBDOMAIN}$", "Write the name of a Kubernetes object: lower case letters, digits, '-' and '.'."),
]
Label = Annotated[
    str,
    Field(min_length=1, max_length=63),
    must_match(f"^{_LABEL}$", "Write a DNS label: lower case letters, digits and '-', at most 63 characters."),
]
SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    must_match("^[-._a-zA-Z0-9]+$", "Write a key of a Secret: letters, digits, '-', '_' and '.'."),
]
Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    must_match(
        rf"^(\*\.)?{_SUBDOMAIN}$",
        "Write a DNS name in lower case, without scheme and port; only its first label may be '*'.",
    ),
]
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    must_match(
        "^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?$",
        "Write a name of letters, digits and . _ - / : that begins and ends with a letter or digit.",
    ),
]
Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    must_match(
        r"^[a-z0-9]([A-Za-z0-9._-]|[:/][A-Za-z0-9])*(@sha256:[a-f0-9]{64})?$",
        "Write a container image such as registry.example.com/vllm:v0.32.0, without a scheme or spaces.",
    ),
]


def _int_or_text(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("Write a whole number or a string such as 500m.")  # noqa: TRY004 pydantic collects ValueErrors
    return value


IntOrString = Annotated[
    int | str,
    PlainValidator(_int_or_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32}),
]
