"""The layers of the package `serin_model_server`."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from model_server import serin_model_server


def imported(module: Path) -> set[str]:
    """Modules of the package that a module imports, also those that it imports for type checks only."""
    found = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in found if node.level == 1 and node.module}
    return modules | {name.name for node in found if node.level == 1 and not node.module for name in node.names}


def test_modules_have_no_import_circle() -> None:
    modules = list(Path(serin_model_server.__file__).parent.glob("*.py"))
    imports = {module.stem: imported(module) for module in modules}
    assert imports["middleware"] >= {"identity", "outcome", "recorder"}
    assert set(TopologicalSorter(imports).static_order()) == imports.keys()
