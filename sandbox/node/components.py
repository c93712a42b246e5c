"""The programs of the full tier: command line, configuration files, and a probe that says whether each is ready.

Pure except for the probes. Callers: `full_tier`. A fingerprint covers command line and files, so that `up` restarts
only a component that was changed. Not here: the order of starting and waiting (`full_tier`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.builds.cache import Cache
from sandbox.control_plane import credentials, programs
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

    @property
    def fingerprint(self) -> str:
        """A hash of what the program is started from: its command line and files."""
        digest = hashlib.sha256("\0".join(self.command).encode())
        for path, content in sorted(self.files.items()):
            digest.update(f"{path}\0{content}\0".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one sandbox is: its files, its binaries, its addresses."""

    layout: Layout
    cache: Cache
    plan: Plan

    @property
    def api_url(self) -> str:
        """The API server's URL, from this machine and from pods."""
        return f"https://{self.plan.node}:{API_PORT}"

    @property
    def gateway_url(self) -> str:
        """Envoy's URL, from this machine and from pods."""
        return f"http://{self.plan.node}:{config_files.GATEWAY_PORT}"

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


def all_components(site: Site, containerd_ready: Callable[[], bool]) -> dict[str, Component]:
    """Return every component by name, in the order of starting."""
    made = [
        *_stores(site, containerd_ready),
        *_controllers(site),
        _kubelet(site),
        _proxy(site),
        _prometheus(site),
        *_gateway(site),
    ]
    return {component.name: component for component in made}


def _stores(site: Site, containerd_ready: Callable[[], bool]) -> list[Component]:
    layout, node = site.layout, site.plan.node
    configuration, cni = site.configuration("containerd.toml"), site.configuration("cni") / "10-serin.conflist"
    policy = site.configuration("audit-policy.yaml")
    certificates = layout.certificates
    etcd_url = f"http://{node}:2379"
    return [
        Component(
            "etcd",
            tuple(
                programs.etcd(
                    site.cache.path("etcd"),
                    data=layout.full / "etcd",
                    client_url=etcd_url,
                    peer_url=f"http://{node}:2380",
                )
            ),
            lambda: site.answers(2379, "/readyz"),
        ),
        Component(
            "containerd",
            (str(site.cache.path("containerd")), "--config", str(configuration), "--log-level", "warn"),
            containerd_ready,
            {
                configuration: config_files.containerd(site.layout.node_bin, cni.parent),
                cni: config_files.cni(site.plan),
            },
        ),
        Component(
            "kube-apiserver",
            tuple(
                programs.api_server(
                    site.cache.path("kube-apiserver"),
                    etcd_url=etcd_url,
                    address=str(node),
                    port=API_PORT,
                    certificates=certificates,
                    services=str(site.plan.services),
                    audit_log=layout.audit_log,
                    audit_policy=policy,
                    extra=[
                        f"--kubelet-client-certificate={certificates / 'kubelet-client.crt'}",
                        f"--kubelet-client-key={certificates / 'kubelet-client.key'}",
                        # The node has no name that resolves: logs and exec go to its address.
                        "--kubelet-preferred-address-types=InternalIP",
                    ],
                )
            ),
            lambda: probe.get(f"{site.api_url}/readyz", credentials.client_context(certificates)) is not None,
            {policy: programs.AUDIT_POLICY},
        ),
    ]


def _controllers(site: Site) -> list[Component]:
    certificates = site.layout.certificates
    common = [f"--bind-address={site.plan.node}", "--leader-elect=false", "--profiling=false", "--v=1"]
    manager, scheduler = "kube-controller-manager", "kube-scheduler"
    return [
        Component(
            manager,
            (
                str(site.cache.path(manager)),
                f"--kubeconfig={site.kubeconfig(manager)}",
                f"--root-ca-file={certificates / 'ca.crt'}",
                f"--service-account-private-key-file={certificates / 'service-accounts.key'}",
                f"--cluster-signing-cert-file={certificates / 'ca.crt'}",
                f"--cluster-signing-key-file={certificates / 'ca.key'}",
                "--use-service-account-credentials=true",
                *common,
            ),
            lambda: site.answers(10257, "/healthz", "https"),
        ),
        Component(
            scheduler,
            (str(site.cache.path(scheduler)), f"--kubeconfig={site.kubeconfig(scheduler)}", *common),
            lambda: site.answers(10259, "/healthz", "https"),
        ),
    ]


def _kubelet(site: Site) -> Component:
    configuration = site.configuration("kubelet.json")
    return Component(
        "kubelet",
        (
            str(site.cache.path("kubelet")),
            f"--config={configuration}",
            f"--kubeconfig={site.kubeconfig('kubelet')}",
            f"--hostname-override={config_files.NODE}",
            f"--node-ip={site.plan.node}",
            "--v=1",
        ),
        lambda: (
            site.answers(10248, "/healthz")
            and probe.condition_true(site.get(f"/api/v1/nodes/{config_files.NODE}"), "Ready")
        ),
        {configuration: config_files.kubelet(site.plan, site.layout.certificates)},
    )


def _proxy(site: Site) -> Component:
    configuration = site.configuration("kube-proxy.json")
    return Component(
        "kube-proxy",
        (str(site.cache.path("kube-proxy")), f"--config={configuration}", "--v=1"),
        lambda: site.answers(10256, "/livez"),
        {configuration: config_files.kube_proxy(site.plan, site.kubeconfig("kube-proxy"))},
    )


def _prometheus(site: Site) -> Component:
    configuration = site.configuration("prometheus.yaml")
    command = programs.prometheus(
        site.cache.path("prometheus"),
        config=configuration,
        data=site.layout.full / "prometheus",
        listen=f"{site.plan.node}:{config_files.PROMETHEUS_PORT}",
    )
    return Component(
        "prometheus",
        tuple(command),
        lambda: site.answers(config_files.PROMETHEUS_PORT, "/-/ready"),
        {configuration: config_files.prometheus(site.plan, site.kubeconfig("prometheus"))},
    )


def _gateway(site: Site) -> list[Component]:
    configuration = site.configuration("contour.yaml")
    return [
        Component(
            "contour",
            (
                str(site.cache.path("contour")),
                "serve",
                f"--config-path={configuration}",
                f"--kubeconfig={site.kubeconfig('contour')}",
                "--disable-leader-election",
                "--insecure",
                "--xds-address=127.0.0.1",
                "--xds-port=8001",
                f"--http-address={site.plan.node}",
                "--http-port=8000",
                f"--health-address={site.plan.node}",
                "--health-port=8003",
                f"--stats-address={site.plan.node}",
                f"--stats-port={config_files.ENVOY_METRICS_PORT}",
                "--envoy-service-http-address=0.0.0.0",
                f"--ingress-status-address={site.plan.node}",
            ),
            lambda: site.answers(8003, "/healthz") and probe.condition_true(site.get(GATEWAY), "Programmed"),
            {configuration: config_files.contour()},
        ),
        Component(
            "envoy",
            (
                str(site.cache.path("envoy")),
                *("--config-path", str(site.configuration("envoy.json"))),
                *("--service-cluster", "serin"),
                *("--service-node", "envoy"),
                *("--log-level", "warn"),
                *("--concurrency", "2"),
                # Its shared memory regions would have the same names in every sandbox of this machine.
                "--disable-hot-restart",
            ),
            # Envoy has this listener from Contour: an answer shows that the two are connected.
            lambda: site.answers(config_files.ENVOY_METRICS_PORT, "/ready"),
        ),
    ]
