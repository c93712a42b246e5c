"""Which objects an LLMDeployment adopts, and with which write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serin.manifests.adoption import adoption, controller_of, is_orphan, is_ours
from serin.manifests.children import deployment, pod_disruption_budget, service
from serin.manifests.controller_revision import render_record
from serin.manifests.owner import Owner
from serin.rollout.record import Record
from tests.unit.manifests.samples import make_resolved

OWNER = Owner("ns", "triage", "new")
BEFORE = Owner("ns", "triage", "old")
RESOLVED = make_resolved()
MAKERS: dict[str, Callable[[Owner], dict[str, Any]]] = {
    "record": lambda owner: render_record(owner, Record(RESOLVED, 1)),
    "Deployment": lambda owner: deployment(owner, RESOLVED, 1),
    "budget": lambda owner: pod_disruption_budget(owner, RESOLVED),
    "Service": lambda owner: service(owner, RESOLVED),
}


def stored(obj: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return obj | {"metadata": obj["metadata"] | {"uid": "own", "resourceVersion": "7"} | metadata}


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[Owner], dict[str, Any]]:
    made: Callable[[Owner], dict[str, Any]] = request.param
    return made


def test_child_without_owner_is_adopted(make: Callable[[Owner], dict[str, Any]]) -> None:
    orphan = stored(make(OWNER), ownerReferences=[])
    assert is_orphan(orphan, OWNER)
    metadata = adoption(orphan, OWNER)["metadata"]
    assert metadata["ownerReferences"] == [OWNER.reference()]
    assert (metadata["uid"], metadata["resourceVersion"]) == ("own", "7")


def test_child_of_an_earlier_llmdeployment_of_the_name_is_adopted(make: Callable[[Owner], dict[str, Any]]) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": "x"}
    orphan = stored(make(BEFORE), ownerReferences=[BEFORE.reference(), other])
    assert is_orphan(orphan, OWNER)
    assert adoption(orphan, OWNER)["metadata"]["ownerReferences"] == [other, OWNER.reference()]


@pytest.mark.parametrize(
    "change",
    [
        {"ownerReferences": [OWNER.reference() | {"kind": "Other", "uid": "x"}]},
        {"ownerReferences": [OWNER.reference() | {"name": "other", "uid": "x"}]},
        {"ownerReferences": [OWNER.reference() | {"apiVersion": "example.com/v1", "uid": "x"}]},
        {"ownerReferences": [], "deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"ownerReferences": [], "labels": {}},
        {"ownerReferences": [], "labels": {"serin.dev/deployment": "other"}},
        {"ownerReferences": [], "name": "triage-by-hand"},
        {"ownerReferences": [], "name": "other-abcdef0123"},
    ],
    ids=[
        "another kind",
        "another name",
        "another group",
        "being deleted",
        "no label",
        "label of another",
        "name",
        "of",
    ],
)
def test_object_of_others_is_not_adopted(make: Callable[[Owner], dict[str, Any]], change: dict[str, Any]) -> None:
    assert not is_ours(stored(make(OWNER), **change), OWNER)


def test_child_without_label_is_adopted_if_serin_has_applied_it(make: Callable[[Owner], dict[str, Any]]) -> None:
    applied = [{"manager": "serin", "operation": "Apply", "time": "2026-01-01T00:00:00Z"}]
    assert is_orphan(stored(make(OWNER), ownerReferences=[], labels={}, managedFields=applied), OWNER)


def test_owned_child_is_no_orphan(make: Callable[[Owner], dict[str, Any]]) -> None:
    assert not is_orphan(stored(make(OWNER)), OWNER)
    assert is_ours(stored(make(OWNER)), OWNER)


def test_adoption_takes_over_annotations_that_a_restore_manages() -> None:
    fields: dict[str, Any] = {
        "f:metadata": {
            "f:annotations": {".": {}, "f:serin.dev/trial": {}, "f:team": {}},
            "f:labels": {".": {}, "f:serin.dev/deployment": {}},
        },
        "f:data": {},
    }
    entry = {"manager": "kubectl-create", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}
    status = entry | {"subresource": "status"}
    orphan = stored(MAKERS["record"](OWNER), ownerReferences=[], managedFields=[entry, status])
    ours, theirs, kept = adoption(orphan, OWNER)["metadata"]["managedFields"]
    assert (ours["manager"], ours["operation"]) == ("serin", "Apply")
    assert ours["fieldsV1"] == {"f:metadata": {"f:annotations": {"f:serin.dev/trial": {}}}}
    assert theirs["fieldsV1"]["f:metadata"]["f:annotations"] == {".": {}, "f:team": {}}
    assert theirs["fieldsV1"]["f:metadata"]["f:labels"] == fields["f:metadata"]["f:labels"]
    assert kept == status


def test_controller_is_named_for_people() -> None:
    assert controller_of(stored(MAKERS["Service"](OWNER))) == "LLMDeployment triage"
    assert controller_of(stored(MAKERS["Service"](OWNER), ownerReferences=[])) is None
