"""Resolves a spec to its revision: an existing record, or a new one. Pure.

Called by the reconciler before it decides. An existing record is used unchanged, even if the operator's defaults have
changed since, so an upgrade of the operator restarts no pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serin.api.content_hash import content_hash
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.parse import parse_promptversion
from serin.errors import SpecError
from serin.manifests.controller_revision import UnreadableRecord
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.pod_template import render_pod_template
from serin.prompt_rules import refuse_blind_comparison, refuse_unjudgeable_schema, refuse_unusable_tools
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Resolved
from serin.rollout.revision import WITH_CONTRACT, WRITTEN, engine_revision, revision


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
        if spec.prompt is not None and prompt is None:
            return _from_recorded_copy(spec, spec.prompt.name, records)
        copied = _copy_of(spec, spec.prompt.name, prompt) if spec.prompt and prompt else None
        schema = _schema(spec, copied, records, defaults)
        target = _record(owner_name, spec, schema, prompt=copied, records=records, defaults=defaults)
        running = _running(records)
        if running and not target.trial:
            refuse_blind_comparison(spec, running, target)
            refuse_unjudgeable_schema(spec, running, target)
        return Target(target, *_recreated(running, copied))
    except SpecError as error:
        return Target(None, Reason.INVALID_SPEC, str(error))


def without_unreadable(target: Target, unreadable: Sequence[UnreadableRecord]) -> Target:
    """The target and what to say about records that cannot be read; no target if its own record is one of them."""
    if not unreadable:
        return target
    own = next((record for record in unreadable if target.record and record.revision == target.record.revision), None)
    if own:
        return Target(None, Reason.RECORD_UNREADABLE, own.why)
    if target.reason is not Reason.ACCEPTED:
        return target
    others = f" {len(unreadable) - 1} more cannot be read either." if len(unreadable) > 1 else ""
    return Target(target.record, Reason.RECORD_UNREADABLE, unreadable[0].why + others)


def _schema(
    spec: LLMDeploymentSpec, prompt: _Prompt | None, records: tuple[Record, ...], defaults: EngineDefaults
) -> int:
    """The hash schema that names the engine of a spec: WITH_CONTRACT makes other pods of the same spec.

    It is needed where a prompt is wanted and the pods that this spec has had so far do not apply prompts. An upgrade of
    the operator alone never changes the answer: a prompt that was recorded for those pods waits for the next change.
    """
    plain, contracted = engine_revision(spec, WRITTEN), engine_revision(spec, WITH_CONTRACT)
    applies = {r.engine_revision: r.resolved.serves_prompts for r in reversed(records)}
    running = _running(records)
    if running and running.engine_revision == contracted:
        return WITH_CONTRACT
    if prompt is None or applies.get(plain):
        return WRITTEN
    if contracted in applies:
        return WITH_CONTRACT
    known = next((r for r in records if r.revision == revision(plain, prompt.content_hash)), None)
    waits = known and (known == running or known.promotion is None or known.trial or known.rejection)
    return WITH_CONTRACT if plain in applies and not waits and defaults.serve_prompts else WRITTEN


def _running(records: tuple[Record, ...]) -> Record | None:
    """The record that was promoted last: the stable."""
    return max((r for r in records if r.promotion is not None), key=lambda r: r.promotion or 0, default=None)


def _recreated(running: Record | None, prompt: _Prompt | None) -> tuple[Reason, str | None]:
    """What to say about a PromptVersion that has other content than the stable recorded under the same name."""
    recorded = running.resolved if running else None
    if not (recorded and prompt and recorded.prompt_name == prompt.name) or recorded.prompt_hash == prompt.content_hash:
        return Reason.ACCEPTED, None
    return Reason.PROMPT_CONTENT_CHANGED, (
        f"PromptVersion {prompt.name} was created again with other content: the stable, revision {recorded.revision}, "
        f"has recorded {recorded.prompt_hash}, and now it is {prompt.content_hash}. Serin tries the new content like "
        "any other prompt; give each content its own name and version."
    )


def _copy_of(spec: LLMDeploymentSpec, name: str, prompt: Mapping[str, Any]) -> _Prompt:
    try:
        content = parse_promptversion(prompt)
        refuse_unusable_tools(spec, content)
        return _Prompt(name, content_hash(content), prompt["spec"])
    except SpecError as error:
        raise SpecError(f"PromptVersion {name}: {error}") from error


def _from_recorded_copy(spec: LLMDeploymentSpec, name: str, records: tuple[Record, ...]) -> Target:
    """The revision if the PromptVersion does not exist: one with a recorded copy and these pods, if there is one."""
    engines = {engine_revision(spec, WRITTEN), engine_revision(spec, WITH_CONTRACT)}
    # Of several copies with one name: the one on trial, else the one promoted last, else the newest.
    candidates = [r for r in records if r.resolved.prompt_name == name and r.engine_revision in engines]
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
    schema: int,
    *,
    prompt: _Prompt | None,
    records: tuple[Record, ...],
    defaults: EngineDefaults,
) -> Record:
    engine = engine_revision(spec, schema)
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
        hash_schema=schema,
    )
    return Record(resolved=resolved, number=max((r.number for r in records), default=0) + 1, recorded=False)
