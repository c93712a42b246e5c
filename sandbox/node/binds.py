"""Directories of this machine that the node sees below /opt: which may be bound, and how they are mounted.

Callers: `full_tier`, and the verb `up`, which checks before it builds. Not here: remembering them (`record`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.node import namespaces
from sandbox.node.namespaces import Init


def check(source: Path, target: str) -> None:
    """Refuse a source that is no directory, and a target that is not below /opt: the node owns only that folder."""
    if not source.is_dir():
        raise SandboxError(
            f"{source} cannot be bound to {target} because it is not a directory on this machine. Create it first."
        )
    parts = Path(target).parts
    if parts[:2] != ("/", "opt") or len(parts) < 3 or ".." in parts:
        raise SandboxError(
            f"Nothing can be bound to {target} because the node has its own files only below /opt. "
            "Use a path such as /opt/serin/models."
        )


def refuse_hiding(target: str, bound: Sequence[str]) -> None:
    """Refuse a target that would hide directories bound below it."""
    below = sorted(each for each in bound if each != target and Path(each).is_relative_to(target))
    if below:
        raise SandboxError(
            f"Binding {target} would hide {', '.join(below)}, bound below it before. Bind beside it, "
            "or run `make down` and bind the outer directory first."
        )


def mount(init: Init, bound: MutableMapping[str, str], wanted: Mapping[str, str]) -> None:
    """Mount each wanted source at its target, and add it to `bound`; what is mounted already stays."""
    mounted = namespaces.mount_points(init)
    # Sorted, so that a directory inside another is bound after it and not hidden by it.
    for target, source in sorted(wanted.items()):
        check(Path(source), target)
        if target in mounted and bound.get(target) == source:
            continue
        refuse_hiding(target, [each for each in mounted if each in bound])
        if target in mounted:
            namespaces.run(init, ["umount", "--lazy", target])
        namespaces.run(init, ["mkdir", "-p", target])
        namespaces.run(init, ["mount", "--bind", source, target])
        bound[target] = source
