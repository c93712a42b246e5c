"""`LLMDeployment`: one model served by vLLM, every change of which is tried as a canary.

Only what this version implements is a field here, hence in the CRD; anything else is refused by the API server.
Ranges, lengths and CEL rules live on the fields, so that the CRD and the parser say the same.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from serin.api.base import ApiModel
from serin.api.duration import Duration


class Model(ApiModel):
    """What is served."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$")]
    """The name that clients send in `model`."""
    source: Annotated[str, Field(min_length=1, max_length=1024)]
    """Where the weights are: `hf://org/model@<commit>`, `pvc://claim/path` or `file:///path/in/the/container`."""


class PromptRef(ApiModel):
    """A PromptVersion in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    key: Annotated[str, Field(min_length=1, max_length=253)] = "token"


class Cache(ApiModel):
    """Where downloaded weights stay."""

    pvc: Annotated[str, Field(min_length=1, max_length=253)]


class Resources(ApiModel):
    """Kubernetes resource requests and limits of the engine container."""

    limits: Annotated[dict[str, int | str], Field(max_length=16)] = {}
    requests: Annotated[dict[str, int | str], Field(max_length=16)] = {}


class Engine(ApiModel):
    """The vLLM that serves the model."""

    image: Annotated[str | None, Field(max_length=512)] = None
    """Any vLLM image; the operator's default when absent."""
    args: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = {}
    """`vllm serve` flags without their dashes, verbatim; the value `true` renders a bare flag."""
    resources: Resources | None = None
    """One `nvidia.com/gpu` when absent."""
    cache: Cache | None = None
    hf_token_secret_ref: SecretKeyRef | None = None


class PodTemplate(ApiModel):
    """Overlay over the pod template that Serin renders."""

    metadata: dict[str, Any] | None = None
    """Labels and annotations to add."""
    spec: dict[str, Any] | None = None
    """Maps merge, lists merge by their Kubernetes key, anything else replaces."""


class ParentRef(ApiModel):
    """A Gateway, as in an HTTPRoute's `parentRefs`."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Annotated[str | None, Field(max_length=63)] = None
    section_name: Annotated[str | None, Field(max_length=253)] = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None


class Gateway(ApiModel):
    """How requests reach the model."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)]
    hostnames: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=16)] = []
    matches: Annotated[list[dict[str, Any]], Field(max_length=8)] = []
    """HTTPRoute matches; the OpenAI paths that vLLM serves when empty."""
    filters: Annotated[list[dict[str, Any]], Field(max_length=8)] = []
    """HTTPRoute filters of the rule."""
    timeouts: dict[str, str] = {}
    """HTTPRoute timeouts; `request: 0s` unless set, because a stream has no natural end."""


class Routing(ApiModel):
    """The way in."""

    gateway: Gateway


class Pause(ApiModel):
    """Stop here: for a time, or until a person says resume."""

    for_: Annotated[Duration | None, Field(alias="for")] = None


class RampStep(ApiModel):
    """Either a weight with its hold, or a pause."""

    weight: Annotated[float | None, Field(gt=0, le=100, multiple_of=0.01)] = None
    """Percent of requests, two decimals."""
    hold: Duration | None = None
    """How long the weight is held at least; 10m when absent."""
    pause: Pause | None = None


DEFAULT_HOLD = timedelta(minutes=10)
DEFAULT_STEPS = tuple(RampStep(weight=weight, hold=DEFAULT_HOLD) for weight in (5, 25, 50))


class Ramp(ApiModel):
    """How the weight grows."""

    steps: Annotated[tuple[RampStep, ...], Field(min_length=1, max_length=32)] = DEFAULT_STEPS


class Rollout(ApiModel):
    """How a change is tried."""

    ramp: Ramp = Ramp()
    progress_deadline: Duration = timedelta(minutes=30)
    """Until the canary is Ready; loading weights is not failure."""
    drain_timeout: Duration = timedelta(minutes=10)
    """How long answers in flight may take after their pods left the route."""


class LLMDeploymentSpec(ApiModel):
    """What a user asks for; Serin never writes it."""

    model: Model
    prompt: PromptRef | None = None
    engine: Engine = Engine()
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    pod_template: PodTemplate | None = None
    routing: Routing
    rollout: Rollout = Rollout()
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    paused: bool = False
    """Freezes ramp and promotion, never a rollback; clocks stop."""
