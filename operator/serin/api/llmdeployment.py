"""`LLMDeployment`: one model served by vLLM; every change is tried as a canary first.

The spec has only fields that this version implements; the API server rejects all others. Ranges, lengths and rules are
part of the fields, so that the CRD and the parser agree. Each part has a module of its own (`engine`, `pod_template`,
`routing`, `ramp`, `analysis`), whose types are exported from here too.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serin.api.analysis import DEFAULT_METRICS, Analysis, Metric, MetricSourceName, Mode, Preset
from serin.api.base import ApiModel
from serin.api.engine import BYPASS_FLAG, PROMPT_FLAGS, Cache, Engine, Model, Resources, SecretKeyRef
from serin.api.fields import Subdomain, matches, quoted
from serin.api.names import CONTAINER
from serin.api.pod_template import PodTemplate
from serin.api.ramp import (
    DEFAULT_HOLD,
    DEFAULT_STEPS,
    Adaptive,
    Holdback,
    OnInconclusive,
    Pause,
    Ramp,
    RampStep,
    Rollout,
)
from serin.api.routing import Gateway, ParentRef, Routing
from serin.api.rule import Rule

__all__ = [
    "DEFAULT_HOLD",
    "DEFAULT_METRICS",
    "DEFAULT_STEPS",
    "Adaptive",
    "Analysis",
    "Cache",
    "Engine",
    "Gateway",
    "Holdback",
    "LLMDeploymentSpec",
    "Metric",
    "MetricSourceName",
    "Mode",
    "Model",
    "OnInconclusive",
    "ParentRef",
    "Pause",
    "PodTemplate",
    "Preset",
    "PromptRef",
    "Ramp",
    "RampStep",
    "Resources",
    "Rollout",
    "Routing",
    "SecretKeyRef",
]


class PromptRef(ApiModel):
    """Reference to a PromptVersion in the same namespace."""

    name: Subdomain
    """Name of the PromptVersion."""


_BYPASS_VARIABLES = ("VLLM_USE_RUST_FRONTEND", "VLLM_SERVER_DEV_MODE", "VLLM_ENABLE_RESPONSES_API_STORE")
"""Variables with which requests reach vLLM past the middleware, or continue a conversation of another prompt."""
_is_bypass = matches(BYPASS_FLAG)


def _has_bypass_flag(spec: LLMDeploymentSpec) -> bool:
    return any(_is_bypass(flag) and value != "false" for flag, value in spec.engine.args.items())


def _has_bypass_variable(spec: LLMDeploymentSpec) -> bool:
    return spec.pod_template is not None and not spec.pod_template.engine_variables.isdisjoint(_BYPASS_VARIABLES)


def _can_drive_adaptive_ramp(metric: Metric) -> bool:
    return metric.required and metric.counts_answers


class LLMDeploymentSpec(ApiModel):
    """Desired state, written by users; Serin never changes it."""

    RULES = (
        Rule(
            # Every level needs has(): the API server fills in a default only where the parent object exists.
            cel="!has(self.rollout) || !has(self.rollout.ramp) || !has(self.rollout.ramp.adaptive) || "
            "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.exists(m, "
            "(!has(m.mode) || m.mode == 'Required') && "
            "(has(m.ratio) || has(m.check) || (has(m.preset) && m.preset == 'ErrorRate')))",
            message="Make ErrorRate, a ratio or a check Required; an adaptive ramp grows only by the counts of such a "
            "metric.",
            holds=lambda spec: (
                spec.rollout.ramp.adaptive is None or any(map(_can_drive_adaptive_ramp, spec.analysis.compared))
            ),
        ),
        Rule(
            cel="!has(self.prompt) || !has(self.engine) || !has(self.engine.args) || !self.engine.args.exists(flag, "
            f"flag.matches({quoted(BYPASS_FLAG)}) && self.engine.args[flag] != 'false')",
            message="Remove spec.prompt, or the flags with which requests could get past it: "
            + ", ".join(PROMPT_FLAGS)
            + ".",
            holds=lambda spec: spec.prompt is None or not _has_bypass_flag(spec),
        ),
        Rule(
            cel="!has(self.prompt) || !has(self.podTemplate) || !has(self.podTemplate.spec) || "
            "!has(self.podTemplate.spec.containers) || !self.podTemplate.spec.containers.exists(c, "
            f"c.name == '{CONTAINER}' && has(c.env) && c.env.exists(e, e.name in {list(_BYPASS_VARIABLES)}))",
            message="Remove spec.prompt, or the variables with which requests could get past it: "
            + ", ".join(_BYPASS_VARIABLES)
            + ".",
            holds=lambda spec: spec.prompt is None or not _has_bypass_variable(spec),
        ),
    )

    model: Model
    """The model to serve."""
    prompt: PromptRef | None = None
    """PromptVersion to use. Serin copies its content, so the PromptVersion may be deleted later."""
    engine: Engine = Engine()
    """How vLLM runs: image, flags and resources."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of pods of the stable; `kubectl scale` and autoscalers set this field."""
    pod_template: PodTemplate | None = None
    """Overlay on the pod template that Serin renders."""
    routing: Routing
    """How requests reach the model."""
    rollout: Rollout = Rollout()
    """How a change is rolled out."""
    analysis: Analysis = Analysis()
    """How a canary is compared with the stable."""
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Number of old revisions to keep; more than 20 have the effect of 20."""
    paused: bool = False
    """Stops the ramp and its clocks and prevents a promotion. A bad canary is still rolled back."""

    @property
    def ramp(self) -> Ramp:
        """The ramp in use: the written one; else adaptive, or fixed steps if no Required metric can drive that."""
        ramp = self.rollout.ramp
        if ramp.steps or ramp.adaptive or any(map(_can_drive_adaptive_ramp, self.analysis.compared)):
            return ramp
        return Ramp(steps=DEFAULT_STEPS)
