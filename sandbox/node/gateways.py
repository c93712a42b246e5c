"""The gateways: for each, its controller's name, its programs with their command lines, and how to tell that it serves.

Pure except for the probes. Callers: `components`, `gateway_api`. Not here: definitions and the Gateway itself
(`gateway_api`), and the ports that other files need (`config_files`).
"""

from __future__ import annotations

from sandbox.builds import pins
from sandbox.host import probe
from sandbox.node import config_files
from sandbox.node.site import GATEWAY, Component, Site

CONTROLLERS = {
    pins.CONTOUR: "projectcontour.io/gateway-controller",
    pins.TRAEFIK: "traefik.io/gateway-controller",
}
"""By gateway, the controller that its GatewayClass names."""


def components(site: Site) -> list[Component]:
    """Return the programs of the site's gateway."""
    return [_traefik(site)] if site.gateway == pins.TRAEFIK else _contour(site)


def _contour(site: Site) -> list[Component]:
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


def _traefik(site: Site) -> Component:
    node, port = site.plan.node, config_files.TRAEFIK_METRICS_PORT
    return Component(
        pins.TRAEFIK,
        (
            str(site.cache.path(pins.TRAEFIK)),
            "--providers.kubernetesGateway=true",
            f"--providers.kubernetesGateway.statusAddress.ip={node}",
            # Traefik serves a listener by the entry point that has its port.
            f"--entryPoints.llm.address={node}:{config_files.GATEWAY_PORTS[pins.TRAEFIK]}",
            f"--entryPoints.metrics.address={node}:{port}",
            "--metrics.prometheus=true",
            "--metrics.prometheus.entryPoint=metrics",
            "--ping=true",
            "--ping.entryPoint=metrics",
            "--log.level=WARN",
            "--log.noColor=true",
            # Both would send requests to the internet.
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ),
        lambda: site.answers(port, "/ping") and probe.condition_true(site.get(GATEWAY), "Programmed"),
        environment={"KUBECONFIG": str(site.kubeconfig(pins.TRAEFIK))},
    )
