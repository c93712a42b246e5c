"""The real API server accepts every child as it is rendered, and `contains` agrees with what it then stores."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from serin.api.llmdeployment import LLMDeploymentSpec
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.port import POD, kind_of
from serin.kube_types import Object
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.contains import contains
from serin.manifests.controller_revision import read_record, render_record
from serin.manifests.evidence_map import read_evidence, render_evidence
from serin.manifests.split_document import read_split, render_split
from serin.routers.gateway_api import GatewayApiRouter
from serin.routers.port import Backend
from serin.split_delivery import deliver, evict
from tests.integration.conftest import Kubectl
from tests.unit.manifests import samples
from tests.unit.rollout.cases import GOOD, make_evidence

Change = Callable[[Object], object]
EVERYTHING = Path(samples.__file__).parent / "specs" / "everything.yaml"
STABLE = "0000000000"
SPLIT = "Split"
"""Key of the ConfigMap with the split document, of which a trial has another."""

SPECS = {
    "smallest": samples.make_spec(),
    "on-the-cpu": samples.make_spec(model={"source": "file:///opt/model"}, engine={"resources": {}}),
    "from-a-claim": samples.make_spec(model={"source": "pvc://weights/llama"}, engine={"cache": {"pvc": "weights"}}),
    "everything": LLMDeploymentSpec.model_validate(yaml.safe_load(EVERYTHING.read_text())),
}


def children(spec: LLMDeploymentSpec, namespace: str) -> dict[str, Object]:
    """Return every child of one revision, by kind."""
    owner = replace(samples.OWNER, namespace=namespace)
    record = samples.make_record(spec, pod_template=samples.make_template(spec, samples.WITH_MODEL_SERVER))
    backends = [Backend(STABLE, 10_000), Backend(samples.ENGINE_REVISION, 0)]
    rendered = [
        render_record(owner, record),
        deployment(owner, record.resolved, 0),
        pod_disruption_budget(owner, record.resolved),
        service(owner, record.resolved),
        GatewayApiRouter().render(owner, spec.routing, backends, sequence=63),
        render_evidence(owner, make_evidence(GOOD)),
    ]
    split = render_split(owner, samples.ENGINE_REVISION, samples.make_document())
    return {child["kind"]: child for child in rendered} | {SPLIT: split}


KINDS = tuple(children(samples.make_spec(), "default"))


@pytest.fixture
async def cluster(operator_kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesCluster]:
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    api = await ApiServer.connect(10.0)
    yield KubernetesCluster(api, identity="test", wrote=lambda _kind, _verb: None)
    await api.close()


@pytest.fixture
def namespace(routes: Kubectl, request: pytest.FixtureRequest) -> str:
    """A namespace for one test."""
    name = f"children-{abs(hash(request.node.nodeid)):x}"
    routes("create", "namespace", name)
    return name


async def stored(cluster: KubernetesCluster, child: Object) -> Object:
    metadata = child["metadata"]
    if kind_of(child) is POD:
        found = await pod_named(cluster, metadata["namespace"], metadata["name"])
    else:
        found = await cluster.get(kind_of(child), metadata["namespace"], metadata["name"])
    assert found is not None
    return found


async def pod_named(cluster: KubernetesCluster, namespace: str, name: str) -> Object | None:
    """The pod, from a list: the operator may not read one by its name."""
    pods = await cluster.list(POD, namespace, labels={})
    return next((pod for pod in pods if pod["metadata"]["name"] == name), None)


@pytest.mark.parametrize("name", SPECS)
async def test_every_child_is_accepted_and_contained_in_what_is_stored(
    cluster: KubernetesCluster, namespace: str, name: str
) -> None:
    for child in children(SPECS[name], namespace).values():
        await cluster.apply(kind_of(child), child)
        there = await stored(cluster, child)
        assert contains(there, child), child["kind"]

        await cluster.apply(kind_of(child), child)
        again = await stored(cluster, child)
        assert again["metadata"]["resourceVersion"] == there["metadata"]["resourceVersion"], child["kind"]


async def test_record_survives_the_api_server(cluster: KubernetesCluster, namespace: str) -> None:
    spec = SPECS["everything"]
    record = samples.make_record(spec, pod_template=samples.make_template(spec, samples.WITH_MODEL_SERVER))
    child = children(SPECS["everything"], namespace)["ControllerRevision"]
    await cluster.apply(kind_of(child), child)

    assert read_record(await stored(cluster, child)) == record


async def test_evidence_survives_the_api_server(cluster: KubernetesCluster, namespace: str) -> None:
    child = children(SPECS["smallest"], namespace)["ConfigMap"]
    await cluster.apply(kind_of(child), child)

    assert read_evidence(await stored(cluster, child)) == make_evidence(GOOD)


async def test_split_document_survives_the_api_server(cluster: KubernetesCluster, namespace: str) -> None:
    child = children(SPECS["smallest"], namespace)[SPLIT]
    await cluster.apply(kind_of(child), child)

    assert read_split(await stored(cluster, child)) == samples.make_document()


async def test_epoch_and_number_survive_the_api_server(cluster: KubernetesCluster, namespace: str) -> None:
    child = children(SPECS["smallest"], namespace)["HTTPRoute"]
    await cluster.apply(kind_of(child), child)
    view = GatewayApiRouter().read(await stored(cluster, child), child["metadata"]["name"])

    assert (view.epoch, view.sequence) == (31, 63)


async def test_route_with_filters_per_backend_is_accepted(cluster: KubernetesCluster, namespace: str) -> None:
    owner, spec = replace(samples.OWNER, namespace=namespace), SPECS["everything"]
    backends = [Backend(STABLE, 9_500, STABLE), Backend(samples.ENGINE_REVISION, 500)]
    child = GatewayApiRouter().render(owner, spec.routing, backends, sequence=63)
    await cluster.apply(kind_of(child), child)
    there = await stored(cluster, child)

    assert contains(there, child)
    assert GatewayApiRouter().read(there, child["metadata"]["name"]).epoch == 31


@pytest.fixture
async def pod(cluster: KubernetesCluster, routes: Kubectl, namespace: str, tmp_path: Path) -> Object:
    """A pod that no node runs."""
    template = samples.make_template(SPECS["smallest"], samples.WITH_MODEL_SERVER)
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = template["metadata"] | {"name": "one", "namespace": namespace}
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod))
    routes("create", "serviceaccount", "default", "--namespace", namespace)
    routes("create", "--filename", str(file))
    return await stored(cluster, pod)


async def test_pod_is_annotated(cluster: KubernetesCluster, pod: Object) -> None:
    digests = {samples.ENGINE_REVISION: "0123456789ab"}

    assert await deliver(cluster, [pod], digests) == 1
    again = await stored(cluster, pod)
    assert again["metadata"]["annotations"]["serin.dev/split"] == "0123456789ab"
    assert await deliver(cluster, [again], digests) == 0


async def test_pod_is_evicted_if_it_is_the_one_that_was_read(cluster: KubernetesCluster, pod: Object) -> None:
    meta = pod["metadata"]
    replaced = {"metadata": meta | {"uid": "00000000-0000-0000-0000-000000000000"}}
    assert "its eviction failed" in str(await evict(cluster, [replaced], meta["name"]))
    assert await pod_named(cluster, meta["namespace"], meta["name"])

    assert "Serin has evicted pod one" in str(await evict(cluster, [pod], meta["name"]))
    there = await pod_named(cluster, meta["namespace"], meta["name"])
    assert there is None or there["metadata"].get("deletionTimestamp")
    assert "Serin has evicted pod one" in str(await evict(cluster, [pod], meta["name"])), "one that is gone is no error"


def gone(*path: str | int) -> Change:
    """Return a change that removes the field at this path."""

    def remove(child: Object) -> object:
        below: Any = child
        for step in path[:-1]:
            below = below[step]
        return below.pop(path[-1])

    return remove


NO_LONGER_WANTED: dict[str, tuple[str, Change]] = {
    "hostnames": ("HTTPRoute", gone("spec", "hostnames")),
    "a-parent": ("HTTPRoute", gone("spec", "parentRefs", 1)),
    "a-backend": ("HTTPRoute", gone("spec", "rules", 0, "backendRefs", 1)),
    "a-filter": ("HTTPRoute", gone("spec", "rules", 0, "filters", 1)),
    "a-header": (
        "HTTPRoute",
        gone("spec", "rules", 0, "filters", 0, "requestHeaderModifier", "remove", 1),
    ),
    "the-number": ("HTTPRoute", gone("metadata", "annotations", "serin.dev/sequence")),
    "a-header-match": ("HTTPRoute", gone("spec", "rules", 0, "matches", 0, "headers")),
    "a-timeout": ("HTTPRoute", gone("spec", "rules", 0, "timeouts", "backendRequest")),
    "the-trial": ("ControllerRevision", gone("metadata", "annotations", "serin.dev/trial")),
    "all-annotations": ("ControllerRevision", gone("metadata", "annotations")),
    "a-label": ("Service", gone("metadata", "labels", "app.kubernetes.io/component")),
    "a-sidecar": ("Deployment", gone("spec", "template", "spec", "containers", 1)),
    "a-variable": ("Deployment", gone("spec", "template", "spec", "containers", 0, "env", 0)),
    "a-toleration": ("Deployment", gone("spec", "template", "spec", "tolerations")),
    "the-eviction-policy": ("PodDisruptionBudget", gone("spec", "unhealthyPodEvictionPolicy")),
}


@pytest.mark.parametrize("name", NO_LONGER_WANTED)
async def test_field_that_is_no_longer_wanted_is_detected_and_removed(
    cluster: KubernetesCluster, namespace: str, name: str
) -> None:
    kind, change = NO_LONGER_WANTED[name]
    before = children(SPECS["everything"], namespace)[kind]
    after = copy.deepcopy(before)
    change(after)
    await cluster.apply(kind_of(before), before)

    assert not contains(await stored(cluster, before), after)
    await cluster.apply(kind_of(after), after)
    assert contains(await stored(cluster, after), after)


EDITS = {
    "weights": ("HTTPRoute", "/spec/rules/0/backendRefs/0/weight", "1"),
    "a-stolen-host": ("HTTPRoute", "/spec/hostnames", '["other.example.com"]'),
    "replicas": ("Deployment", "/spec/replicas", "7"),
    "an-image": ("Deployment", "/spec/template/spec/containers/0/image", '"other:1"'),
    "a-limit": ("Deployment", "/spec/template/spec/containers/0/resources/limits/cpu", '"7"'),
    "a-selector": ("Service", "/spec/selector/serin.dev~1engine-revision", '"other"'),
    "an-outcome": ("ControllerRevision", "/metadata/annotations/serin.dev~1promotion", '"9"'),
    "an-epoch": (
        "HTTPRoute",
        "/spec/rules/0/filters/0/requestHeaderModifier/set/0/value",
        '"7"',
    ),
    "a-number": ("HTTPRoute", "/metadata/annotations/serin.dev~1sequence", '"7"'),
    "a-document": (SPLIT, "/data/split.json", '"{}"'),
    "evidence": ("ConfigMap", "/data/state.json", '"{}"'),
    "a-budget": ("PodDisruptionBudget", "/spec/maxUnavailable", "2"),
}


@pytest.mark.parametrize("name", EDITS)
async def test_manual_change_is_detected_and_reverted(
    cluster: KubernetesCluster, routes: Kubectl, namespace: str, name: str
) -> None:
    kind, path, value = EDITS[name]
    child = children(SPECS["everything"], namespace)[kind]
    await cluster.apply(kind_of(child), child)
    edit = f'[{{"op": "replace", "path": "{path}", "value": {value}}}]'
    await asyncio.to_thread(
        routes,
        "patch",
        child["kind"],
        child["metadata"]["name"],
        "--namespace",
        namespace,
        "--type=json",
        "--patch",
        edit,
    )

    assert not contains(await stored(cluster, child), child)
    await cluster.apply(kind_of(child), child)
    assert contains(await stored(cluster, child), child)


@pytest.mark.parametrize("kind", KINDS)
async def test_additions_of_other_writers_stay(
    cluster: KubernetesCluster, routes: Kubectl, namespace: str, kind: str
) -> None:
    child = children(SPECS["everything"], namespace)[kind]
    await cluster.apply(kind_of(child), child)
    place = (child["kind"], child["metadata"]["name"], "--namespace", namespace)
    await asyncio.to_thread(routes, "annotate", *place, "example.com/note=seen", "serin.dev/note=by-hand")
    await asyncio.to_thread(routes, "label", *place, "example.com/team=support")

    assert contains(await stored(cluster, child), child)


def test_rendered_pod_passes_the_restricted_level(routes: Kubectl, tmp_path: Path) -> None:
    """Also shows that each pod is valid: the API server validates a Deployment's template less strictly."""
    routes("create", "namespace", "restricted")
    routes("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    routes("create", "serviceaccount", "default", "--namespace", "restricted")
    for name in ("smallest", "on-the-cpu", "from-a-claim"):
        template = samples.make_template(SPECS[name], samples.WITH_MODEL_SERVER)
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = template["metadata"] | {"name": name, "namespace": "restricted"}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(pod))
        routes("create", "--dry-run=server", "--validate=strict", "--filename", str(file))
