"""Certificates and kubeconfigs of one cluster.

The certificates come from `builds/tools/certificates`, because the standard library cannot make any. A kubeconfig holds
its certificates inside, so that it can be copied. Callers: both tiers. Not here: permissions (RBAC).
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.host import commands

# File name -> identity. In system:masters: people, and programs for which Kubernetes has no built-in role.
API_CLIENTS = {"admin": "serin-sandbox-admin/system:masters"}
NODE_CLIENTS = {
    **API_CLIENTS,
    "contour": "contour/system:masters",
    "traefik": "traefik/system:masters",
    "prometheus": "prometheus/system:masters",
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kube-proxy": "system:kube-proxy",
    "kubelet": "system:node:serin/system:nodes",
    "kubelet-client": "kube-apiserver-kubelet-client/system:masters",
}


def make_certificates(tool: Path, directory: Path, *, hosts: Sequence[str], clients: Mapping[str, str]) -> None:
    """Fill `directory` with new certificates, for an API server that answers under `hosts`."""
    command = [str(tool), "-out", str(directory), "-server", ",".join(hosts)]
    for file, identity in clients.items():
        command += ["-client", f"{file}={identity}"]
    commands.output(
        command,
        doing=f"writing certificates to {directory}",
        seconds=commands.QUICK_SECONDS,
        advice="Check that the folder is writable.",
    )


def write_kubeconfig(path: Path, *, url: str, certificates: Path, client: str) -> Path:
    """Write a kubeconfig (as JSON, which every client reads) for one of the clients."""

    def inline(file: str) -> str:
        return base64.b64encode((certificates / file).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "serin-sandbox",
        "clusters": [
            {"name": "serin-sandbox", "cluster": {"server": url, "certificate-authority-data": inline("ca.crt")}}
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": inline(f"{client}.crt"),
                    "client-key-data": inline(f"{client}.key"),
                },
            }
        ],
        "contexts": [{"name": "serin-sandbox", "context": {"cluster": "serin-sandbox", "user": client}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path


def client_context(certificates: Path, client: str = "admin") -> ssl.SSLContext:
    """Return a TLS context that trusts the cluster's authority and presents the client's certificate."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / f"{client}.crt", certificates / f"{client}.key")
    return context
