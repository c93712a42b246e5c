"""The adapter keeps the contract on a real API server, and turns its refusals into our errors."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.control_plane.api_tier import Handle
from serin.cluster import kubernetes_cluster
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import NOTE_BYTES, KubernetesCluster
from serin.cluster.port import DEPLOYMENT, EVENT, SERVICE, Kind
from serin.errors import ClusterError, Invalid, SettingsError
from tests.contract.cluster_port import CHECKS, NAMESPACE, Harness, deployment


@dataclass
class RealHarness:
    api: ApiServer
    cluster: KubernetesCluster
    written: list[tuple[str, str]]

    async def edit(self, kind: Kind, name: str, merge: Mapping[str, Any]) -> None:
        path = f"/apis/{kind.api_version}/namespaces/{NAMESPACE}/{kind.plural}/{name}"
        query = {"fieldManager": "somebody-else"}
        await self.api.request("PATCH", path, body=merge, query=query, content_type="application/merge-patch+json")


@pytest.fixture
async def harness(api_server: Handle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RealHarness]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    api = await ApiServer.connect(10.0)
    written: list[tuple[str, str]] = []
    cluster = KubernetesCluster(api, identity="test", wrote=lambda kind, verb: written.append((kind.kind, verb)))
    yield RealHarness(api, cluster, written)
    await api.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_real_cluster_keeps_the_contract(
    check: Callable[[Harness, str], Awaitable[None]], harness: RealHarness
) -> None:
    await check(harness, f"contract-{CHECKS.index(check)}")


async def test_unknown_field_is_refused_with_the_servers_message(harness: RealHarness) -> None:
    wrong = deployment("unknown-field")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "typo"
    with pytest.raises(Invalid) as refusal:
        await harness.cluster.apply(DEPLOYMENT, wrong)
    assert "imagee" in refusal.value.detail
    assert await harness.cluster.get(DEPLOYMENT, NAMESPACE, "unknown-field") is None


async def test_invalid_value_is_refused_with_the_servers_message(harness: RealHarness) -> None:
    with pytest.raises(Invalid) as refusal:
        await harness.cluster.apply(DEPLOYMENT, deployment("negative", replicas=-1))
    assert "spec.replicas" in refusal.value.detail


async def test_list_of_several_pages_is_read_to_its_end(harness: RealHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PAGE", 2)
    for number in range(5):
        await harness.cluster.apply(DEPLOYMENT, deployment(f"page-{number}", of="pages"))
    found = await harness.cluster.list(DEPLOYMENT, NAMESPACE, labels={"of": "pages"})
    assert sorted(o["metadata"]["name"] for o in found) == [f"page-{number}" for number in range(5)]


async def test_list_without_end_is_an_error(harness: RealHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PAGE", 1)
    monkeypatch.setattr(kubernetes_cluster, "MAX_PAGES", 2)
    for number in range(4):
        await harness.cluster.apply(DEPLOYMENT, deployment(f"many-{number}", of="many"))
    with pytest.raises(ClusterError, match="more than 2 objects"):
        await harness.cluster.list(DEPLOYMENT, NAMESPACE, labels={"of": "many"})


async def test_kind_that_the_cluster_lacks_has_no_objects(harness: RealHarness) -> None:
    missing = Kind("missing.example/v1", "things", "Thing")
    assert await harness.cluster.get(missing, NAMESPACE, "one") is None
    assert await harness.cluster.list(missing, NAMESPACE, labels={}) == []


async def test_event_note_is_clipped_to_the_limit(harness: RealHarness) -> None:
    about = await harness.cluster.apply(DEPLOYMENT, deployment("told"))
    for _ in range(2):
        await harness.cluster.event(about, "RolledBack", "ä" * 2000, "Warning", "Rollback")
    events = await harness.api.request("GET", f"/apis/{EVENT.api_version}/namespaces/{NAMESPACE}/events")
    told = [e for e in events["items"] if e["regarding"].get("name") == "told"]  # others may regard no name
    assert len(told) == 2
    assert told[0]["regarding"]["uid"] == about["metadata"]["uid"]
    assert (told[0]["reason"], told[0]["type"], told[0]["action"]) == ("RolledBack", "Warning", "Rollback")
    assert told[0]["note"].endswith("ä…")
    assert len(told[0]["note"].encode()) <= NOTE_BYTES


async def test_refused_event_is_logged_and_not_raised(harness: RealHarness) -> None:
    about = deployment("nowhere")
    about["metadata"]["namespace"] = "no-such-namespace"
    before = len(harness.written)
    await harness.cluster.event(about, "Promoted", "No one hears this.", "Normal", "Promote")
    assert len(harness.written) == before


async def test_writes_are_counted_and_reads_are_not(harness: RealHarness) -> None:
    await harness.cluster.get(SERVICE, NAMESPACE, "absent")
    obj = await harness.cluster.apply(DEPLOYMENT, deployment("counted"))
    await harness.cluster.event(obj, "Counted", "Counted.", "Normal", "Count")
    await harness.cluster.delete(DEPLOYMENT, NAMESPACE, "counted")
    await harness.cluster.delete(DEPLOYMENT, NAMESPACE, "counted")
    assert harness.written == [("Deployment", "apply"), ("Event", "create"), ("Deployment", "delete")]


async def test_standby_writes_nothing(harness: RealHarness) -> None:
    deposed = KubernetesCluster(harness.api, identity="test", may_write=lambda: False)
    with pytest.raises(ClusterError, match="has lost the Lease"):
        await deposed.apply(DEPLOYMENT, deployment("deposed"))
    with pytest.raises(ClusterError, match="has lost the Lease"):
        await deposed.delete(DEPLOYMENT, NAMESPACE, "deposed")
    assert await deposed.get(DEPLOYMENT, NAMESPACE, "deposed") is None


async def test_unreachable_server_is_one_sentence(api_server: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    text = api_server.kubeconfig.read_text()
    nowhere = api_server.directory / "nowhere"
    nowhere.write_text(text.replace(api_server.url, "https://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(nowhere))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    api = await ApiServer.connect(2.0)
    try:
        with pytest.raises(ClusterError, match="GET /version did not reach the API server"):
            await api.request("GET", "/version")
    finally:
        await api.close()


async def test_message_without_credentials_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", json.dumps("/nowhere"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsError, match="ServiceAccount, or set KUBECONFIG"):
        await ApiServer.connect(1.0)
