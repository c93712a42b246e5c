"""Command lines of etcd, the API server and Prometheus, the three programs that both tiers run.

Pure: it returns command lines and the text of the audit policy. Callers: `api_tier` and `node.components`, which write
the policy. Not here: starting the programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Metadata only: which user did what to which object, and whether RBAC allowed it. Requests of the control plane and the
# node are left out: they would outnumber all others.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users:
  - system:apiserver
  - system:kube-controller-manager
  - system:kube-proxy
  - system:kube-scheduler
  - contour
  - prometheus
  - traefik
- level: None
  userGroups: [system:nodes]
- level: None
  nonResourceURLs: ["/healthz*", "/readyz*", "/livez*"]
- level: Metadata
"""


def etcd(binary: Path, *, data: Path, client_url: str, peer_url: str) -> list[str]:
    """Return etcd's command line. etcd does not sync to disk: the cluster does not survive a crash of the machine."""
    return [
        str(binary),
        "--name=serin",
        f"--data-dir={data}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=serin={peer_url}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--auto-compaction-retention=10m",
    ]


def api_server(
    binary: Path,
    *,
    etcd_url: str,
    address: str,
    port: int,
    certificates: Path,
    services: str,
    audit_log: Path,
    audit_policy: Path,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the API server's command line: RBAC, audit log, default admission with Pod Security."""
    return [
        str(binary),
        f"--etcd-servers={etcd_url}",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        f"--secure-port={port}",
        f"--tls-cert-file={certificates / 'server.crt'}",
        f"--tls-private-key-file={certificates / 'server.key'}",
        f"--client-ca-file={certificates / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        "--anonymous-auth=true",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates / 'service-accounts.key'}",
        f"--service-account-signing-key-file={certificates / 'service-accounts.key'}",
        f"--service-cluster-ip-range={services}",
        f"--audit-policy-file={audit_policy}",
        f"--audit-log-path={audit_log}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2",
        "--profiling=false",
        "--v=1",
        *extra,
    ]


def prometheus(binary: Path, *, config: Path, data: Path, listen: str) -> list[str]:
    """Return Prometheus' command line; its configuration can be reloaded by POST /-/reload."""
    return [
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={listen}",
        "--storage.tsdb.retention.time=1d",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]
