"""Puts the Gateway API into the cluster: definitions, the one Gateway, and Envoy's first configuration.

Callers: `full_tier`, before it starts Contour and Envoy. Not here: the two programs (`components`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import bounds, environment
from sandbox.node.components import Site

GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/gateway/gateways/llm"


def install(site: Site, installed: str) -> str:
    """Apply what is not there yet and return the digest of what is there now; `installed` is the digest of before."""
    definitions, gateway = site.cache.definitions(), Path(__file__).with_name("gateway.yaml")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (*definitions, gateway))).hexdigest()
    if installed == digest and site.get(GATEWAY):
        return digest
    _kubectl(site, "apply", "--server-side", "--force-conflicts", *(f"--filename={file}" for file in definitions))
    _kubectl(site, "wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all")
    _kubectl(site, "apply", "--server-side", "--force-conflicts", f"--filename={gateway}")
    return digest


def write_envoy_bootstrap(site: Site) -> None:
    """Write the file that tells Envoy where Contour is."""
    path = site.configuration("envoy.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [str(site.cache.path("contour")), "bootstrap", str(path), "--xds-address=127.0.0.1", "--xds-port=8001"]
    command += [f"--resources-dir={path.parent}", "--admin-address=/run/serin/envoy-admin.sock"]
    done = bounds.finish(command, doing="contour bootstrap", seconds=bounds.QUICK_SECONDS)
    if done.returncode != 0:
        sentence = done.stderr.decode(errors="replace").strip()[-200:]
        raise SandboxError(f"{path} cannot be written ({sentence}); check that its directory is writable")


def _kubectl(site: Site, *arguments: str) -> None:
    command = [str(site.cache.path("kubectl")), f"--kubeconfig={site.layout.kubeconfig}", *arguments]
    variables = {**os.environ, **environment.kept_here(site.layout, site.plan.addresses)}
    done = bounds.finish(command, doing=f"kubectl {arguments[0]}", seconds=bounds.PACKAGE_SECONDS, env=variables)
    if done.returncode != 0:
        sentence = done.stderr.decode(errors="replace").strip()[-300:]
        raise SandboxError(f"kubectl {arguments[0]} failed ({sentence}); run the same command again")
