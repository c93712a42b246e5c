"""What people see with kubectl: columns, explanations, the scale subresource, and messages about mistakes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from serin.api.status import (
    CanaryStatus,
    Condition,
    LLMDeploymentStatus,
    MetricCounts,
    MetricStatus,
    PromptVersionStatus,
    StableStatus,
)
from tests.integration.conftest import Answer, Api, Kubectl
from tests.integration.manifests import LLMDEPLOYMENT, PROMPTVERSION, Manifest, changed, collection

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
STATUS = LLMDeploymentStatus(
    observed_generation=1,
    phase="Progressing",
    message="The canary is held at 5%.",
    conditions=(
        Condition(
            type="Ready",
            status="True",
            observed_generation=1,
            last_transition_time=NOW,
            reason="Serving",
            message="x" * 9000,
        ),
    ),
    weight="5%",
    step="1/3",
    model="triage",
    prompt="triage-1.4.0",
    verdict="Inconclusive",
    replicas=4,
    ready_replicas=3,
    selector="serin.dev/deployment=seen",
    stable=StableStatus(revision="aaaaaaaaaa", weight="95%"),
    canary=CanaryStatus(revision="bbbbbbbbbb", weight="5%", attempt=1, step="1/3", started_at=NOW),
    metrics=(
        MetricStatus(
            name="errors",
            canary=MetricCounts(requests=10, bad=1),
            stable=MetricCounts(requests=190, bad=2),
            evidence=12,
            verdict="Inconclusive",
            message="More requests are needed.",
        ),
    ),
)
PROMPT_STATUS = PromptVersionStatus(content_hash="3f9c00000000", used_by=("triage",), used_by_count=1)


def write_status(api: Api, manifest: Manifest, status: LLMDeploymentStatus | PromptVersionStatus) -> Answer:
    written = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return api(
        "PATCH",
        f"{collection(manifest)}/{manifest['metadata']['name']}/status",
        {"status": written},
        content_type="application/merge-patch+json",
        fieldValidation="Strict",
    )


@pytest.fixture
def deployment(api: Api) -> Iterator[Manifest]:
    manifest = changed(LLMDEPLOYMENT, "metadata.name", "seen")
    assert api("POST", collection(manifest), manifest).status == 201
    yield manifest
    api("DELETE", f"{collection(manifest)}/seen")


def test_columns_show_the_state_of_a_rollout(api: Api, kubectl: Kubectl, deployment: Manifest) -> None:
    assert write_status(api, deployment, STATUS).status == 200
    heading, row = kubectl("get", "llmdep", "seen").splitlines()
    assert heading.split() == ["NAME", "PHASE", "WEIGHT", "STEP", "MODEL", "PROMPT", "VERDICT", "READY", "AGE"]
    assert row.split()[:-1] == ["seen", "Progressing", "5%", "1/3", "triage", "triage-1.4.0", "Inconclusive", "True"]
    heading, row = kubectl("get", "llmdeployments", "seen", "-o", "wide").splitlines()
    assert heading.split()[9:] == ["STABLE", "CANARY", "MESSAGE"]
    assert row.split()[9:] == ["aaaaaaaaaa", "bbbbbbbbbb", "The", "canary", "is", "held", "at", "5%."]


def test_columns_show_the_content_of_a_prompt(api: Api, kubectl: Kubectl) -> None:
    manifest = changed(PROMPTVERSION, "metadata.name", "seen-1.4.0")
    assert api("POST", collection(manifest), manifest).status == 201
    assert write_status(api, manifest, PROMPT_STATUS).status == 200
    heading, row = kubectl("get", "pver", "seen-1.4.0").splitlines()
    assert heading.split() == ["NAME", "PROMPT", "VERSION", "HASH", "USED", "BY", "AGE"]
    assert row.split()[:-1] == ["seen-1.4.0", "triage", "1.4.0", "3f9c00000000", "1"]


def test_category_serin_holds_both_kinds(kubectl: Kubectl, deployment: Manifest) -> None:
    shown = kubectl("get", "serin", "-o", "name").split()
    assert f"llmdeployment.serin.dev/{deployment['metadata']['name']}" in shown
    resources = kubectl("api-resources", "--categories=serin", "--no-headers")
    assert [line.split()[:2] for line in resources.splitlines()] == [
        ["llmdeployments", "llmdep"],
        ["promptversions", "pver"],
    ]


def test_status_is_stored_whole_and_long_text_is_clipped(api: Api, deployment: Manifest) -> None:
    answer = write_status(api, deployment, STATUS)
    assert answer.status == 200, answer.body
    assert answer.body["status"] == STATUS.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert len(answer.body["status"]["conditions"][0]["message"]) == 4096
    assert answer.body["status"]["canary"]["startedAt"] == "2026-01-02T03:04:05Z"
    assert LLMDeploymentStatus.model_validate(answer.body["status"]).metrics == STATUS.metrics


def test_status_write_does_not_change_the_generation(api: Api, deployment: Manifest) -> None:
    assert write_status(api, deployment, STATUS).body["metadata"]["generation"] == 1


def test_scale_reads_status_and_writes_replicas(api: Api, kubectl: Kubectl, deployment: Manifest) -> None:
    write_status(api, deployment, STATUS)
    path = f"{collection(deployment)}/seen"
    scale = api("GET", f"{path}/scale").body
    assert (scale["spec"], scale["status"]) == (
        {"replicas": 1},
        {"replicas": 4, "selector": "serin.dev/deployment=seen"},
    )
    kubectl("scale", "llmdep", "seen", "--replicas=3")
    assert api("GET", path).body["spec"]["replicas"] == 3


def test_defaults_are_shown(kubectl: Kubectl, deployment: Manifest) -> None:
    spec = json.loads(kubectl("get", "llmdep", deployment["metadata"]["name"], "-o", "json"))["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["paused"] is False
    # Steps and metrics get no defaults: beside an adaptive ramp steps are refused, and in a list a default would always
    # differ from the applied manifest.
    assert spec["rollout"] == {
        "minimumBake": "10m",
        "deadline": "24h",
        "onInconclusive": "Pause",
        "progressDeadline": "30m",
        "drainTimeout": "10m",
    }
    assert spec["analysis"] == {"falseRollbackRate": 0.01, "blindTimeout": "10m", "lossTolerance": 0.1}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("llmdep", "One model served by vLLM; every change is tried as a canary before it is promoted."),
        ("llmdep.spec.rollout", "Maximum time for answers in flight after their pods have left the route."),
        ("llmdep.spec.rollout.ramp.steps", "Default: none, the ramp is adaptive."),
        ("llmdep.spec.analysis.metrics", "Default: `errors` (ErrorRate, Required)"),
        ("llmdep.spec.rollout.ramp.steps.pause.for", "Default: until the command `resume`."),
        ("llmdep.spec.model.source", "Location of the weights: `hf://org/model@<commit>`"),
        ("llmdep.status.canary", "Number of trials of this revision, including the current one."),
        ("pver.spec.messages.content", "Text of the message, with `{{ variable }}` placeholders."),
    ],
)
def test_explain_describes_each_field(kubectl: Kubectl, path: str, words: str) -> None:
    # kubectl breaks lines, so compare words.
    assert words in " ".join(kubectl("explain", path).split())


def test_misspelt_field_is_refused_by_apply(kubectl: Kubectl) -> None:
    manifest = changed(LLMDEPLOYMENT, "spec.rollout.ramp.step", [])
    assert 'unknown field "spec.rollout.ramp.step"' in kubectl("apply", "-f", "-", manifest=manifest, fails=True)


def test_broken_rule_is_one_sentence(kubectl: Kubectl) -> None:
    manifest = changed(LLMDEPLOYMENT, "spec.model.source", "hf://org/model")
    told = kubectl("apply", "-f", "-", manifest=manifest, fails=True)
    assert told.strip() == (
        'The LLMDeployment "triage" is invalid: spec.model.source: Invalid value: "hf://org/model": '
        "Write hf://org/model@commit; a commit or tag is required, so that a revision always has the same weights."
    )


@pytest.mark.parametrize("manifest", [LLMDEPLOYMENT, PROMPTVERSION], ids=lambda manifest: manifest["kind"])
def test_an_object_that_nobody_reconciled_is_not_observed(api: Api, manifest: Manifest) -> None:
    """What kstatus takes for in progress, whatever else is in the status."""
    created = changed(manifest, "metadata.name", "unseen")
    path = collection(manifest)
    assert api("POST", path, created).body["status"] == {"observedGeneration": -1}
    assert api("GET", f"{path}/unseen").body["status"] == {"observedGeneration": -1}
    assert api("DELETE", f"{path}/unseen").status == 200
