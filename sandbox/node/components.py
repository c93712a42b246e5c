"""The programs of the full tier: command line, configuration files, and a probe that says whether each is ready.

Pure except for the probes. Callers: `full_tier`. A fingerprint covers command line and files, so that `up` restarts
only a component that was changed. Not here: the gateways (`gateways`), and the order of starting and waiting
(`full_tier`).
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.control_plane import credentials, programs
from sandbox.host import probe
from sandbox.node import config_files, gateways
from sandbox.node.site import API_PORT, Component, Site


def all_components(site: Site, containerd_ready: Callable[[], bool]) -> dict[str, Component]:
    """Return every component by name, in the order of starting."""
    made = [
        *_stores(site, containerd_ready),
        *_controllers(site),
        _kubelet(site),
        _proxy(site),
        _prometheus(site),
        *gateways.components(site),
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
        {configuration: config_files.prometheus(site.plan, site.kubeconfig("prometheus"), site.gateway)},
    )
