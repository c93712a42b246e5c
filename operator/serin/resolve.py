"""Resolves a spec to its revision: an existing record, or a new one. Pure.

Called by the reconciler before it decides. An existing record is used unchanged, even if the operator's defaults have
changed since, so an upgrade of the operator restarts no pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.content_hash import content_hash
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.parse import parse_promptversion
from serin.errors import SpecError
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.pod_template import render_pod_template
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Resolved
from serin.rollout.revision import engine_revision, revision


@dataclass(frozen=True)
class Target:
    """The revision of a spec, or the reason why there is none."""

    record: Record | None
    reason: Reason = Reason.ACCEPTED
    message: str | None = None


@dataclass(frozen=True)
class _Prompt:
    name: str
    content_hash: str
    content: Mapping[str, Any]


def resolve(
    owner_name: str,
    spec: LLMDeploymentSpec,
    prompt: Mapping[str, Any] | None,
    records: tuple[Record, ...],
    defaults: EngineDefaults,
) -> Target:
    """The revision of a spec.

    Args:
        owner_name: name of the LLMDeployment.
        spec: the spec of the LLMDeployment.
        prompt: the PromptVersion that `spec.prompt` names, as stored; None if it does not exist.
        records: all records of the LLMDeployment.
        defaults: the operator's defaults, used only for an engine revision without a record.
    """
    try:
        engine = engine_revision(spec)
        if spec.prompt is None:
            return Target(_record(owner_name, spec, engine, prompt=None, records=records, defaults=defaults))
        if prompt is None:
            return _from_recorded_copy(spec.prompt.name, engine, records)
        copied = _copy_of(spec.prompt.name, prompt)
        return Target(_record(owner_name, spec, engine, prompt=copied, records=records, defaults=defaults))
    except SpecError as error:
        return Target(None, Reason.INVALID_SPEC, str(error))


def _copy_of(name: str, prompt: Mapping[str, Any]) -> _Prompt:
    try:
        content = parse_promptversion(prompt)
        return _Prompt(name, content_hash(content), prompt["spec"])
    except SpecError as error:
        raise SpecError(f"PromptVersion {name}: {error}") from error


def _from_recorded_copy(name: str, engine: str, records: tuple[Record, ...]) -> Target:
    """The revision if the PromptVersion does not exist: one with a recorded copy and these pods, if there is one."""
    copies = [r for r in records if r.resolved.prompt_name == name]
    # Of several copies with one name: the one on trial, else the one promoted last, else the newest.
    candidates = [r for r in copies if r.engine_revision == engine]
    same = max(candidates, key=lambda r: (r.trial is not None, r.promotion or 0, r.number), default=None)
    if same:
        message = (
            f"PromptVersion {name} does not exist any more; revision {same.revision} uses its recorded copy. "
            "Create it again, or change spec.prompt.name."
        )
        return Target(same, Reason.PROMPT_SOURCE_MISSING, message)
    message = f"PromptVersion {name} does not exist in this namespace; create it, or correct spec.prompt.name."
    return Target(None, Reason.PROMPT_NOT_FOUND, message)


def _record(
    owner_name: str,
    spec: LLMDeploymentSpec,
    engine: str,
    *,
    prompt: _Prompt | None,
    records: tuple[Record, ...],
    defaults: EngineDefaults,
) -> Record:
    name = revision(engine, prompt.content_hash if prompt else None)
    known = next((r for r in records if r.revision == name), None)
    if known:
        return known
    same_pods = next((r.resolved for r in records if r.engine_revision == engine), None)
    resolved = Resolved(
        revision=name,
        engine_revision=engine,
        model_name=spec.model.name,
        model_source=spec.model.source,
        image=same_pods.image if same_pods else spec.engine.image or defaults.image,
        pod_template=same_pods.pod_template if same_pods else render_pod_template(owner_name, spec, engine, defaults),
        prompt_name=prompt.name if prompt else None,
        prompt_hash=prompt.content_hash if prompt else None,
        prompt_content=prompt.content if prompt else None,
    )
    return Record(resolved=resolved, number=max((r.number for r in records), default=0) + 1, recorded=False)
