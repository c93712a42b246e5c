"""Finds mistakes in a PromptVersion before it is applied. Pure.

What the API server or the parser refuses is an error; what works, but probably not as meant, is a warning. The rules of
schemas are in `schemas`, those of length in `length`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from serin.api.fields import matches
from serin.api.names import API_VERSION
from serin.api.parse import promptversion_problems
from serin.api.prompt_template import PLACEHOLDER
from serin.cli.prompt.findings import Finding, Level, error, warning
from serin.cli.prompt.registry import KIND, StoredPrompt, name_of
from serin.cli.prompt.render import SYSTEM_ROLES
from serin.cli.prompt.schemas import lint_schema
from serin.cli.prompt.template import SPECIAL_TOKEN, placeholders
from serin.cli.prompt.text import is_hidden
from serin.kube_types import Object

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_is_name = matches(_NAME)


def lint(manifest: Object) -> list[Finding]:
    """Every finding in one manifest, errors first."""
    found = [*_metadata(manifest)]
    problems = promptversion_problems(manifest)
    found += [error(*_split(problem)) for problem in problems]
    spec = manifest.get("spec")
    if not problems and isinstance(spec, dict):
        found += [*_messages(spec), *_variables(spec), *_schemas(spec)]
    return sorted(found, key=lambda finding: finding.level is not Level.ERROR)


def clashes(prompts: Iterable[StoredPrompt]) -> Iterator[tuple[StoredPrompt, Finding]]:
    """A finding for each prompt that has the family and version of an earlier one, and other content."""
    first: dict[str, StoredPrompt] = {}
    for prompt in prompts:
        other = first.setdefault(prompt.reference, prompt)
        if other.content_hash != prompt.content_hash:
            yield (
                prompt,
                error(
                    "spec.version",
                    f"{prompt.reference} has other content than {other.name} ({other.origin}); a version is immutable, "
                    "so give this one a new version.",
                ),
            )


def _metadata(manifest: Object) -> Iterator[Finding]:
    if manifest.get("apiVersion") != API_VERSION or manifest.get("kind") != KIND:
        yield error("kind", f"This is not a PromptVersion of {API_VERSION}; write apiVersion and kind as in the docs.")
    name = name_of(manifest)
    if len(name) > 253 or not _is_name(name):
        yield error(
            "metadata.name",
            "The name is missing or invalid; write lower case letters, digits, '-' and '.', at most 253.",
        )


def _split(problem: str) -> tuple[str, str]:
    where, _, message = problem.partition(": ")
    return (where, message) if message else ("spec", problem)


def _messages(spec: Mapping[str, Any]) -> Iterator[Finding]:
    for number, message in enumerate(spec["messages"]):
        where, content = f"spec.messages[{number}].content", message.get("content")
        if not isinstance(content, str):
            continue
        for text in _not_placeholders(content):
            yield warning(
                where,
                f"{text!r} is no placeholder and stays as it is; write {{{{ name }}}} with letters, digits and '_' if "
                "it is meant as a variable.",
            )
        if message.get("role") in SYSTEM_ROLES and (names := placeholders(content)):
            yield warning(
                where,
                f"A variable in a {message['role']} message ({', '.join(names)}) ends the prefix cache there: every "
                "request computes the rest of the prompt again. Move the variable to a user message, or to the end.",
            )
        if hidden := sorted({character for character in content if is_hidden(character)}):
            yield warning(
                where,
                f"The text has characters that nobody sees ({', '.join(f'U+{ord(c):04X}' for c in hidden[:5])}); "
                "remove them, or the prompt differs from what its reviewers read.",
            )
        if tokens := sorted(set(SPECIAL_TOKEN.findall(content))):
            yield warning(
                where,
                f"{tokens[0]!r} looks like a control token: the tokenizer may end the message there. Remove it.",
            )


def _variables(spec: Mapping[str, Any]) -> Iterator[Finding]:
    used = {name for message in spec["messages"] for name in placeholders(str(message.get("content", "")))}
    for number, variable in enumerate(spec.get("variables") or ()):
        where, name = f"spec.variables[{number}]", variable["name"]
        if name not in used:
            yield warning(where, f"No message uses the variable {name}; remove it, or use it as {{{{ {name} }}}}.")
        if "{{" in (variable.get("default") or ""):
            yield warning(
                f"{where}.default", f"The default of {name} contains '{{{{'; values are never read as templates again."
            )
        if name.isupper() is False and name.lower() != name and name.lower() in used:
            yield warning(where, f"{name} and {name.lower()} are two variables, because case counts; use one spelling.")


def _schemas(spec: Mapping[str, Any]) -> Iterator[Finding]:
    if spec.get("outputSchema") is not None:
        yield from lint_schema(spec["outputSchema"], "spec.outputSchema")
    for number, tool in enumerate(spec.get("tools") or ()):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        where = f"spec.tools[{number}]" + (".function" if "function" in tool else "")
        if isinstance(function, dict) and isinstance(function.get("parameters"), dict):
            yield from lint_schema(function["parameters"], f"{where}.parameters")


def _not_placeholders(content: str) -> list[str]:
    """Texts that begin like a placeholder and are none, shortened; braces of JSON or code in pairs look the same."""
    rest = PLACEHOLDER.sub("", content)
    return list(dict.fromkeys(found[:40] for found in re.findall(r"\{\{[^{}\n]{0,60}\}?\}?", rest)))[:5]
