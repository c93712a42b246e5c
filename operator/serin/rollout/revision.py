"""The two hashes that name things: engine revision (what makes pods differ) and revision (what makes answers differ).

Both are the first 10 hex digits of SHA-256 over canonical JSON (RFC 8785) of what the *user* wrote, defaults left out,
so that neither a new default in the CRD nor a new default image in the operator renames anything that runs. Schema 2
adds the contract of pods that apply prompts: where the pods of a spec were made before there was one, it gives the same
spec another name and so other pods. `serin.resolve` chooses the schema.
Not hashed: `replicas`, `rollout`, `routing`, `analysis`, `engine.cache`, `revisionHistoryLimit`, `paused`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from serin.api.canonical_json import canonical_json

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec

WRITTEN, WITH_CONTRACT = 1, 2
"""Versions of the rules below: what the user wrote, and the same with the contract of the pods."""
HASH_SCHEMA = WITH_CONTRACT
"""The newest version of the rules; a record keeps the one that it was made with."""
_CONTRACT = 1
"""Pods that apply the prompts of their split document."""
_DIGITS = 10


def engine_revision(spec: LLMDeploymentSpec, schema: int = WRITTEN) -> str:
    """The hash that names the pods of a spec.

    Args:
        spec: the spec of the LLMDeployment.
        schema: version of the rules; a spec has one name in each.

    Raises:
        SpecError: the overlay has no canonical JSON.
    """
    return _digest(lambda: _engine_content(spec) | ({"contract": _CONTRACT} if schema == WITH_CONTRACT else {}))


def _engine_content(spec: LLMDeploymentSpec) -> dict[str, Any]:
    engine = spec.engine.model_dump(by_alias=True, exclude_defaults=True, exclude={"cache"})
    if spec.engine.resources:
        engine["resources"] = _as_text(spec.engine.resources.model_dump(exclude_defaults=True))
    content: dict[str, Any] = {"model": spec.model.model_dump(by_alias=True, exclude_defaults=True), "engine": engine}
    overlay = spec.pod_template.model_dump(by_alias=True, exclude_defaults=True) if spec.pod_template else {}
    if overlay := {part: fields for part, fields in overlay.items() if fields}:
        content["podTemplate"] = overlay
    return content


def revision(engine: str, prompt_hash: str | None) -> str:
    """The hash that names the answers: an engine revision with the content of a prompt."""
    return _digest(lambda: {"engineRevision": engine, "prompt": prompt_hash})


def _as_text(resources: dict[str, Any]) -> dict[str, Any]:
    """Quantities as text: `1` and `"1"` are the same quantity and must have the same hash."""
    return {side: {name: str(value) for name, value in values.items()} for side, values in resources.items()}


def _digest(content: Callable[[], dict[str, Any]]) -> str:
    return hashlib.sha256(canonical_json("spec", content)).hexdigest()[:_DIGITS]
