"""Serin's chart on an API tier as helm renders it: the operator's account, roles, and admission policies in force.

Called by the fixtures. The operator's Deployment is there as well, but this tier has no controllers, so no pod starts;
tests run the operator as a process or in their own, with the account's token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.builds.cache import Cache
from sandbox.control_plane.api_tier import Handle
from sandbox.host import commands
from sandbox.host.layout import from_environment
from tests.integration.manifests import LLMDEPLOYMENT, Manifest, changed

ROOT = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "serin-system"
RELEASE = "serin"
ACCOUNT = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{RELEASE}"
IN_FORCE_SECONDS = 60.0

Run = Callable[..., str]
"""kubectl; see `conftest.Kubectl`."""

_LABELLED = {"apiVersion": "v1", "metadata": {"name": "probe", "labels": {"serin.dev/deployment": "probe"}}}
_FORBIDDEN: tuple[tuple[str, str | None, Manifest], ...] = (
    ("no-more-than-yourself", "probe", LLMDEPLOYMENT),
    ("commands", None, changed(LLMDEPLOYMENT, "metadata.annotations", {"serin.dev/do": "x"})),
    ("operator", ACCOUNT, {"kind": "ConfigMap", **_LABELLED}),
    ("records", "probe", {"kind": "ConfigMap", **_LABELLED}),
)
"""By policy, a user (None: the administrator) and a write that this policy alone refuses."""


def rendered(*settings: str) -> str:
    """The objects of the chart as YAML."""
    sets = [word for setting in ("prometheus.gateway=none", *settings) for word in ("--set", setting)]
    helm = str(Cache(from_environment()).path("helm"))
    command = [helm, "template", RELEASE, str(ROOT / "charts" / "serin"), "-n", SYSTEM_NAMESPACE, *sets]
    return commands.output(
        [*command, "--kube-version", "1.35.4"], doing="`helm template`", seconds=60, advice="Correct the chart."
    )


def install(kubectl: Run, *settings: str, namespace: str = "default") -> None:
    """Apply the chart and return when its policies are in force in a namespace."""
    existing = kubectl("get", "namespaces", "--output=name")
    if f"namespace/{SYSTEM_NAMESPACE}" not in existing.split():
        kubectl("create", "namespace", SYSTEM_NAMESPACE)
    kubectl("apply", "--server-side", f"--namespace={SYSTEM_NAMESPACE}", "--filename=-", text=rendered(*settings))
    resources = "--resource=llmdeployments.serin.dev,configmaps"
    kubectl("create", "clusterrole", "probe", "--verb=create", resources)
    kubectl("create", "clusterrolebinding", "probe", "--clusterrole=probe", "--user=probe")
    try:
        for policy, user, manifest in _FORBIDDEN:
            _wait_until_refused(kubectl, f"{RELEASE}-{policy}.{SYSTEM_NAMESPACE}", user, manifest, namespace)
    finally:
        kubectl("delete", "clusterrolebinding,clusterrole", "probe")


def _wait_until_refused(kubectl: Run, policy: str, user: str | None, manifest: Manifest, namespace: str) -> None:
    deadline = time.monotonic() + IN_FORCE_SECONDS
    metadata = manifest["metadata"] | {"namespace": namespace}
    acting = (f"--as={user}",) if user else ()
    command = ("create", "--dry-run=server", "--filename=-", "--validate=false", *acting)
    while policy not in (answer := kubectl(*command, manifest=manifest | {"metadata": metadata}, may_fail=True)):
        assert time.monotonic() < deadline, f"{policy} is not in force after {IN_FORCE_SECONDS:g} s: {answer}"
        time.sleep(0.2)


def kubeconfig_of(tier: Handle, kubectl: Run, account: str, namespace: str) -> Path:
    """A kubeconfig with a token of a ServiceAccount."""
    content: dict[str, Any] = json.loads(tier.kubeconfig.read_text())
    token = kubectl("create", "token", account, f"--namespace={namespace}").strip()
    user: Mapping[str, str] = {"token": token}
    content["users"][0]["user"] = user
    path = tier.directory / f"kubeconfig-{namespace}-{account}"
    path.write_text(json.dumps(content))
    return path
