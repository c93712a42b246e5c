"""What Serin reports: the `status` of both kinds.

Built by `serin.reporting.status` and written by the reconciler; users, `kubectl wait` and dashboards read it. Nothing
is ever decided from it: every field is optional in the schema, because status is rebuilt when it is lost.
Free text is clipped rather than refused, so that no long message from elsewhere can keep a status from being written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from serin.api.base import ApiModel, list_map

MAX_TEXT = 4096
MAX_USED_BY = 10


def clip(value: object) -> object:
    """Shorten text to what the schema allows; the ellipsis says that something is missing."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[: MAX_TEXT - 1] + "…"
    return value


def format_time(value: datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return value.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


Text = Annotated[str, BeforeValidator(clip), Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=253)]
Percent = Annotated[str, Field(max_length=16)]
Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class StatusModel(ApiModel):
    """Base of everything below `status`; what is None is not written."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Condition(StatusModel):
    """A metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What the condition is about, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The `metadata.generation` that it was judged on."""
    last_transition_time: Time
    """When `status` last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, as a CamelCase word from the reference."""
    message: Text
    """Why, as a sentence."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))]


class PromptStatus(StatusModel):
    """The prompt of a revision."""

    name: Name | None = None
    """The PromptVersion that the content was copied from."""
    content_hash: Annotated[str | None, Field(max_length=64)] = None
    """What identifies the content, whatever the PromptVersion is called."""


class SideStatus(StatusModel):
    """What both sides of a rollout have in common."""

    revision: Annotated[str | None, Field(max_length=63)] = None
    """What makes its answers differ: services, routes and metrics go by it."""
    engine_revision: Annotated[str | None, Field(max_length=63)] = None
    """What makes its pods differ: Deployments and pod labels go by it."""
    model: Annotated[str | None, Field(max_length=1024)] = None
    """Where its weights come from."""
    prompt: PromptStatus | None = None
    """Its prompt, if it has one."""
    replicas: int | None = None
    """Pods wanted."""
    ready_replicas: int | None = None
    """Pods that are Ready."""
    weight: Percent | None = None
    """Share of requests that the route gives it, such as `5%` or `0.25%`."""


class StableStatus(SideStatus):
    """The revision that carries traffic."""


class CanaryStatus(SideStatus):
    """The revision on trial."""

    attempt: int | None = None
    """How often this revision has been tried, this time included."""
    step: Annotated[str | None, Field(max_length=32)] = None
    """Step of the ramp, such as `1/3`."""
    started_at: Time | None = None
    """When this trial began."""
    verdict: Text | None = None
    """The verdict on the canary, as a sentence."""
    caveats: Annotated[tuple[Text, ...], Field(max_length=8)] = ()
    """What the comparison cannot see, as sentences."""


class MetricCounts(StatusModel):
    """One side of a metric."""

    requests: Annotated[int | None, Field(ge=0)] = None
    """Requests counted since the canary got its first one."""
    bad: Annotated[int | None, Field(ge=0)] = None
    """How many of them were bad."""


class MetricStatus(StatusModel):
    """Everything that the verdict on one metric rests on."""

    name: Annotated[str, Field(max_length=63)]
    """The metric."""
    canary: MetricCounts | None = None
    """What the canary showed."""
    stable: MetricCounts | None = None
    """What the stable showed in the same window."""
    evidence: Annotated[int | None, Field(ge=0, le=100)] = None
    """How strongly it speaks against the canary, in percent of what a rollback needs."""
    verdict: Annotated[str | None, Field(max_length=32)] = None
    """Pass, Fail, Inconclusive, or NotApplicable where nothing was seen on either side."""
    mode: Annotated[str | None, Field(max_length=32)] = None
    """Required or Advisory."""
    more_requests_needed: Annotated[int | None, Field(ge=0)] = None
    """About how many more canary requests prove it; absent where it is proven, or cannot be at this rate."""
    message: Text | None = None
    """The verdict as a sentence."""


class RejectedStatus(StatusModel):
    """The revision that was rolled back last; it is not tried again until a person says retry."""

    revision: Annotated[str | None, Field(max_length=63)] = None
    """The revision."""
    reason: Annotated[str | None, Field(max_length=1024)] = None
    """Why, as a CamelCase word from the reference."""
    message: Text | None = None
    """Why, as a sentence."""
    at: Time | None = None
    """When it was rolled back."""


class HandledCommand(StatusModel):
    """The last command of a person that was seen, and what became of it."""

    command: Text | None = None
    """The annotation's value."""
    outcome: Annotated[str | None, Field(max_length=63)] = None
    """What became of it, as a CamelCase word."""
    message: Text | None = None
    """What became of it, as a sentence."""


class LLMDeploymentStatus(StatusModel):
    """What is: written by Serin, rebuilt when it is lost."""

    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The `metadata.generation` that this status is about; -1 until Serin has seen the object."""
    phase: Annotated[str | None, Field(max_length=63)] = None
    """Where the rollout stands, in one word."""
    message: Text | None = None
    """Where the rollout stands, in one sentence that says what happens next or what to do."""
    conditions: Conditions = ()
    """Available, Ready, Reconciling, Stalled, Accepted, CapacityAvailable, RouteProgrammed and MetricsAvailable."""
    weight: Percent | None = None
    """Share of requests that the canary gets, such as `5%`."""
    step: Annotated[str | None, Field(max_length=32)] = None
    """Step of the ramp, such as `1/3`, or `adaptive`."""
    model: Annotated[str | None, Field(max_length=1024)] = None
    """The model that is served, or tried."""
    prompt: Name | None = None
    """The PromptVersion that is used, or tried."""
    verdict: Annotated[str | None, Field(max_length=63)] = None
    """Pass, Fail or Inconclusive while a canary is on trial."""
    replicas: Annotated[int | None, Field(ge=0)] = None
    """Pods that exist; the `scale` subresource shows them."""
    ready_replicas: Annotated[int | None, Field(ge=0)] = None
    """Pods that are Ready."""
    selector: Annotated[str | None, Field(max_length=512)] = None
    """Label selector of all pods; the `scale` subresource and autoscalers use it."""
    stable: StableStatus | None = None
    """The revision that carries traffic."""
    canary: CanaryStatus | None = None
    """The revision on trial; absent when nothing is."""
    metrics: Annotated[tuple[MetricStatus, ...], Field(max_length=32, json_schema_extra=list_map("name"))] = ()
    """Everything that the verdict rests on."""
    rejected: RejectedStatus | None = None
    """The revision that was rolled back last."""
    last_handled_command: HandledCommand | None = None
    """The last command of a person."""


class PromptVersionStatus(StatusModel):
    """What is: written by Serin, rebuilt when it is lost."""

    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The `metadata.generation` that this status is about; -1 until Serin has seen the object."""
    content_hash: Annotated[str | None, Field(max_length=64)] = None
    """First 12 hex digits of the hash over messages, variables, parameters, output schema and model."""
    conditions: Conditions = ()
    """Accepted."""
    used_by: Annotated[tuple[Name, ...], Field(max_length=MAX_USED_BY)] = ()
    """At most ten LLMDeployments whose spec names this prompt."""
    used_by_count: Annotated[int | None, Field(ge=0)] = None
    """How many LLMDeployments name it in all."""
