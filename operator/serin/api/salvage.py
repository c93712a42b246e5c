"""What can be read of a spec that breaks a rule: the rest has its defaults.

A rule may come with an upgrade of Serin after the object was stored. The stable is still scaled and a canary withdrawn
then, which needs few fields. Called by the reconciler; nothing of it becomes a revision.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.nesting import MAX_LEVELS, is_deeper_than

ATTEMPTS = 100
"""Each removes at least one value."""
_REQUIRED: dict[str, Any] = {
    "model": {"name": "unreadable", "source": "file:///unreadable"},
    "routing": {"gateway": {"parentRefs": [{"name": "unreadable"}]}},
}


def salvage_llmdeployment(manifest: Mapping[str, Any]) -> tuple[LLMDeploymentSpec, frozenset[str]]:
    """The spec without the values that break a rule, and the names of the top-level fields that lost one.

    The result never fails to parse; a required field that is lost has a placeholder.
    """
    written = manifest.get("spec")
    fields = written if isinstance(written, Mapping) else {}
    shallow = {name: value for name, value in fields.items() if not is_deeper_than(value, MAX_LEVELS - 1)}
    spec: dict[str, Any] = copy.deepcopy(shallow)
    lost = (fields.keys() - spec.keys()) | (_REQUIRED.keys() - spec.keys())
    for _ in range(ATTEMPTS):
        try:
            return LLMDeploymentSpec.model_validate(_REQUIRED | spec), frozenset(lost)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                lost |= _remove(spec, details["loc"])
    return LLMDeploymentSpec.model_validate(_REQUIRED), frozenset(lost | fields.keys())


def _remove(spec: dict[str, Any], loc: Sequence[int | str]) -> set[str]:
    """Remove the value at `loc`, or the innermost one around it that exists; returns the top-level fields that changed.

    A rule of the whole spec names no field: then only the fields stay that say how many pods serve, and how.
    """
    if not loc or loc[0] not in spec:
        lost = set(spec) - {"model", "replicas", "routing"} if not loc else {str(loc[0])}
        for name in lost:
            spec.pop(name, None)
        return lost
    holder: Any = spec
    for depth, part in enumerate(loc):
        child = holder[part] if _has(holder, part) else None
        if depth == len(loc) - 1 or not isinstance(child, dict | list) or not _has(child, loc[depth + 1]):
            if isinstance(holder, list):  # the others keep their place, and the list is removed if they are invalid too
                spec.pop(str(loc[0]), None)
            else:
                del holder[part]
            break
        holder = child
    return {str(loc[0])}


def _has(holder: Any, part: int | str) -> bool:
    if isinstance(holder, list):
        return isinstance(part, int) and 0 <= part < len(holder)
    return isinstance(holder, dict) and part in holder
