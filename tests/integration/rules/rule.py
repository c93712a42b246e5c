"""What a rule is, and the values of common rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, Manifest, changed

NAME_OF_OBJECT = "Write the name of a Kubernetes object: lower case letters, digits, '-' and '.'."
DNS_LABEL = "Write a DNS label: lower case letters, digits and '-', at most 63 characters."


@dataclass(frozen=True)
class Rule:
    """One rule at one place."""

    path: str
    message: str
    accepted: tuple[Any, ...]
    refused: tuple[Any, ...]
    base: Manifest = field(default_factory=lambda: LLMDEPLOYMENT)
    parsed: bool = True
    """False where only the API server can check the rule."""


def prompt(
    path: str, message: str, accepted: tuple[Any, ...], refused: tuple[Any, ...], base: Manifest = PROMPTVERSION
) -> Rule:
    return Rule(f"spec.{path}", message, accepted, refused, base=base)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def with_tools(*names: str) -> Manifest:
    return changed(PROMPTVERSION, "spec.tools", [tool(name) for name in names])


def with_variable(**facts: Any) -> Manifest:
    return changed(PROMPTVERSION, "spec.variables", [{"name": "team", **facts}])


def steps(*weights: float) -> list[dict[str, Any]]:
    return [{"weight": weight} for weight in weights]


def container(name: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": name, **fields}]
