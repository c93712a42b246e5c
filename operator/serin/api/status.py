"""The `status` of both kinds.

`serin.reporting.status` builds it and the reconciler writes it; users, `kubectl wait` and dashboards read it. Serin
decides nothing from it and rebuilds it when it is lost, so every field is optional. Long texts are truncated instead of
rejected, so that a long message from elsewhere cannot prevent a status update.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from serin.api.base import ApiModel, list_map

MAX_TEXT = 4096
MAX_USED_BY = 10


def clip(value: object) -> object:
    """Truncate a text to the length that the schema allows; an ellipsis marks the truncation."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[: MAX_TEXT - 1] + "…"
    return value


def format_time(value: datetime) -> str:
    """The time in RFC 3339 with whole seconds, as Kubernetes writes it."""
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
    """Base of all models below `status`; fields that are None are not written."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Condition(StatusModel):
    """A condition, as in `metav1.Condition`."""

    type: Annotated[str, Field(max_length=316)]
    """Type of the condition, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition is true."""
    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The `metadata.generation` that the condition was computed from."""
    last_transition_time: Time
    """Time at which `status` last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Reason in CamelCase; docs/reference/reasons.md lists all reasons."""
    message: Text
    """Reason as a sentence."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))]


class PromptStatus(StatusModel):
    """Prompt of a revision."""

    name: Name | None = None
    """PromptVersion that the content was copied from."""
    content_hash: Annotated[str | None, Field(max_length=64)] = None
    """Hash of the content, independent of the name of the PromptVersion."""


class SideStatus(StatusModel):
    """Fields that stable and canary have in common."""

    revision: Annotated[str | None, Field(max_length=63)] = None
    """Hash of everything that can change answers: engine revision and prompt. Services, routes and metrics use it."""
    engine_revision: Annotated[str | None, Field(max_length=63)] = None
    """Hash of everything that changes pods: model, image, flags, resources and template. Deployments and pod labels use
    it."""
    model: Annotated[str | None, Field(max_length=1024)] = None
    """Location of the weights."""
    prompt: PromptStatus | None = None
    """Prompt of the revision; absent if it has none."""
    replicas: int | None = None
    """Number of desired pods."""
    ready_replicas: int | None = None
    """Number of Ready pods."""
    weight: Percent | None = None
    """Share of requests that the route sends to this revision, such as `5%` or `0.25%`."""


class StableStatus(SideStatus):
    """The revision that carries the traffic."""


class CanaryStatus(SideStatus):
    """The revision on trial."""

    attempt: int | None = None
    """Number of trials of this revision, including the current one."""
    step: Annotated[str | None, Field(max_length=32)] = None
    """Current step of the ramp, such as `1/3`, or `adaptive` or `holdback`."""
    started_at: Time | None = None
    """Start of the trial."""
    verdict: Text | None = None
    """Verdict on the canary, as a sentence."""
    caveats: Annotated[tuple[Text, ...], Field(max_length=8)] = ()
    """Limitations of the comparison, as sentences."""


class MetricCounts(StatusModel):
    """Counts of one side (stable or canary) of a metric."""

    requests: Annotated[int | None, Field(ge=0)] = None
    """Number of requests since the canary got its first request."""
    bad: Annotated[int | None, Field(ge=0)] = None
    """Number of bad requests among them."""


class MetricStatus(StatusModel):
    """Counts, evidence and verdict of one metric."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the metric."""
    canary: MetricCounts | None = None
    """Counts of the canary."""
    stable: MetricCounts | None = None
    """Counts of the stable in the same period."""
    evidence: Annotated[int | None, Field(ge=0, le=100)] = None
    """How strongly the counts speak against the canary, in percent; at 100 it is rolled back if the metric is
    Required."""
    verdict: Annotated[str | None, Field(max_length=32)] = None
    """`Pass`, `Fail`, `Inconclusive`, or `NotApplicable` if neither side has samples. An Advisory metric says `Differs`
    in place of `Fail`, because it decides nothing."""
    mode: Annotated[str | None, Field(max_length=32)] = None
    """`Required` or `Advisory`."""
    more_requests_needed: Annotated[int | None, Field(ge=0)] = None
    """Approximate number of further canary requests until a proof; absent if the proof exists, or is not possible at
    the observed rates."""
    message: Text | None = None
    """Verdict as a sentence."""


class RejectedStatus(StatusModel):
    """The revision that was rolled back last; Serin does not try it again until the command `retry`."""

    revision: Annotated[str | None, Field(max_length=63)] = None
    """Name of the revision."""
    reason: Annotated[str | None, Field(max_length=1024)] = None
    """Reason in CamelCase; docs/reference/reasons.md lists all reasons."""
    message: Text | None = None
    """Reason as a sentence."""
    at: Time | None = None
    """Time of the rollback."""


class HandledCommand(StatusModel):
    """The last command that Serin handled, and its outcome."""

    command: Text | None = None
    """Value of the annotation `serin.dev/do`."""
    by: Text | None = None
    """Who signed it in the annotation `serin.dev/by`; `unknown` without a signature. The chart's admission policies
    refuse the name of another person."""
    outcome: Annotated[str | None, Field(max_length=63)] = None
    """Outcome in CamelCase; docs/reference/reasons.md lists all outcomes."""
    message: Text | None = None
    """Outcome as a sentence."""


class LLMDeploymentStatus(StatusModel):
    """Observed state, written by Serin."""

    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The `metadata.generation` that this status was computed from; -1 until Serin has seen the object."""
    phase: Annotated[str | None, Field(max_length=63)] = None
    """Phase of the rollout; docs/reference/reasons.md lists all phases."""
    message: Text | None = None
    """State of the rollout in one sentence, with what happens next or what to do."""
    conditions: Conditions = ()
    """Conditions: Available, Ready, Reconciling, Stalled, Accepted, CapacityAvailable, RouteProgrammed,
    MetricsAvailable and SplitInForce."""
    weight: Percent | None = None
    """Share of requests that the canary gets, such as `5%`."""
    step: Annotated[str | None, Field(max_length=32)] = None
    """Current step of the ramp, such as `1/3`, or `adaptive` or `holdback`."""
    model: Annotated[str | None, Field(max_length=1024)] = None
    """Model name of the canary, or of the stable if there is no canary."""
    prompt: Name | None = None
    """PromptVersion of the canary, or of the stable if there is no canary."""
    verdict: Annotated[str | None, Field(max_length=63)] = None
    """`Pass`, `Fail` or `Inconclusive` during a trial."""
    replicas: Annotated[int | None, Field(ge=0)] = None
    """Number of existing pods; also in the `scale` subresource."""
    ready_replicas: Annotated[int | None, Field(ge=0)] = None
    """Number of Ready pods."""
    selector: Annotated[str | None, Field(max_length=512)] = None
    """Label selector of all pods; the `scale` subresource and autoscalers use it."""
    stable: StableStatus | None = None
    """The revision that carries the traffic."""
    canary: CanaryStatus | None = None
    """The revision on trial; absent if there is none."""
    metrics: Annotated[tuple[MetricStatus, ...], Field(max_length=32, json_schema_extra=list_map("name"))] = ()
    """Counts, evidence and verdict by metric."""
    rejected: RejectedStatus | None = None
    """The revision that the spec asks for, if Serin has rolled it back; otherwise absent."""
    last_handled_command: HandledCommand | None = None
    """The last command that Serin handled."""


class PromptVersionStatus(StatusModel):
    """Observed state, written by Serin."""

    observed_generation: Annotated[int | None, Field(ge=-1)] = None
    """The `metadata.generation` that this status was computed from; -1 until Serin has seen the object."""
    content_hash: Annotated[str | None, Field(max_length=64)] = None
    """Hash of everything in the spec that can change an answer; docs/reference/content-hash.md has test vectors."""
    conditions: Conditions = ()
    """Conditions: Accepted."""
    used_by: Annotated[tuple[Name, ...], Field(max_length=MAX_USED_BY)] = ()
    """Names of LLMDeployments that use this PromptVersion, at most ten."""
    used_by_count: Annotated[int | None, Field(ge=0)] = None
    """Number of LLMDeployments that use this PromptVersion."""
