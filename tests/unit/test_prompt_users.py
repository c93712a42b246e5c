"""The index of prompts' users, and the status that reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes.fake_cluster import Call, FakeCluster
from serin.cluster.port import LLMDEPLOYMENT, PROMPTVERSION
from serin.prompt_reconciler import PromptReconciler
from serin.prompt_users import RELIST_EVERY, PromptUsers, prompt_of
from tests.integration.manifests import PROMPTVERSION as PROMPT
from tests.integration.manifests import changed

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
TRIAGE = ("ns", "triage-1")


def deployment(name: str, prompt: str | None = "triage-1", namespace: str = "ns") -> dict[str, Any]:
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"prompt": {"name": prompt}} if prompt else {},
    }


def test_events_that_are_newer_than_the_list_win() -> None:
    users = PromptUsers()
    users.see(("ns", "before"), "triage-1")
    users.see(("other", "elsewhere"), "triage-1")
    users.begin_list("ns")
    users.see(("ns", "moved"), "triage-2")
    users.see(("ns", "deleted"), None)
    found = [deployment("moved"), deployment("deleted"), deployment("listed"), deployment("none", None)]
    users.end_list("ns", found, NOON)
    assert users.of(TRIAGE) == ("listed",), "before was deleted without an event"
    assert users.of(("ns", "triage-2")) == ("moved",)
    assert users.of(("other", "triage-1")) == ("elsewhere",)


def test_namespace_is_listed_once_in_a_while() -> None:
    users = PromptUsers()
    assert users.needs_list("ns", NOON)
    users.begin_list("ns")
    assert users.needs_list("ns", NOON), "the request failed"
    users.begin_list("ns")
    users.end_list("ns", [], NOON)
    assert not users.needs_list("ns", NOON + timedelta(minutes=1))
    assert users.needs_list("other", NOON)
    assert users.needs_list("ns", NOON + RELIST_EVERY)


@pytest.mark.parametrize("spec", [None, "x", {}, {"prompt": None}, {"prompt": "x"}, {"prompt": {"name": 1}}], ids=str)
def test_object_of_another_schema_uses_no_prompt(spec: object) -> None:
    assert prompt_of({"spec": spec}) is None


async def test_status_names_users_without_a_list_per_event() -> None:
    cluster, users, now = FakeCluster(lambda: NOON), PromptUsers(), [NOON]
    prompt = changed(changed(PROMPT, "metadata.namespace", "ns"), "metadata.name", "triage-1")
    cluster.put(prompt)
    for number in range(12):
        cluster.put(deployment(f"user-{number:02}"))
    cluster.put(deployment("other", "triage-2"))
    reconciler = PromptReconciler(cluster, lambda: now[0], users)
    calls: list[Call] = []
    cluster.before = calls.append
    for event in range(5):
        users.see(("ns", f"late-{event}"), "triage-1")
        await reconciler.reconcile(TRIAGE)
    assert [call.verb for call in calls if call.kind is LLMDEPLOYMENT] == ["list"]
    status = cluster.find(PROMPTVERSION, *TRIAGE)["status"]  # type: ignore[index]
    assert (status["usedByCount"], len(status["usedBy"])) == (16, 10)
    now[0] += RELIST_EVERY
    await reconciler.reconcile(TRIAGE)
    status = cluster.find(PROMPTVERSION, *TRIAGE)["status"]  # type: ignore[index]
    assert status["usedByCount"] == 12, "what no list has is gone"
