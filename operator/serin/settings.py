"""The operator's own settings, read once from the environment by `serin.__main__` and `serin replay`.

Every variable starts with SERIN_ and has a default that fits the chart. An invalid value ends the process with one
sentence that names the variable. docs/reference/settings.md is generated from the docstrings of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from serin.errors import SettingsError


@dataclass(frozen=True)
class Must:
    """Metadata of a field: completes the sentence "the variable must be …"."""

    be: str


def _items(value: object) -> object:
    """The items of a comma-separated list; other types are returned unchanged."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _is_backend_template(value: str) -> str:
    try:
        value.format(namespace="n", service="s", port=1)
    except (AttributeError, KeyError, IndexError) as error:
        raise ValueError(str(error)) from error
    return value


PositiveSeconds = Annotated[FiniteFloat, Field(gt=0), Must("a finite number of seconds above 0")]
Seconds = Annotated[FiniteFloat, Field(ge=0), Must("a finite number of at least 0 seconds")]
LeaseSeconds = Annotated[FiniteFloat, Field(ge=5), Must("a finite number of at least 5 seconds")]
Port = Annotated[int, Field(ge=1, le=65535), Must("a port number from 1 to 65535")]
Count = Annotated[int, Field(ge=1), Must("a whole number of at least 1")]
Label = Annotated[
    str,
    Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$"),
    Must("a Prometheus label name: letters, digits and underscores, not beginning with a digit"),
]
Backend = Annotated[
    str,
    AfterValidator(_is_backend_template),
    Must("a template with no other placeholders than {namespace}, {service} and {port}"),
]
PullPolicy = Annotated[Literal["Always", "IfNotPresent", "Never"], Must("Always, IfNotPresent or Never")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Must("debug, info, warning or error")]


class Settings(BaseModel):
    """Settings of this operator process. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    identity: str
    """Name of this process in the Lease. Default: HOSTNAME, which is the name of the pod."""
    namespace: str = "serin-system"
    """Namespace of the Lease: the namespace of the operator."""
    lease_name: str = "serin"
    """Name of the Lease by which the replicas elect their leader."""
    lease_duration: LeaseSeconds = 15.0
    """Time without a renewal after which another replica takes over. A leader stops after two thirds of it."""
    watch_namespaces: Annotated[tuple[str, ...], BeforeValidator(_items)] = ()
    """Namespaces to serve, separated by commas. Empty: all namespaces."""

    default_image: str = "vllm/vllm-openai:v0.32.0"
    """vLLM image of an LLMDeployment without `spec.engine.image`."""
    model_server_image: str = ""
    """Image from which engine pods copy Serin's middleware: the operator's own image. Empty: no middleware."""
    model_server_pull_policy: PullPolicy = "IfNotPresent"
    """Pull policy of that image in engine pods: `Always`, `IfNotPresent` or `Never`."""

    prometheus_url: str = "http://prometheus.monitoring:9090"
    """URL of the Prometheus server, as the operator's pods reach it."""
    prometheus_timeout: PositiveSeconds = 4.0
    """Time limit of one query."""
    prometheus_username: str = ""
    """User name for basic authentication. Empty: no basic authentication."""
    prometheus_password: str = Field(default="", repr=False)
    """Password for basic authentication."""
    prometheus_bearer_token: str = Field(default="", repr=False)
    """Bearer token, used if there is no user name."""
    prometheus_tenant: str = ""
    """Tenant on a shared server (Mimir, Cortex, Thanos), sent as `X-Scope-OrgID`. Empty: no header."""
    prometheus_ca_file: str = ""
    """PEM file with the certificate authorities to trust. Empty: those of the system."""
    collect_interval: PositiveSeconds = 5.0
    """How often the collector reads Prometheus while a rollout is active."""
    scrape_interval: PositiveSeconds = 15.0
    """Scrape interval of gateway and engines in Prometheus, the longest if they differ. A too short one loses
    counts."""
    evidence_lag: Seconds = 0.0
    """Delay after which all samples of a moment can be queried. 0: one scrape interval."""
    settle_seconds: Seconds = 2.0
    """How long the operator waits after a gateway has reported a route as programmed."""

    requests_metric: str = "envoy_cluster_upstream_rq"
    """Gateway counter of finished requests by backend and exact response code. Default: Envoy's."""
    model_server_metrics: str = "serin_"
    """Prefix of the middleware's metrics."""
    engine_metrics: str = "vllm:"
    """Prefix of vLLM's metrics."""
    requests_backend_label: Label = "envoy_cluster_name"
    """Label of the gateway counter that names the backend."""
    requests_code_label: str = "envoy_response_code"
    """Label of the gateway counter that holds the response code, three digits."""
    requests_backend: Backend = "{namespace}_{service}_{port}"
    """Template of the backend's name in that label. Default: Contour's."""
    revision_label: Label = "revision"
    """Label with the revision that answered, in the middleware's metrics and in custom metrics."""
    epoch_label: Label = "epoch"
    """Label with the epoch in which the request arrived, in the middleware's metrics and in custom metrics."""
    running_metric: str = "vllm:num_requests_running"
    """Gauge of the requests that an engine processes. A pod is drained when it is 0."""
    waiting_metric: str = "vllm:num_requests_waiting"
    """Gauge of the requests that wait in an engine. A pod is drained when it is 0."""
    namespace_label: Label = "namespace"
    """Target label with the namespace of the pod."""
    deployment_label: Label = "deployment"
    """Target label with the name of the LLMDeployment, from the pod label `serin.dev/deployment`."""
    engine_revision_label: Label = "engine_revision"
    """Target label with the engine revision, from the pod label `serin.dev/engine-revision`."""

    workers: Count = 4
    """Number of LLMDeployments that are reconciled at the same time."""
    resync_interval: PositiveSeconds = 600.0
    """Every LLMDeployment is reconciled at least once in this time."""
    request_timeout: PositiveSeconds = 15.0
    """Time limit of one request to the API server."""
    bind_address: str = ""
    """Address of both ports. Empty: every address of the pod."""
    probe_port: Port = 8080
    """Port of `/healthz` and `/readyz`."""
    metrics_port: Port = 9090
    """Port of `/metrics`."""
    log_level: LogLevel = "info"
    """`debug`, `info`, `warning` or `error`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Settings from SERIN_* variables; an empty variable counts as absent.

        Raises:
            SettingsError: a value is invalid.
        """
        texts = {name: environment.get(_variable(name), "").strip() for name in cls.model_fields}
        given: dict[str, Any] = {name: text for name, text in texts.items() if text}
        given.setdefault("identity", environment.get("HOSTNAME", "").strip() or "serin")
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsError(cls._sentence(str(error.errors()[0]["loc"][0]), given)) from error

    @property
    def lag(self) -> float:
        """Seconds after which all samples of a moment can be queried."""
        return self.evidence_lag or self.scrape_interval

    @classmethod
    def _sentence(cls, name: str, given: Mapping[str, str]) -> str:
        """What the variable must be, and what it is unless it is a secret."""
        field = cls.model_fields[name]
        must = next(each.be for each in field.metadata if isinstance(each, Must))
        actual = f", but it is {given[name]!r}" if field.repr else ""
        return f"{_variable(name)} must be {must}{actual}."


def _variable(name: str) -> str:
    return f"SERIN_{name.upper()}"
