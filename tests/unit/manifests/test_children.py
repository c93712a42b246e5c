"""Rendered children of a revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.controller_revision import render_record
from serin.manifests.split_document import render_split
from serin.routers.gateway_api import GatewayApiRouter
from serin.routers.port import Backend
from tests.unit.manifests.samples import (
    COMMIT,
    ENGINE_REVISION,
    OWNER,
    REVISION,
    WITH_MODEL_SERVER,
    make_document,
    make_record,
    make_resolved,
    make_spec,
    make_template,
)

GOLDEN = Path(__file__).parent / "golden"


def rich_children() -> list[dict[str, Any]]:
    """All children of one revision of an LLMDeployment that uses most fields."""
    spec = make_spec(
        model={"source": f"hf://org/model-70b@{COMMIT}"},
        engine={
            "args": {"max-model-len": "8192", "enable-prefix-caching": "false"},
            "resources": {"limits": {"nvidia.com/gpu": 4, "memory": "200Gi"}},
            "cache": {"pvc": "weights"},
            "hfTokenSecretRef": {"name": "hub"},
        },
        podTemplate={"spec": {"nodeSelector": {"gpu": "h100"}}},
        routing={"gateway": {"hostnames": ["triage.example.com"]}},
    )
    record = make_record(spec, pod_template=make_template(spec, WITH_MODEL_SERVER))
    return [
        render_record(OWNER, record),
        render_split(OWNER, ENGINE_REVISION, make_document()),
        deployment(OWNER, record.resolved, 3),
        pod_disruption_budget(OWNER, record.resolved),
        service(OWNER, record.resolved),
        GatewayApiRouter().render(
            OWNER, spec.routing, [Backend("0000000000", 9500), Backend(ENGINE_REVISION, 500)], sequence=71
        ),
    ]


def smallest_children() -> list[dict[str, Any]]:
    """All children of the smallest LLMDeployment, on the CPU."""
    spec = make_spec(model={"source": "file:///opt/model"}, engine={"resources": {}})
    resolved = make_resolved(spec, model_source=spec.model.source)
    return [
        deployment(OWNER, resolved, 1),
        pod_disruption_budget(OWNER, resolved),
        service(OWNER, resolved),
        GatewayApiRouter().render(OWNER, spec.routing, [Backend(REVISION, 10_000, REVISION)], sequence=0),
    ]


@pytest.mark.parametrize(
    ("name", "children"), [("rich", rich_children()), ("smallest", smallest_children())], ids=["rich", "smallest"]
)
def test_children_equal_golden_file(name: str, children: list[dict[str, Any]]) -> None:
    """After an intended change, copy `children` from pytest's output to the golden file and review the difference."""
    assert children == list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()))


def test_deployment_uses_the_recorded_template_unchanged() -> None:
    template = {"metadata": {"labels": {"old": "style"}}, "spec": {"containers": []}}

    assert deployment(OWNER, make_resolved(pod_template=template), 2)["spec"]["template"] == template


def test_selectors_match_engine_revision_pods_without_role() -> None:
    resolved = make_resolved()
    wanted = {"serin.dev/deployment": "triage", "serin.dev/engine-revision": ENGINE_REVISION}
    selectors = [
        deployment(OWNER, resolved, 1)["spec"]["selector"]["matchLabels"],
        pod_disruption_budget(OWNER, resolved)["spec"]["selector"]["matchLabels"],
        service(OWNER, resolved)["spec"]["selector"],
    ]

    assert selectors == [wanted] * 3
    assert wanted.items() <= resolved.pod_template["metadata"]["labels"].items()


def test_revisions_of_one_engine_share_pods_and_service() -> None:
    template = make_template(defaults=WITH_MODEL_SERVER)
    one, other = (make_resolved(revision=name, pod_template=template) for name in (REVISION, "1111111111"))

    assert deployment(OWNER, one, 1) == deployment(OWNER, other, 1)
    assert pod_disruption_budget(OWNER, one) == pod_disruption_budget(OWNER, other)
    assert service(OWNER, one) == service(OWNER, other)
    assert service(OWNER, one)["metadata"]["name"] == f"triage-{ENGINE_REVISION}"


def test_revisions_whose_pods_read_no_document_have_own_services() -> None:
    one, other = make_resolved(), make_resolved(revision="1111111111")

    assert service(OWNER, one)["metadata"]["name"] == f"triage-{REVISION}"
    assert service(OWNER, other)["metadata"]["name"] == "triage-1111111111"


@pytest.mark.parametrize("child", rich_children(), ids=lambda child: str(child["kind"]))
def test_every_child_has_owner_reference_and_watch_label(child: dict[str, Any]) -> None:
    metadata = child["metadata"]

    assert metadata["namespace"] == "default"
    assert metadata["labels"]["serin.dev/deployment"] == "triage"
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "serin"
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "serin.dev/v1alpha1",
            "kind": "LLMDeployment",
            "name": "triage",
            "uid": OWNER.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def test_child_names_fit_limits_for_the_longest_name() -> None:
    resolved = make_resolved()
    long = type(OWNER)(namespace="default", name="x" * 40, uid=OWNER.uid)

    assert all(
        len(build["metadata"]["name"]) <= 63 for build in (deployment(long, resolved, 1), service(long, resolved))
    )
