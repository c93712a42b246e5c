"""Files of YAML front matter and a body: how they are cut, and how they are written. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serin.cli.prompt.exchange.form import Fields, File
from serin.cli.prompt.text import yaml_text
from serin.errors import InputError
from serin.kube_types import Object


@dataclass(frozen=True)
class Parts:
    """Front matter and body."""

    matter: Fields
    body: str
    line: int
    """Line of the file where the body begins."""


def normalized(text: str) -> str:
    """The text as Python reads a text file: with one kind of line break."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parts(file: File, text: str, opening: tuple[int, int] | None, closing: tuple[int, int] | None) -> Parts:
    """Cut a file.

    Args:
        text: the whole file, normalized.
        opening: begin and end of the first delimiter; None: there is no front matter.
        closing: likewise of the second one.

    Raises:
        InputError: the front matter has no end, or is no map of YAML.
    """
    if opening is None:
        return Parts(Fields(file, "", {}), text, 1)
    if closing is None:
        file.refuse(f"line {_line(text, opening[0])}", "the front matter has no end; add a line with ---.")
    matter = text[opening[1] : closing[0]]
    value = file.yaml(matter, _line(text, opening[1]))
    return Parts(Fields(file, "", value), text[closing[1] :], _line(text, closing[1]))


def written(matter: Object, body: str) -> str:
    """A file of front matter and body."""
    return f"---\n{yaml_text(matter)}---\n{body}"


def check_texts(spec: Object, title: str) -> None:
    """Refuse messages whose outer white space or line breaks the format does not keep.

    Raises:
        InputError: names the message.
    """
    for number, message in enumerate(spec["messages"]):
        content = message.get("content")
        if content is not None and (content != content.strip() or "\r" in content):
            raise InputError(
                f"spec.messages[{number}].content: {title} does not keep white space at the ends of a message, or "
                "carriage returns; remove them."
            )


def _line(text: str, position: int) -> int:
    return 1 + text.count("\n", 0, position)
