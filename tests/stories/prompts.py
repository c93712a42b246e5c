"""The world of prompt trials: pods that apply prompts, a gateway that takes a moment, and what must always be so."""

from __future__ import annotations

from typing import Any

import pytest

import serin.resolve
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, POD
from serin.manifests.controller_revision import read_record
from serin.rollout.phases import Phase
from serin.rollout.ramp import weight_at
from tests.stories.story import QUICK, Story

BAD = 0.5
"""Error rate of a bad prompt."""


def serves_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all templates those of pods that apply prompts."""
    render = serin.resolve.render_pod_template

    def render_with_prompts(*arguments: Any) -> dict[str, Any]:
        template: dict[str, Any] = render(*arguments)
        env = template["spec"]["containers"][0]["env"]
        if all(entry["name"] != "SERIN_PROMPTS" for entry in env):
            env.append({"name": "SERIN_PROMPTS", "value": "1"})
        return template

    monkeypatch.setattr(serin.resolve, "render_pod_template", render_with_prompts)


def prompt(number: int, behaviour: str = "good", **changes: Any) -> dict[str, Any]:
    """A spec with the prompt of this number; `behaviour` chooses the engine."""
    return spec(behaviour, **{**QUICK, "prompt": {"name": f"triage-{number}"}, **changes})


class PromptStory(Story):
    """A story in which no request may be lost, or get a revision above the weight of its trial's step."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        times = {"load_seconds": 5, "drain_seconds": 5}
        self.world.behaviours = {"good": Behaviour(**times), "better": Behaviour(**times)}
        self.world.traffic.rps = 1_000
        self.world.gateway_lags = True
        for number in (1, 2, 3):
            self.world.user_writes_prompt(f"triage-{number}", f"Triage the ticket. Version {number}.")
        self.each_tick = PromptStory.exposes_no_more_than_its_step
        self.is_bad: set[int] = set()
        """Numbers of the records whose revision answers badly."""
        self._counted: dict[str, float] = {}
        self._limits: dict[str, int] = {}

    async def installed(self) -> None:
        """Let the first prompt become the stable."""
        self.world.user_applies(prompt(1))
        await self.until_phase(Phase.STABLE, 5)
        await self.run(0.25)

    async def on_trial(self, number: int = 2, weight: int = 2000) -> str:
        """Apply the prompt of this number and wait for its weight; returns its revision."""
        self.world.user_applies(prompt(number))
        stable = self.world.status()["stable"]["revision"]
        await self.run(3, lambda s: weight in [w for r, w in s.world.weights().items() if r != stable])
        return next(r for r, w in self.world.weights().items() if r != stable and w == weight)

    def exposes_no_more_than_its_step(self) -> None:
        """Of the requests of a tick, no revision got more than its trial's step, or the step of a tick before."""
        assert self.world.traffic.unserved == 0, f"{self.clock}: the route named a Service that does not exist"
        assert self.world.traffic.unstamped == 0, f"{self.clock}: a request was stamped by nobody"
        now: dict[str, float] = {}
        for (revision, _), (requests, _) in self.world.traffic.totals.items():
            now[revision] = now.get(revision, 0.0) + requests
        grown = {revision: requests - self._counted.get(revision, 0.0) for revision, requests in now.items()}
        limits = {}
        for record in map(read_record, self.world.cluster.all(CONTROLLER_REVISION)):
            self._set_error_rate(record.revision, record.number)
            # Pods and gateway take a moment, and an operator that died before it took the weight even longer.
            before = self._limits.get(record.revision, 0)
            limits[record.revision] = (
                10_000 if record.promotion else weight_at(record.trial) if record.trial else before
            )
        for revision, requests in grown.items():
            share = 10_000 * requests / max(1.0, sum(grown.values()))
            limit = max(limits.get(revision, 0), self._limits.get(revision, 0))
            assert share <= limit + 1, f"{self.clock}: {revision} got {share:.0f} of 10,000, and its step is {limit}"
        self._counted, self._limits = now, limits

    def _set_error_rate(self, revision: str, number: int) -> None:
        if number in self.is_bad:
            self.world.revision_error_rates[revision] = BAD


def untouched(story: Story) -> dict[str, Any]:
    """What a trial of a prompt must not change: the route, the Deployments and the pods."""
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    return {
        "route": route["metadata"]["generation"],
        "deployments": {
            d["metadata"]["name"]: d["metadata"]["generation"] for d in story.world.cluster.all(DEPLOYMENT)
        },
        "pods": {p["metadata"]["name"]: p["metadata"]["uid"] for p in story.world.cluster.all(POD)},
    }


def record_of(story: Story, revision: str) -> Any:
    """The stored record of a revision."""
    obj = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{revision}")
    assert obj
    return read_record(obj)
