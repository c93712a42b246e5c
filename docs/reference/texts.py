"""What the reference pages are written with: tables, code, and the docstrings that stand under assignments.

Called by the page modules beside it. Deliberately not here: anything that knows what a page is about.
"""

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
    """A value as code, as it would stand in YAML; nothing for nothing."""
    if value is None or value in ("", {}, []):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def docstrings(source: str) -> dict[str, str]:
    """The strings that stand under the assignments of a source text, by the name that is assigned to."""
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
