"""An operator that renders otherwise and has other defaults restarts no pod: children come from the record."""

from __future__ import annotations

from typing import Any

import pytest

import serin.resolve
from fakes.operator_in_memory import spec
from serin.cluster.port import DEPLOYMENT
from serin.manifests.engine_defaults import EngineDefaults
from serin.reconciler import Reconciler
from serin.rollout.phases import Phase
from tests.stories.story import Story


class UpgradedStory(Story):
    """The same world under a newer operator."""

    def reconciler(self) -> Reconciler:
        old = super().reconciler()
        return Reconciler(
            cluster=old.cluster,
            router=old.router,
            collector=old.collector,
            telemetry=old.telemetry,
            clock=old.clock,
            defaults=EngineDefaults(image="vllm:newer"),
            policy=old.policy,
        )


def deployments(story: Story) -> dict[str, tuple[int, Any]]:
    found = story.world.cluster.all(DEPLOYMENT)
    return {d["metadata"]["name"]: (d["metadata"]["generation"], d["spec"]["template"]) for d in found}


def change_builders(monkeypatch: pytest.MonkeyPatch) -> None:
    render = serin.resolve.render_pod_template

    def render_otherwise(*arguments: Any) -> dict[str, Any]:
        template = render(*arguments)
        template["spec"]["priorityClassName"] = "newer"
        return template

    monkeypatch.setattr(serin.resolve, "render_pod_template", render_otherwise)


async def test_operator_upgrade_changes_no_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Story()
    old.world.user_writes_prompt("triage-1", "Triage the ticket.")
    old.world.user_applies(spec())
    await old.until_phase(Phase.STABLE)
    old.world.user_applies(spec("better"))
    await old.until_phase(Phase.RAMPING)
    change_builders(monkeypatch)
    before = deployments(old)
    assert len(before) == 2
    new = UpgradedStory(world=old.world)
    writes = len(new.world.cluster.writes)
    await new._turn()
    assert len(new.world.cluster.writes) == writes
    await new.run(0.5)
    assert deployments(new) == before
    await new.until_phase(Phase.STABLE)
    stable = deployments(new)
    new.world.user_applies(spec("better", prompt={"name": "triage-1"}))  # new revision, same pods
    await new.run(1)
    assert deployments(new) == stable


async def test_operator_upgrade_takes_effect_with_next_engine_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_builders(monkeypatch)
    story = UpgradedStory()
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    [(_, template)] = deployments(story).values()
    assert template["spec"]["priorityClassName"] == "newer"
    assert template["spec"]["containers"][0]["image"] == "vllm:newer"
