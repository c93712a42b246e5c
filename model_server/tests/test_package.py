"""The layers of the package `serin_model_server`."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from model_server import serin_model_server

PACKAGE = Path(serin_model_server.__file__).parent


def imported(module: Path) -> set[str]:
    """Modules of the package that a module imports, also those that it imports for type checks only."""
    found = [
        node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom) and node.level
    ]
    modules: set[str] = set()
    for node in found:
        base = module.relative_to(PACKAGE).parts[: -node.level]
        names = [node.module] if node.module else [name.name for name in node.names]
        for name in names:
            path = [*base, *name.split(".")]
            is_package = (PACKAGE.joinpath(*path)).is_dir()
            # From a package come its modules.
            modules |= {".".join([*path, each.name]) for each in node.names} if is_package else {".".join(path)}
    return modules


def test_modules_have_no_import_circle() -> None:
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    imports = {name: imported(path) for name, path in modules.items()}
    assert imports["middleware"] >= {"identity", "exchange", "recorder", "prompting.stage"}
    assert imports["exchange"] >= {"outcome", "checks.checker"}
    assert imports["prompting.chat"] >= {"prompting.history", "prompting.body"}
    assert imports["checks.checker"] >= {"checks.process", "labels"}
    assert set(TopologicalSorter(imports).static_order()) == imports.keys()
