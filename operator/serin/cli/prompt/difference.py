"""What changes for models and clients between two versions of a prompt. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from serin.cli.prompt.registry import StoredPrompt
from serin.cli.prompt.text import content_lines, visible

Variable = Mapping[str, Any]


def difference(old: StoredPrompt, new: StoredPrompt) -> list[str]:
    """The lines that `serin prompt diff` prints: what it means, then a unified diff of the content."""
    title = f"{old.reference} ({old.content_hash}) -> {new.reference} ({new.content_hash})"
    if old.content_hash == new.content_hash:
        return [title, "Both have the same content, so they are one revision: no canary starts, and answers stay."]
    lines = difflib.unified_diff(
        [visible(line) for line in content_lines(old.content)],
        [visible(line) for line in content_lines(new.content)],
        old.reference,
        new.reference,
        lineterm="",
    )
    return [title, *consequences(old.content, new.content), "", *lines]


def consequences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One sentence for each change that a client or a rollout notices."""
    found = list(_variables(_by_name(old), _by_name(new)))
    if old.get("tools") != new.get("tools"):
        found.append(
            "The tools differ: set routing.sticky, or one conversation can meet both sets of tools during the canary."
        )
    if old.get("outputSchema") != new.get("outputSchema"):
        found.append("The output schema differs: clients that parse answers must accept both during the canary.")
    if new.get("clientSystem") == "Reject" != old.get("clientSystem"):
        found.append("Requests with a system message of their own now get 400 (clientSystem: Reject).")
    if not old.get("enforce") and new.get("enforce"):
        found.append("Parameters of the prompt now override those of the client (enforce: true).")
    return found


def _variables(old: Mapping[str, Variable], new: Mapping[str, Variable]) -> Iterator[str]:
    for name, variable in new.items():
        before = old.get(name)
        if variable.get("required") and not (before or {}).get("required"):
            yield f"Variable {name} is now required: requests without it get 400."
        if before is not None and before.get("type", "string") != variable.get("type", "string"):
            yield f"Variable {name} is now a {variable.get('type', 'string')}: requests with another type get 400."
        if before is not None and _fewer(variable.get("enum"), before.get("enum")):
            yield f"Variable {name} allows fewer values: requests with another value get 400."
        if before is not None and _shorter(variable.get("maxLength"), before.get("maxLength")):
            yield f"Variable {name} is now at most {variable['maxLength']} characters long: longer values get 400."
    for name in sorted(old.keys() - new.keys()):
        yield f"Variable {name} is gone: values that clients send for it are ignored."


def _fewer(now: list[str] | None, before: list[str] | None) -> bool:
    return bool(now) and (not before or not set(before) <= set(now or ()))


def _shorter(now: int | None, before: int | None) -> bool:
    return now is not None and (before is None or now < before)


def _by_name(spec: Mapping[str, Any]) -> dict[str, Variable]:
    return {variable["name"]: variable for variable in spec.get("variables") or ()}
