"""Installs the Gateway API in the cluster: definitions, the one Gateway, and Envoy's bootstrap configuration.

Callers: `full_tier`, before it starts the gateway. Not here: the gateway's programs (`gateways`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from string import Template

from sandbox.host import commands, environment
from sandbox.host.kubectl import Kubectl
from sandbox.node import gateways
from sandbox.node.site import GATEWAY, Site


def install(site: Site, installed: str) -> str:
    """Apply definitions and Gateway unless the digest `installed` shows that they are there; return the new digest."""
    definitions, gateway = site.cache.definitions(site.gateway), gateway_objects(site.gateway)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in definitions) + gateway.encode()).hexdigest()
    if installed == digest and site.get(GATEWAY):
        return digest
    kubectl = Kubectl(
        {**os.environ, **environment.client_variables(site.layout, site.plan.addresses)},
        [f"--kubeconfig={site.layout.kubeconfig}"],
        site.cache.path("kubectl"),
    )
    apply, seconds = ("apply", "--server-side", "--force-conflicts"), commands.PACKAGE_SECONDS
    advice = "Run the same command again."
    kubectl(*apply, *(f"--filename={file}" for file in definitions), seconds=seconds, advice=advice)
    established = ("--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all")
    kubectl("wait", *established, seconds=seconds, advice=advice)
    kubectl(*apply, "--filename=-", stdin=gateway, seconds=seconds, advice=advice)
    return digest


def gateway_objects(gateway: str) -> str:
    """Return the GatewayClass of a gateway, and the one Gateway with its namespace, as YAML."""
    template = Template(Path(__file__).with_name("gateway.yaml").read_text())
    return template.substitute(gateway=gateway, controller=gateways.CONTROLLERS[gateway])


def write_envoy_bootstrap(site: Site) -> None:
    """Write the file from which Envoy knows the address of Contour."""
    path = site.configuration("envoy.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [str(site.cache.path("contour")), "bootstrap", str(path), "--xds-address=127.0.0.1", "--xds-port=8001"]
    command += [f"--resources-dir={path.parent}", "--admin-address=/run/serin/envoy-admin.sock"]
    commands.output(
        command,
        doing=f"writing {path}",
        seconds=commands.QUICK_SECONDS,
        advice="Check that its folder is writable.",
    )
