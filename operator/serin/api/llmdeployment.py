"""`LLMDeployment`: one model served by vLLM, every change of which is tried as a canary.

Only what this version implements is a field here, hence in the CRD; anything else is refused by the API server.
Ranges, lengths and rules live on the fields, so that the CRD and the parser say the same. The parts have a module each
(`engine`, `pod_template`, `routing`, `ramp`, `analysis`) and are passed on from here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serin.api.analysis import DEFAULT_METRICS, Analysis, Metric, MetricSourceName, Mode, Preset
from serin.api.base import ApiModel
from serin.api.engine import Cache, Engine, Model, Resources, SecretKeyRef
from serin.api.fields import Subdomain
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
    """A PromptVersion in the same namespace."""

    name: Subdomain
    """The PromptVersion."""


def _feeds_ramp(metric: Metric) -> bool:
    return metric.required and (metric.ratio is not None or metric.preset is Preset.ERROR_RATE)


class LLMDeploymentSpec(ApiModel):
    """What a user asks for; Serin never writes it."""

    RULES = (
        Rule(
            # Each level is asked for: defaults fill in what is absent only down to where its parent has one.
            cel="!has(self.rollout) || !has(self.rollout.ramp) || !has(self.rollout.ramp.adaptive) || "
            "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.exists(m, "
            "(!has(m.mode) || m.mode == 'Required') && (has(m.ratio) || (has(m.preset) && m.preset == 'ErrorRate')))",
            message="Make ErrorRate or a ratio Required; an adaptive ramp grows by what such a metric proves.",
            holds=lambda spec: spec.rollout.ramp.adaptive is None or any(map(_feeds_ramp, spec.analysis.compared)),
        ),
    )

    model: Model
    """What is served."""
    prompt: PromptRef | None = None
    """The prompt that belongs to the model; its content is copied, so the PromptVersion may be deleted later."""
    engine: Engine = Engine()
    """The vLLM that serves the model."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Pods of the stable; `kubectl scale` and autoscalers write it."""
    pod_template: PodTemplate | None = None
    """Overlay over the pod template that Serin renders."""
    routing: Routing
    """How requests reach the model."""
    rollout: Rollout = Rollout()
    """How a change is tried."""
    analysis: Analysis = Analysis()
    """What a canary is judged by."""
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """How many old revisions are remembered."""
    paused: bool = False
    """Freezes ramp and promotion, never a rollback; clocks stop."""
