"""Rules between a prompt, the spec that uses it and the stable, which no rule of one object can check. Pure.

Called by `serin.resolve`; a violation becomes the condition Accepted=False, and what runs keeps running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serin.api.analysis import MetricSourceName
from serin.api.check import CheckKind
from serin.api.engine import flag_values
from serin.errors import SpecError

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec
    from serin.api.promptversion import PromptVersionSpec
    from serin.rollout.record import Record

_BY_ENGINE = frozenset({MetricSourceName.ENGINE, MetricSourceName.GATEWAY})


def refuse_unusable_tools(spec: LLMDeploymentSpec, prompt: PromptVersionSpec) -> None:
    """Check that vLLM can call the tools of a prompt; without a parser it answers every request with 400.

    Raises:
        SpecError: it cannot.
    """
    chooses = "true" in flag_values(spec.engine.args, "enable-auto-tool-choice")
    parses = any(value not in {"", "true", "false"} for value in flag_values(spec.engine.args, "tool-call-parser"))
    if prompt.tools and not (chooses and parses):
        raise SpecError(
            "it has tools, and vLLM refuses every request with tools while it has no parser for them; set "
            'enable-auto-tool-choice: "true" and tool-call-parser in spec.engine.args of the LLMDeployment.'
        )


def refuse_unjudgeable_schema(spec: LLMDeploymentSpec, stable: Record, target: Record) -> None:
    """Check that a Required check of kind Schema has a schema to judge the canary's answers by.

    Raises:
        SpecError: the prompt of the revision that would become the canary has no outputSchema, or there is no prompt.
    """
    if target.revision == stable.revision or (target.resolved.prompt_content or {}).get("outputSchema") is not None:
        return
    checks = {m.name for m in spec.analysis.compared if m.check and m.check.kind is CheckKind.SCHEMA}
    required = [
        m.name for m in spec.analysis.compared if m.required and (m.ceiling.of if m.ceiling else m.name) in checks
    ]
    if required:
        prompt = target.resolved.prompt_name
        lacks = (
            f"PromptVersion {prompt} has no outputSchema" if prompt else "there is no spec.prompt with an outputSchema"
        )
        raise SpecError(
            f"spec.analysis.metrics: {', '.join(required)} can never pass, because {lacks} to check answers by; use a "
            "PromptVersion with an outputSchema, or set mode: Advisory."
        )


def refuse_blind_comparison(spec: LLMDeploymentSpec, stable: Record, target: Record) -> None:
    """Check that each Required metric can tell two revisions apart that share their pods.

    Raises:
        SpecError: one of them is counted by engine, or by backend.
    """
    if target.revision == stable.revision or target.engine_revision != stable.engine_revision:
        return
    if not stable.resolved.serves_prompts:  # nothing is tried
        return
    blind = [metric for metric in spec.analysis.compared if metric.required and metric.source in _BY_ENGINE]
    if blind:
        named = ", ".join(f"{metric.name} (source {metric.source})" for metric in blind)
        raise SpecError(
            f"spec.analysis.metrics: {named} cannot tell two prompts apart, because canary and stable share their "
            "pods; remove source, so that the model server counts, or set mode: Advisory."
        )
