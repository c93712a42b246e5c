"""A backup by kubectl is restored on a real API server, as docs/how-to/back-up.md says.

This tier has no controllers. The garbage collector would delete records whose `ownerReferences` name a uid that is
gone, so the documented commands remove them. Both ways are tried here, because the collector may be late.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.operator_in_memory import SilentTelemetry
from serin.analysis.counts import NO_READINGS, MetricReadings
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.port import LLMDEPLOYMENT
from serin.manifests.engine_defaults import EngineDefaults
from serin.reconciler import Reconciler
from serin.rollout.snapshot import Policy
from serin.routers.gateway_api import GatewayApiRouter
from tests.integration.conftest import Kubectl
from tests.integration.manifests import LLMDEPLOYMENT as MANIFEST
from tests.integration.manifests import Manifest, changed

OWNED = "controllerrevisions,deployments,services,poddisruptionbudgets,httproutes,configmaps"
RECONCILES = 4


class NoReadings:
    """A collector without samples."""

    def readings(self, key: object) -> MetricReadings:  # noqa: ARG002
        return NO_READINGS

    def set_watch(self, watch: object) -> None: ...

    def acknowledge(self, *_: object) -> None: ...

    def drop(self, key: object) -> None: ...

    def watched(self, key: object) -> None: ...


@pytest.fixture
async def reconciler(operator_kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reconciler]:
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    api = await ApiServer.connect(10.0)
    yield Reconciler(
        cluster=KubernetesCluster(api, identity="test"),
        router=GatewayApiRouter(),
        collector=NoReadings(),
        telemetry=SilentTelemetry(),
        clock=lambda: datetime.now(UTC),
        defaults=EngineDefaults(image="vllm:test", model_server_image="serin:test"),
        policy=Policy(),
    )
    await api.close()


@pytest.fixture
def namespace(routes: Kubectl, request: pytest.FixtureRequest) -> str:
    name = f"restore-{abs(hash(request.node.nodeid)):x}"
    routes("create", "namespace", name)
    return name


async def settle(reconciler: Reconciler, namespace: str) -> dict[str, Any]:
    """Reconcile until nothing changes, and return the status."""
    for _ in range(RECONCILES):
        await reconciler.reconcile((namespace, "triage"))
    obj = await reconciler.cluster.get(LLMDEPLOYMENT, namespace, "triage")
    assert obj
    return dict(obj["status"])


def applied(kubectl: Kubectl, namespace: str, manifest: Manifest) -> None:
    kubectl("apply", "--filename=-", manifest=changed(manifest, "metadata.namespace", namespace))


async def rolled_back(reconciler: Reconciler, kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """An LLMDeployment with a stable, and a rejected revision in its spec."""
    applied(kubectl, namespace, MANIFEST)
    await settle(reconciler, namespace)
    records = f"--namespace={namespace}", "controllerrevisions", "--selector=serin.dev/deployment=triage"
    kubectl("annotate", *records, "serin.dev/promotion=1")
    stable = (await settle(reconciler, namespace))["stable"]["revision"]
    applied(kubectl, namespace, changed(MANIFEST, "spec.engine.args", {"seed": "1"}))
    canary = (await settle(reconciler, namespace))["canary"]["revision"]
    rejection = json.dumps({"reason": "VerdictFailed", "message": "Worse.", "at": "2026-01-01T00:00:00+00:00"})
    name = f"controllerrevision/triage-{canary}"
    kubectl("annotate", f"--namespace={namespace}", name, f"serin.dev/rejection={rejection}")
    status = await settle(reconciler, namespace)
    assert (status["stable"]["revision"], status["rejected"]["revision"]) == (stable, canary)
    return status


def items(kubectl: Kubectl, namespace: str, kinds: str) -> list[dict[str, Any]]:
    selector = "--selector=serin.dev/deployment=triage"
    return list(json.loads(kubectl("get", kinds, f"--namespace={namespace}", selector, "--output=json"))["items"])


def restore(kubectl: Kubectl, backup: str, namespace: str, target: str) -> None:
    text = backup.replace(f"namespace: {namespace}\n", f"namespace: {target}\n")
    kubectl.run("create", "--filename=-", stdin=text)


@pytest.mark.parametrize("with_owners", [False, True], ids=["without owners", "with owners"])
@pytest.mark.parametrize("into", ["same", "empty"])
async def test_backup_by_kubectl_restores_the_memory_of_a_rollout(
    reconciler: Reconciler, routes: Kubectl, namespace: str, *, with_owners: bool, into: str
) -> None:
    before = await rolled_back(reconciler, routes, namespace)
    here = f"--namespace={namespace}"
    records = routes("get", "controllerrevisions", "--selector=serin.dev/deployment", here, "--output=yaml")
    models = routes("get", "llmdeployments", here, "--output=yaml")
    kept = {obj["metadata"]["name"]: obj for obj in items(routes, namespace, "deployments")}
    routes("delete", "llmdeployment", "triage", here)
    routes("delete", "controllerrevisions", "--all", here)
    target = namespace if into == "same" else f"{namespace}-new"
    if target != namespace:
        routes("create", "namespace", target)
    if not with_owners:
        listed = yaml.safe_load(records)
        for obj in listed["items"]:
            del obj["metadata"]["ownerReferences"]
        records = yaml.safe_dump(listed)
    restore(routes, records, namespace, target)
    restore(routes, models, namespace, target)

    after = await settle(reconciler, target)
    # No gateway confirms the route in this tier, so a canary that was there leaves forever.
    assert after["phase"] == ("RolledBack" if into == "empty" else "RollingBack"), after["message"]
    assert after["stable"]["revision"] == before["stable"]["revision"]
    assert after["rejected"] == before["rejected"]
    uid = json.loads(routes("get", "llmdeployment", "triage", f"--namespace={target}", "--output=json"))["metadata"][
        "uid"
    ]
    for obj in items(routes, target, OWNED):
        assert [ref["uid"] for ref in obj["metadata"]["ownerReferences"]] == [uid], obj["metadata"]["name"]
    serving = {obj["metadata"]["name"]: obj["metadata"] for obj in items(routes, target, "deployments")}
    name = f"triage-{before['stable']['engineRevision']}"
    if into == "empty":
        assert serving.keys() == {name}
    else:
        was = kept[name]["metadata"]
        assert (serving[name]["uid"], serving[name]["generation"]) == (was["uid"], was["generation"])

    # The restoring tool manages the annotations until Serin takes them over: else a rejection could not be lifted.
    rejected = before["rejected"]["revision"]
    signed = f"serin.dev/do=retry@{rejected}#1", "serin.dev/by=serin-sandbox-admin"
    routes("annotate", "llmdeployment", "triage", f"--namespace={target}", *signed)
    assert (await settle(reconciler, target))["canary"]["revision"] == rejected
    (record,) = [r for r in items(routes, target, "controllerrevisions") if r["metadata"]["name"].endswith(rejected)]
    assert "serin.dev/rejection" not in record["metadata"]["annotations"]
