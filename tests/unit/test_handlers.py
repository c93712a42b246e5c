"""Which keys are marked by which watch event."""

from typing import Any

import kopf
import pytest

from fakes.nested import MOST, nested
from serin.handlers import CHILDREN, Wakers, make_kopf_settings, make_registry
from serin.kube_types import Key
from serin.prompt_users import PromptUsers
from serin.settings import Settings

TRIAGE: Key = ("ns", "triage")


class Woken:
    def __init__(self) -> None:
        self.deployments: list[Key] = []
        self.prompts: list[Key] = []
        self.users = PromptUsers()
        self.wakers = Wakers(self.deployments.append, self.prompts.append, self.users)


@pytest.fixture
def woken() -> Woken:
    return Woken()


def event(name: str, type_: str | None = "MODIFIED", *, spec: Any = None, labels: Any = None) -> dict[str, Any]:
    return {
        "type": type_,
        "object": {"metadata": {"namespace": "ns", "name": name, "labels": labels or {}}, "spec": spec or {}},
    }


@pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED", "DELETED"])
def test_llmdeployment_event_marks_it(woken: Woken, type_: str | None) -> None:
    woken.wakers.deployment(event("triage", type_))
    assert woken.deployments == [TRIAGE]


@pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED", "DELETED"])
def test_child_event_marks_the_llmdeployment_in_its_label(woken: Woken, type_: str | None) -> None:
    woken.wakers.child(event("triage-e1-xyz", type_, labels={"serin.dev/deployment": "triage"}))
    woken.wakers.child(event("stranger", type_))
    assert woken.deployments == [TRIAGE]


def test_a_child_wakes_its_owner_whatever_its_label_says(woken: Woken) -> None:
    owners = [
        {"apiVersion": "serin.dev/v1alpha1", "kind": "LLMDeployment", "name": "triage"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "triage-e1"},
    ]
    for labels in ({"serin.dev/deployment": "other"}, {"serin.dev/deployment": "triage"}, {}):
        child = event("triage-e1", labels=labels)
        child["object"]["metadata"]["ownerReferences"] = owners
        woken.wakers.child(child)
    assert woken.deployments == [("ns", "other"), TRIAGE, TRIAGE, TRIAGE]


def test_a_prompt_wakes_who_refers_to_it_and_nobody_else(woken: Woken) -> None:
    for name, prompt in (("a", "p1"), ("b", "p2"), ("c", "p1")):
        woken.wakers.deployment(event(name, None, spec={"prompt": {"name": prompt}}))
    woken.deployments.clear()
    woken.wakers.prompt(event("p1", "ADDED"))
    assert woken.deployments == [("ns", "a"), ("ns", "c")]
    woken.deployments.clear()
    woken.wakers.prompt(event("p3", "ADDED"))
    assert woken.deployments == []


def test_changed_prompt_reference_marks_both_prompts_once(woken: Woken) -> None:
    woken.wakers.deployment(event("a", None, spec={"prompt": {"name": "p1"}}))
    woken.prompts.clear()
    woken.wakers.deployment(event("a", spec={"prompt": {"name": "p2"}}))
    woken.wakers.deployment(event("a", spec={"prompt": {"name": "p2"}}))
    assert woken.prompts == [("ns", "p1"), ("ns", "p2")]
    assert (woken.users.of(("ns", "p1")), woken.users.of(("ns", "p2"))) == ((), ("a",))


def test_deleted_llmdeployment_uses_no_prompt(woken: Woken) -> None:
    woken.wakers.deployment(event("a", None, spec={"prompt": {"name": "p1"}}))
    woken.wakers.deployment(event("a", "DELETED", spec={"prompt": {"name": "p1"}}))
    assert woken.users.of(("ns", "p1")) == ()
    assert woken.users._users == {}


@pytest.mark.parametrize("spec", [{}, {"prompt": None}, {"prompt": "p1"}, {"prompt": {"name": 3}}, {"prompt": {}}])
def test_spec_of_unexpected_shape_raises_nothing(woken: Woken, spec: dict[str, Any]) -> None:
    woken.wakers.deployment(event("a", spec=spec))
    assert woken.deployments == [("ns", "a")]
    assert woken.prompts == []


def test_registry_has_only_watch_handlers(woken: Woken) -> None:
    registry = make_registry(woken.wakers)
    assert len(registry._watching.get_all_handlers()) == 2 + len(CHILDREN)
    for writes in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert not list(writes.get_all_handlers())


def test_kopf_watches_only_labelled_children_and_writes_nothing() -> None:
    settings = make_kopf_settings(Settings(identity="test"))
    assert not settings.posting.enabled
    assert settings.peering.standalone
    selectors = {str(what): labels for what, labels in settings.watching.label_selectors.items()}
    (maps,) = (what for what in selectors if "configmaps" in what)
    split = selectors.pop(maps)
    assert split == "serin.dev/deployment,app.kubernetes.io/component=split", "trial states are written all the time"
    assert set(selectors.values()) == {"serin.dev/deployment"}
    assert len(selectors) + 1 == len(CHILDREN)


def test_kopf_reads_lists_in_chunks() -> None:
    assert make_kopf_settings(Settings(identity="test")).watching.chunk_size == 200


@pytest.mark.parametrize("text", ["{oops", "[" * 100_000], ids=["no JSON", "deep"])
def test_kopf_neither_copies_an_object_nor_reads_its_own_annotation(text: str) -> None:
    storage = make_kopf_settings(Settings(identity="test")).persistence.diffbase_storage
    annotations = {"kopf.zalando.org/last-handled-configuration": text}
    body = kopf.Body({"metadata": {"annotations": annotations}, "spec": nested(MOST)})
    assert storage.fetch(body=body) is None
    assert storage.build(body=body) == {}


@pytest.mark.parametrize(("namespaces", "disabled"), [((), False), (("one",), True)])
def test_watch_namespaces_disables_cluster_wide_scanning(
    namespaces: tuple[str, ...],
    disabled: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    settings = make_kopf_settings(Settings(identity="test", watch_namespaces=namespaces))
    assert settings.scanning.disabled is disabled
