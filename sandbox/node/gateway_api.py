"""Installs the Gateway API in the cluster: definitions, the one Gateway, and Envoy's bootstrap configuration.

Callers: `full_tier`, before it starts Contour and Envoy. Not here: the two programs (`components`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sandbox.host import commands, environment
from sandbox.host.kubectl import Kubectl
from sandbox.node.components import GATEWAY, Site


def install(site: Site, installed: str) -> str:
    """Apply definitions and Gateway unless the digest `installed` shows that they are there; return the new digest."""
    definitions, gateway = site.cache.definitions(), Path(__file__).with_name("gateway.yaml")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (*definitions, gateway))).hexdigest()
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
    kubectl(*apply, f"--filename={gateway}", seconds=seconds, advice=advice)
    return digest


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
