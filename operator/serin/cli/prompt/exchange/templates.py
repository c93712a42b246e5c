"""Placeholders of other template languages, as far as they are those of Serin: `{{ name }}`. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from serin.api.prompt_template import PLACEHOLDER
from serin.cli.prompt.exchange.form import File
from serin.errors import InputError
from serin.kube_types import Object

MUSTACHE = ("{{",)
JINJA = ("{{", "{%", "{#")
HANDLEBARS = ("{{", r"\{{")
JINJA_WORDS = frozenset(
    {"true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else", "elif"}
)
"""What looks like a variable in Jinja, and is none."""
HANDLEBARS_WORDS = frozenset(
    {"else", "this", "true", "false", "null", "undefined", "role", "history", "section", "media", "json", "log"}
)
"""Likewise in Handlebars, with the helpers of dotprompt."""


def check_template(
    text: str, file: File, where: str, markers: Collection[str], words: Collection[str] = (), *, line: int | None = None
) -> None:
    """Refuse what is more than plain placeholders.

    Args:
        where: place of the text, if it has no line.
        line: line of the file where the text begins.

    Raises:
        InputError: names the place and the template's text.
    """
    found = _logic(text, markers, words)
    if found is None:
        return
    begin, reason = found
    place = where if line is None else f"line {line + text.count(chr(10), 0, begin)}"
    file.refuse(
        place,
        f"{_snippet(text, begin)} {reason}. Templates of Serin know only plain variables such as {{{{ name }}}}; "
        "write it out, or let the client make the text.",
    )


def check_exported(spec: Object, title: str, markers: Collection[str], words: Collection[str] = ()) -> None:
    """Refuse messages whose plain text another template language would read as a template.

    Raises:
        InputError: names the message and the text.
    """
    for number, message in enumerate(spec["messages"]):
        content = message.get("content", "")
        if found := _logic(content, markers, words):
            raise InputError(
                f"spec.messages[{number}].content: {_snippet(content, found[0])} is plain text here, but a template in "
                f"{title}; write it in another way."
            )


def _logic(text: str, markers: Collection[str], words: Collection[str]) -> tuple[int, str] | None:
    """Where a template is more than plain placeholders, and why."""
    opening, position = re.compile("|".join(map(re.escape, sorted(markers, key=len, reverse=True)))), 0
    while found := opening.search(text, position):
        begin = found.start()
        plain = PLACEHOLDER.match(text, begin)
        if plain is None:
            closing = {"{%": "%}", "{#": "#}"}.get(found[0], "}}")
            closed = text.find(closing, begin) >= 0
            return begin, "is more than a plain variable" if closed else "is not closed"
        if plain[1] in words:
            return begin, "is a word of the template language"
        position = plain.end()
    return None


def _snippet(text: str, begin: int) -> str:
    return repr(text[begin:].split("\n", 1)[0][:40])
