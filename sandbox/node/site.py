"""One sandbox's files, binaries and addresses, and what a program of its node is started from.

Callers: `components`, `gateways` and what starts them. Not here: which programs there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.control_plane import credentials
from sandbox.host import probe
from sandbox.host.layout import Layout
from sandbox.node import config_files
from sandbox.node.network import Plan

API_PORT = 6443
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/gateway/gateways/llm"
"""The API path of the one Gateway, which `gateway.yaml` defines."""


@dataclass(frozen=True, slots=True)
class Component:
    """One program of the node; `ready` probes it from this machine."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    files: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that every program gets."""

    @property
    def fingerprint(self) -> str:
        """A hash of what the program is started from: its command line, variables and files."""
        digest = hashlib.sha256("\0".join(self.command).encode())
        for name, value in sorted(self.environment.items()):
            digest.update(f"{name}={value}\0".encode())
        for path, content in sorted(self.files.items()):
            digest.update(f"{path}\0{content}\0".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one sandbox is: its files, its binaries, its addresses."""

    layout: Layout
    cache: Cache
    plan: Plan
    gateway: str = pins.CONTOUR
    """One of `pins.GATEWAYS`."""

    @property
    def api_url(self) -> str:
        """The API server's URL, from this machine and from pods."""
        return f"https://{self.plan.node}:{API_PORT}"

    @property
    def gateway_url(self) -> str:
        """The URL of the Gateway's listener, from this machine and from pods."""
        return f"http://{self.plan.node}:{config_files.GATEWAY_PORTS[self.gateway]}"

    @property
    def prometheus_url(self) -> str:
        """Prometheus' URL, from this machine and from pods."""
        return f"http://{self.plan.node}:{config_files.PROMETHEUS_PORT}"

    def kubeconfig(self, client: str) -> Path:
        """Return the path of the kubeconfig of one of `credentials.NODE_CLIENTS`."""
        return self.layout.full / "kubeconfigs" / client

    def configuration(self, name: str) -> Path:
        """Return the path of a configuration file."""
        return self.layout.full / "configuration" / name

    def get(self, path: str) -> dict[str, object]:
        """Return an object of the API, empty when there is none or no API server."""
        return probe.get_json(self.api_url + path, credentials.client_context(self.layout.certificates))

    def answers(self, port: int, path: str, scheme: str = "http") -> bool:
        """Whether a server on the node answers a GET of `path` with 2xx."""
        context = probe.untrusting_context() if scheme == "https" else None
        return probe.get(f"{scheme}://{self.plan.node}:{port}{path}", context) is not None
