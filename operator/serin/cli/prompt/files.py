"""Reads Kubernetes manifests from files and folders: YAML with several documents, JSON, and lists of kubectl.

Everything is bounded, and files are untrusted: YAML aliases, duplicate keys and deep nesting are refused. A folder may
hold anything; only the files in it that contain the word PromptVersion or LLMDeployment are parsed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node

from serin.errors import InputError
from serin.kube_types import Object

MAX_FILE_BYTES = 8 * 2**20
MAX_FILES = 5000
"""Files of one folder, counted with its folders."""
SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
_KINDS = (b"PromptVersion", b"LLMDeployment")


@dataclass(frozen=True)
class Document:
    """A manifest and where it was read."""

    manifest: Object
    origin: str


def is_file_reference(text: str) -> bool:
    """Whether a reference names a file, and not a prompt: it has a folder, the suffix of a manifest, or is `-`."""
    return text == STANDARD_INPUT or "/" in text or text.endswith(SUFFIXES)


def read_documents(path: str) -> list[Document]:
    """All manifests of a file, of a folder with its folders, or of the standard input (`-`).

    Raises:
        InputError: the file cannot be read or parsed, or is too large; or the folder has too many files.
    """
    if path != STANDARD_INPUT and Path(path).is_dir():
        return [document for file in _files(Path(path)) for document in _documents(file, read_bytes(file), sift=True)]
    return list(_documents(path, read_bytes(path), sift=False))


def read_bytes(path: str) -> bytes:
    """The content of a file, or of the standard input.

    Raises:
        InputError: it cannot be read, or has more than MAX_FILE_BYTES.
    """
    try:
        if path == STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct the path.") from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path} has more than {MAX_FILE_BYTES // 2**20} MiB; split it into several files.")
    return content


def text_of(path: str, content: bytes) -> str:
    """The text of a file.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); convert it.") from error


def load_yaml(origin: str, text: str) -> list[Any]:
    """The values of all documents of a YAML text; JSON is YAML, too.

    Raises:
        InputError: it is not YAML, or uses aliases, duplicate keys or keys that are not strings.
    """
    try:
        return list(yaml.load_all(text, Loader=_StrictLoader))
    except yaml.YAMLError as error:
        mark, problem = (
            getattr(error, "problem_mark", None),
            getattr(error, "problem", None) or getattr(error, "reason", None),
        )
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{origin}{line}: {problem or 'not YAML'}; correct it.") from error
    except RecursionError as error:
        raise InputError(f"{origin} is nested too deeply; flatten it.") from error
    except ValueError as error:
        raise InputError(f"{origin} holds a value that YAML cannot carry ({error}); correct it.") from error


def load_json(origin: str, text: str, parse_float: Callable[[str], float] = float) -> Any:
    """The value of a JSON text.

    Raises:
        InputError: it is not JSON, or has duplicate keys.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=parse_float
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}, line {error.lineno}: {error.msg.lower()}; write valid JSON.") from error
    except RecursionError as error:
        raise InputError(f"{origin} is nested too deeply; flatten it.") from error
    except ValueError as error:
        raise InputError(f"{origin}: {error}; correct it.") from error


def _files(folder: Path) -> list[str]:
    found = []
    for count, (parent, folders, names) in enumerate(os.walk(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [str(Path(parent, name)) for name in sorted(names) if name.endswith(SUFFIXES)]
        if count + len(found) > MAX_FILES:
            raise InputError(f"{folder} has more than {MAX_FILES} files; name a smaller folder.")
    return found


def _documents(path: str, content: bytes, *, sift: bool) -> Iterator[Document]:
    if sift and not any(kind in content for kind in _KINDS):
        return
    origin, text = "standard input" if path == STANDARD_INPUT else path, text_of(path, content)
    values = [load_json(origin, text)] if text.lstrip().startswith("{") else load_yaml(origin, text)
    for number, value in enumerate(values, start=1):
        where = f"{origin}#{number}" if len(values) > 1 else origin
        yield from (Document(manifest, where) for manifest in _manifests(value))


def _manifests(value: object) -> Iterator[Object]:
    if not isinstance(value, dict):
        return
    items = value.get("items")
    if str(value.get("kind")).endswith("List") and isinstance(items, list):
        # The items of a list that kubectl prints have their own kind, those of the API server do not.
        kind = {"apiVersion": value.get("apiVersion"), "kind": str(value["kind"]).removesuffix("List")}
        yield from ({**kind, **item} for item in items if isinstance(item, dict))
    else:
        yield value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases (they can expand without bound), duplicate keys and dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the base class
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent):
            mark: Any = event.start_mark
            raise ComposerError(None, None, "aliases are refused, write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key)
            if not isinstance(name, str):
                raise ConstructorError(None, None, "a key is not a string, quote it", key.start_mark)
            if name in seen:
                raise ConstructorError(None, None, f"the key {name} appears twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name} appears twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
