"""What all formats share: the draft of a PromptVersion, and maps whose unread fields are reported. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from serin.api.nesting import MAX_LEVELS, is_deeper_than
from serin.cli.prompt.files import load_json, load_yaml
from serin.errors import InputError
from serin.kube_types import Object

_MAX_LEVELS = MAX_LEVELS + 8
"""Levels of a file; the API's own limit is for the spec in it."""
_KINDS: dict[type, str] = {
    str: "a text",
    dict: "a map",
    list: "a list",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


@dataclass(frozen=True)
class File:
    """A file in the format of another tool.

    Args:
        origin: its name, for messages.
        text: its content.
        role: role of a text that has none.
    """

    origin: str
    text: str
    role: str = "system"

    def json(self, text: str | None = None, where: str = "") -> Any:
        """The JSON value of the file, or of a text in it.

        Raises:
            InputError: it is not JSON, or nested too deeply.
        """
        origin = f"{self.origin}, {where}" if where else self.origin
        return self._bounded(load_json(origin, self.text if text is None else text))

    def yaml(self, text: str, line: int) -> Any:
        """The YAML value of a text that begins at a line of the file; an empty map if there is none.

        Raises:
            InputError: it is not YAML, or nested too deeply.
        """
        documents = load_yaml(self.origin, "\n" * (line - 1) + text)
        if len(documents) > 1:
            self.refuse(f"line {line}", "there is more than one YAML document; give each prompt a file of its own.")
        return self._bounded({} if not documents or documents[0] is None else documents[0])

    def _bounded(self, value: Any) -> Any:
        if is_deeper_than(value, _MAX_LEVELS):
            raise InputError(f"{self.origin} is nested more than {_MAX_LEVELS} levels deep; flatten it.")
        return value

    def refuse(self, where: str, problem: str) -> NoReturn:
        """Raise an InputError that names file, place, problem and advice."""
        raise InputError(f"{self.origin}{where and ', '}{where}: {problem}")


@dataclass
class Draft:
    """What was read: the spec without `prompt` and `version`, and everything that it does not say."""

    spec: Object = field(default_factory=dict)
    family: str | None = None
    version: str | None = None
    extension: Object = field(default_factory=dict)
    """Fields of the spec that `export` wrote, because the format has none for them."""
    left_out: list[str] = field(default_factory=list)
    """Fields of the file that no PromptVersion has."""
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: object) -> None:
        """Set a field of the spec, if there is a value."""
        if value not in (None, [], {}, ""):
            self.spec[name] = value


@dataclass(frozen=True)
class Format:
    """A format of another tool.

    Args:
        title: its name in messages.
        extension: where it can hold fields of the spec that it has no field for.
        decode: reads a file.
        encode: writes a spec, with `prompt` and `version`, and an extension; refuses messages that it cannot say.
        notes: what else a reader of an exported file must know.
    """

    title: str
    extension: str
    decode: Callable[[File], Draft]
    encode: Callable[[Object, Object], str]
    notes: Callable[[Object], list[str]] = lambda _spec: []


class Fields:
    """A map of a file. Fields that nobody takes are left out, and reported."""

    def __init__(self, file: File, where: str, value: object) -> None:
        self.file, self.where = file, where
        if not isinstance(value, dict):
            file.refuse(where, "this is not a map; correct it.")
        self._values: Mapping[str, Any] = value
        self._taken: set[str] = set()

    def take(self, name: str, *kinds: type) -> Any:
        """The value of a field; None if it is missing or null.

        Raises:
            InputError: it has none of the types.
        """
        self._taken.add(name)
        value = self._values.get(name)
        # In Python, true is a number.
        fits = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
        if value is not None and kinds and not fits:
            self.refuse(name, f"this is not {' or '.join(_KINDS[kind] for kind in kinds)}; correct it.")
        return value

    def below(self, name: str) -> Fields:
        """A field that is a map; an empty one if it is missing."""
        return Fields(self.file, self.path(name), self.take(name, dict) or {})

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raise an InputError about a field."""
        self.file.refuse(self.path(name), problem)

    def path(self, name: str) -> str:
        """Where a field is, for messages."""
        return f"{self.where}.{name}" if self.where else name

    def names(self) -> list[str]:
        """The names of all fields."""
        return list(self._values)

    def has(self, name: str) -> bool:
        """Whether a field has a value."""
        return self._values.get(name) is not None

    def forget(self) -> None:
        """Count no field as taken any more."""
        self._taken.clear()

    def rest(self) -> list[str]:
        """Paths of the fields that nobody took, without empty ones."""
        return [
            self.path(name)
            for name, value in self._values.items()
            if name not in self._taken and value not in (None, [], {}, "")
        ]
