"""The operator's own settings, read once from the environment by `serin.__main__`.

Every variable starts with SERIN_ and has a default that fits the chart; a value that cannot be read ends the process
with a sentence. Nothing of an LLMDeployment is here: what users decide is in the API.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from serin.errors import SettingsError

_LABELS = (
    "requests_backend_label",
    "revision_label",
    "epoch_label",
    "namespace_label",
    "deployment_label",
    "engine_revision_label",
)

_AT_LEAST = {"lease_duration": 5.0, "settle_seconds": 0.0, "evidence_lag": 0.0}


@dataclass(frozen=True)
class Settings:
    """How this operator process is run. Durations are seconds."""

    identity: str
    """Who we are in the Lease: the name of the pod. SERIN_IDENTITY, else HOSTNAME."""
    namespace: str = "serin-system"
    """Where the Lease is: the operator's own namespace."""
    lease_name: str = "serin"
    lease_duration: float = 15.0
    """How long a leader may be silent before another replica takes over; it stops by itself after two thirds of it."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces that are served, separated by commas; empty: all of them."""

    default_image: str = "vllm/vllm-openai:v0.32.0"
    """Engine image of an LLMDeployment that names none."""
    model_server_image: str = ""
    """Image that new engine pods copy the measuring middleware from, the operator's own; empty: they do not measure."""
    model_server_pull_policy: str = "IfNotPresent"
    """Pull policy of that image in engine pods: `Always`, `IfNotPresent` or `Never`."""

    prometheus_url: str = "http://prometheus.monitoring:9090"
    prometheus_timeout: float = 4.0
    prometheus_username: str = ""
    """Basic authentication, with the password; empty: none."""
    prometheus_password: str = field(default="", repr=False)
    prometheus_bearer_token: str = field(default="", repr=False)
    """Sent as it is, unless there is a user name."""
    prometheus_tenant: str = ""
    """Sent as X-Scope-OrgID where several tenants share a server (Mimir, Cortex, Thanos); empty: not sent."""
    prometheus_ca_file: str = ""
    """Authorities that the certificate is checked against, as a PEM file; empty: the system's."""
    collect_interval: float = 5.0
    """How often the collector reads Prometheus while there is an active rollout."""
    scrape_interval: float = 15.0
    """How often Prometheus scrapes gateway and engines; the longest where that differs. A shorter one loses counts."""
    evidence_lag: float = 0.0
    """After so long every sample of a moment can be queried; 0: after one scrape interval."""
    settle_seconds: float = 2.0
    """How long a programmed route is given before it is believed."""

    requests_metric: str = "envoy_cluster_upstream_rq"
    """Counter of finished requests by backend and exact response code; the default is Envoy's."""
    model_server_metrics: str = "serin_"
    """Prefix of the model server's own series."""
    engine_metrics: str = "vllm:"
    """Prefix of vLLM's series."""
    requests_backend_label: str = "envoy_cluster_name"
    requests_code_label: str = "envoy_response_code"
    requests_backend: str = "{namespace}_{service}_{port}"
    """How the gateway names a backend in that label; the default is Contour's."""
    revision_label: str = "revision"
    """Label of the model server's series, and of custom metrics, with the revision that answered."""
    epoch_label: str = "epoch"
    """Label beside it with the epoch of the weight that the request arrived in."""
    running_metric: str = "vllm:num_requests_running"
    waiting_metric: str = "vllm:num_requests_waiting"
    namespace_label: str = "namespace"
    """Target labels that Prometheus puts on what it scrapes from the pods."""
    deployment_label: str = "deployment"
    engine_revision_label: str = "engine_revision"

    workers: int = 4
    """How many LLMDeployments are reconciled at once."""
    resync_interval: float = 600.0
    """Within this time every LLMDeployment is looked at, woken or not."""
    request_timeout: float = 15.0
    """Bound of a single call to the API server."""
    bind_address: str = ""
    """Address of both ports; empty: every address of the pod."""
    probe_port: int = 8080
    metrics_port: int = 9090
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Settings from SERIN_* variables; a variable that is empty counts as absent.

        Raises:
            SettingsError: a value cannot be read, or makes no sense.
        """
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable = f"SERIN_{setting.name.upper()}"
            text = environment.get(variable, "").strip()
            if text:
                values[setting.name] = _read(variable, text, str(setting.type))
        values.setdefault("identity", environment.get("HOSTNAME", "").strip() or "serin")
        settings = cls(**values)
        settings._check()
        return settings

    @property
    def lag(self) -> float:
        """After how many seconds every sample of a moment can be queried."""
        return self.evidence_lag or self.scrape_interval

    def _check(self) -> None:
        positive = ("prometheus_timeout", "collect_interval", "scrape_interval")
        for name in (*positive, "workers", "resync_interval", "request_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"SERIN_{name.upper()} must be above zero; set it to a positive number.")
        for name in ("probe_port", "metrics_port"):
            if not 0 < getattr(self, name) < 65536:
                raise SettingsError(f"SERIN_{name.upper()} must be a port; set it to a number from 1 to 65535.")
        for name, least in _AT_LEAST.items():
            if not least <= getattr(self, name) < math.inf:
                raise SettingsError(
                    f"SERIN_{name.upper()} must be {least:g} seconds or more, and no infinity; set it so."
                )
        for name in _LABELS:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", getattr(self, name)):
                raise SettingsError(f"SERIN_{name.upper()} is no label; set it to letters, digits and underscores.")
        if self.model_server_pull_policy not in {"Always", "IfNotPresent", "Never"}:
            raise SettingsError(
                f"SERIN_MODEL_SERVER_PULL_POLICY is {self.model_server_pull_policy!r}; "
                "use Always, IfNotPresent or Never."
            )
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise SettingsError(f"SERIN_LOG_LEVEL is {self.log_level!r}; use debug, info, warning or error.")
        try:
            self.requests_backend.format(namespace="n", service="s", port=1)
        except (KeyError, IndexError, ValueError) as error:
            raise SettingsError(
                f"SERIN_REQUESTS_BACKEND is {self.requests_backend!r}; "
                "build it from {namespace}, {service} and {port} only."
            ) from error


def _read(variable: str, text: str, type_name: str) -> str | int | float | tuple[str, ...]:
    try:
        match type_name:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "tuple[str, ...]":
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case _:
                return text
    except ValueError as error:
        kind = "a whole number" if type_name == "int" else "a number"
        raise SettingsError(f"{variable} is {text!r}; set it to {kind}.") from error
