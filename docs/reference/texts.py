"""Helpers of the reference pages: Markdown tables, code, and docstrings of assignments. Called by the page modules."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def code(value: object) -> str:
    """A value as Markdown code, in the form of YAML; empty for an empty value."""
    if value is None or value in ("", {}, []):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def docstrings(source: str) -> dict[str, str]:
    """The docstrings below the assignments in a source text, by the assigned name."""
    found = {}
    for scope in ast.walk(ast.parse(source)):
        body = scope.body if isinstance(scope, ast.Module | ast.ClassDef) else []
        for statement, below in itertools.pairwise(body):
            name = _assigned(statement)
            if name and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[name] = " ".join(str(below.value.value).split())
    return found


def _assigned(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None
