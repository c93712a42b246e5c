"""What of a deleted record can be rebuilt, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serin.api.content_hash import content_hash
from serin.api.parse import parse_promptversion
from serin.manifests.children import deployment
from serin.manifests.owner import Owner
from serin.manifests.rebuilt_record import deployed, lost_revisions, rebuilt
from serin.manifests.split_document import SplitDocument
from serin.rollout.record import Record, Resolved
from serin.rollout.revision import revision
from tests.unit.manifests.samples import make_resolved

OWNER = Owner("ns", "triage", "uid")
ENGINE = make_resolved().engine_revision
PLAIN = revision(ENGINE, None)
PROMPT: dict[str, Any] = {
    "metadata": {"name": "triage-1"},
    "spec": {"prompt": "triage", "version": "1.0.0", "messages": [{"role": "system", "content": "Be brief."}]},
}
PROMPTED = revision(ENGINE, content_hash(parse_promptversion(PROMPT)))


def running(**metadata: Any) -> dict[str, Resolved]:
    made = deployment(OWNER, make_resolved(), 1)
    made["spec"]["template"]["metadata"] = made["spec"]["template"].get("metadata", {}) | {"creationTimestamp": None}
    return deployed("triage", [made | {"metadata": made["metadata"] | metadata}])


def document(*shares: tuple[str, int]) -> dict[str, SplitDocument]:
    return {ENGINE: SplitDocument(sequence=1, shares=shares, salt=shares[-1][0], token="t")}


def test_revision_without_prompt_is_rebuilt_from_its_deployment() -> None:
    lost = lost_revisions(running(), document((PLAIN, 10_000)), ())
    assert lost == {PLAIN: ENGINE}
    (record,) = rebuilt(lost, running(), (), ())
    assert (record.revision, record.engine_revision, record.recorded, record.number) == (PLAIN, ENGINE, False, 1)
    assert record.resolved.image == make_resolved().image
    assert "creationTimestamp" not in record.resolved.pod_template["metadata"]
    assert record.resolved.pod_template["spec"] == make_resolved().pod_template["spec"]


def test_revision_with_prompt_is_rebuilt_if_the_promptversion_exists() -> None:
    lost = lost_revisions(running(), document((PROMPTED, 10_000)), ())
    (record,) = rebuilt(lost, running(), (PROMPT,), ())
    assert (record.revision, record.resolved.prompt_name) == (PROMPTED, "triage-1")
    assert record.resolved.prompt_content == PROMPT["spec"]
    changed = PROMPT | {"spec": PROMPT["spec"] | {"messages": [{"role": "system", "content": "Other."}]}}
    assert rebuilt(lost, running(), (changed, {"metadata": {"name": "x"}, "spec": {}}), ()) == ()


def test_pods_are_those_of_a_recorded_revision_of_the_engine() -> None:
    kept = Record(replace(make_resolved(), revision=PLAIN, image="recorded"), 4)
    lost = lost_revisions(running(), document((PLAIN, 5_000), (PROMPTED, 5_000)), (kept,))
    assert lost == {PROMPTED: ENGINE}
    (record,) = rebuilt(lost, running(), (PROMPT,), (kept,))
    assert (record.resolved.image, record.number) == ("recorded", 5)


def test_nothing_is_lost_while_all_are_recorded() -> None:
    known = Record(replace(make_resolved(), revision=PLAIN), 1)
    assert lost_revisions(running(), document((PLAIN, 10_000)), (known,)) == {}


def test_deployment_that_is_being_deleted_is_not_rebuilt() -> None:
    assert running(deletionTimestamp="2026-01-01T00:00:00Z") == {}
