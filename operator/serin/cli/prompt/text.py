"""The content of a prompt as lines of text, for people and for diffs. Pure.

Defaults are not shown, so a prompt that the API server has stored reads as its file. Control characters and characters
that change the direction of text are shown as escapes, so that a prompt can neither move the cursor of a terminal nor
look like another one.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from serin.cli.prompt.registry import StoredPrompt

FOR_READERS = ("author", "description", "changeNote", "labels")
"""Fields that do not change what the model gets, in the order in which they are shown."""
_IDENTITY = ("prompt", "version")
_MESSAGES = "messages"


def visible(text: str) -> str:
    """The text with escapes for characters that a terminal would not show as one glyph; line breaks and tabs stay."""
    return "".join(f"\\u{{{ord(c):x}}}" if is_hidden(c) else c for c in text)


def is_hidden(character: str) -> bool:
    """Whether a character is a control or format character: not seen, or changes how its neighbours look.

    Joiners are not counted: emoji and several scripts need them.
    """
    return character not in "\n\t\u200c\u200d" and unicodedata.category(character) in {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Zl",
        "Zp",
    }


def described(prompt: StoredPrompt) -> list[str]:
    """A prompt as `serin prompt show` prints it."""
    head = [
        ("prompt", prompt.reference),
        ("name", prompt.name),
        ("from", prompt.origin),
        ("content hash", prompt.content_hash),
        ("used by", ", ".join(prompt.users) or "no LLMDeployment"),
        *((_words(name), _inline(prompt.raw[name])) for name in FOR_READERS if prompt.content.get(name) is not None),
    ]
    return [*(f"{label:<14}{value}" for label, value in head), "", *content_lines(prompt.content)]


def content_lines(spec: Mapping[str, Any]) -> list[str]:
    """The messages, then every other field that changes what the model gets, in alphabetical order."""
    lines = []
    messages = spec.get(_MESSAGES)
    for message in messages if isinstance(messages, list) else ():
        lines += _message_lines(message)
    rest = {name: value for name, value in spec.items() if name not in {*FOR_READERS, *_IDENTITY, _MESSAGES}}
    for name in sorted(rest):
        lines += [f"[{name}]", *_value_lines(rest[name]), ""]
    return lines[:-1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table with aligned columns, as kubectl prints them."""
    cells = [[visible(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def yaml_text(value: object) -> str:
    """The value as YAML, in the order in which it is, with long texts as blocks."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _message_lines(message: Mapping[str, Any]) -> list[str]:
    if "placeholder" in message:
        return [f"[{message['placeholder']}: the client's messages]", ""]
    return [f"[{message['role']}]", *str(message["content"]).split("\n"), ""]


def _value_lines(value: object) -> list[str]:
    return yaml_text(value).splitlines() if isinstance(value, dict | list) else [json.dumps(value, ensure_ascii=False)]


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name)


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    return " ".join(str(value).split())


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as literal blocks, where YAML can, and equal values in full, not as aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as in the base class
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
