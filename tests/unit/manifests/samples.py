"""Sample specs and records for the tests of manifests, routers and the real API server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from serin.api.llmdeployment import LLMDeploymentSpec
from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.owner import Owner
from serin.manifests.pod_template import render_pod_template
from serin.manifests.split_document import SplitDocument, token_of
from serin.rollout.record import Record, Rejection, Resolved
from serin.rollout.trial import Step, Trial

OWNER = Owner(namespace="default", name="triage", uid="6f1c2a52-6a0e-4a4e-9f0e-0b7d5a1c9e11")
DEFAULTS = EngineDefaults(image="vllm/vllm-openai:v0.32.0")
WITH_MODEL_SERVER = replace(DEFAULTS, model_server_image="serin:0.2.0")
"""Pods with the middleware, which read a split document."""
ENGINE_REVISION = "0123456789"
REVISION = "abcdef0123"
COMMIT = "5ba7e2f1c0d94e6fa2b3c4d5e6f708192a3b4c5d"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

_SMALLEST: dict[str, Any] = {
    "model": {"name": "triage", "source": f"hf://org/model@{COMMIT}"},
    "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
}


def make_spec(**changes: Any) -> LLMDeploymentSpec:
    """The smallest spec, merged with these fields, named as in YAML."""
    return LLMDeploymentSpec.model_validate(_merged(_SMALLEST, changes))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(base[k], v) for k, v in changes.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return base | changes | both


def make_template(spec: LLMDeploymentSpec | None = None, defaults: EngineDefaults = DEFAULTS) -> dict[str, Any]:
    """The pod template of a spec."""
    return render_pod_template(OWNER.name, spec or make_spec(), ENGINE_REVISION, defaults)


def make_document(**changes: Any) -> SplitDocument:
    """A document of an engine with one revision."""
    facts: dict[str, Any] = {
        "sequence": 71,
        "shares": ((REVISION, 10_000),),
        "salt": REVISION,
        "token": token_of(OWNER),
    }
    return SplitDocument(**(facts | changes))


def engine_of(template: dict[str, Any]) -> dict[str, Any]:
    """The container that runs vLLM."""
    containers: list[dict[str, Any]] = template["spec"]["containers"]
    return next(container for container in containers if container["name"] == "engine")


def make_resolved(spec: LLMDeploymentSpec | None = None, **changes: Any) -> Resolved:
    """A resolved revision without a prompt."""
    facts: dict[str, Any] = {
        "revision": REVISION,
        "engine_revision": ENGINE_REVISION,
        "model_name": "triage",
        "model_source": f"hf://org/model@{COMMIT}",
        "image": DEFAULTS.image,
        "pod_template": make_template(spec),
    }
    return Resolved(**(facts | changes))


def make_record(spec: LLMDeploymentSpec | None = None, **changes: Any) -> Record:
    """A record with all optional fields."""
    content = {"messages": [{"role": "system", "content": "Triage."}], "parameters": {"temperature": 0.5}}
    return Record(
        resolved=make_resolved(
            spec, prompt_name="triage-1.4.0", prompt_hash="3f9c00aa11bb", prompt_content=content, **changes
        ),
        number=3,
        promotion=2,
        rejection=Rejection(reason="MoreErrors", message='12 of 40 "bad", stable 0', at=NOON, log=("one", "two")),
        trial=Trial(
            attempt=1,
            against="0000000000",
            steps=(Step(500, timedelta(minutes=10)), Step(None), Step(5000, timedelta(minutes=10))),
            started_at=NOON,
        ),
        handled=("token-1", "token-2"),
    )
