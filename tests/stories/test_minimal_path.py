"""Any one request that fails: a canary that is rejected or unwatched loses its weight all the same, and the status says
why.

The requests are recorded in an undisturbed run, so a new one is covered by itself. `make test` draws half of the
failures of each request, each with or without a failover at that moment; `SERIN_TRIALS=all` plays the whole product.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import Behaviour
from serin.cluster.api_server import cluster_error
from serin.cluster.port import HTTP_ROUTE, LLMDEPLOYMENT, Kind
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from tests.stories.prompts import PromptStory, prompt, serves_prompts
from tests.stories.story import TICK_SECONDS, Story
from tests.stories.test_refused_writes import FAILURES, WHY

ALL = os.environ.get("SERIN_TRIALS") == "all"
BLIND_SECONDS = 60
SLICE_SECONDS = 15
WITHIN = (SLICE_SECONDS + BLIND_SECONDS) / 60 + 2 * TICK_SECONDS / 60
"""Minutes: one slice, blindTimeout, and the ticks at which the story sees time pass."""
QUICK: dict[str, Any] = {
    "replicas": 1,
    "rollout": {"ramp": {"steps": [{"weight": 25, "hold": "1h"}]}, "drainTimeout": "10s"},
    "analysis": {
        "blindTimeout": f"{BLIND_SECONDS}s",
        "metrics": [{"name": "errors", "preset": "ErrorRate"}],
        "prometheus": {"url": "http://prometheus:9090", "authSecretRef": {"name": "prometheus"}},
    },
}
SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"namespace": "default", "name": "prometheus"},
    "data": {"token": "dG9rZW4="},
}
Request = tuple[str, Kind, str]
"""Verb, kind and name; verb `read` is every get and list of the kind, and name `` any."""


def turns_bad(story: Story) -> None:
    story.world.revision_error_rates[story.canary] = 0.9


def gets_unwatched(story: Story) -> None:
    story.world.metrics_error = "Prometheus is away."


CAUSES: dict[str, Callable[[Story], None]] = {"rejected": turns_bad, "unwatched": gets_unwatched}


async def engine_canary() -> Story:
    """A canary with pods of its own, at 25 %."""
    story = Story()
    quick: dict[str, Any] = {"load_seconds": 5, "drain_seconds": 5}
    story.world.behaviours = {"good": Behaviour(**quick), "other": Behaviour(**quick)}
    story.world.cluster.put(SECRET)
    story.world.user_applies(spec(**QUICK))
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("other", **QUICK))
    await story.run(10, lambda s: s.world.status().get("weight") == "25%")
    return story


async def prompt_canary() -> Story:
    """A canary in the pods of the stable, at 25 %."""
    story = PromptStory()
    story.each_tick = None
    story.world.traffic.rps = 100
    story.world.cluster.put(SECRET)
    story.world.user_applies(prompt(1, **QUICK))
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(prompt(2, **QUICK))
    await story.run(10, lambda s: s.world.status().get("weight") == "25%")
    return story


@pytest.fixture(autouse=True)
def _prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    serves_prompts(monkeypatch)


@pytest.fixture(scope="module")
def prepared() -> dict[str, Story]:
    return {}


@pytest.fixture(params=[engine_canary, prompt_canary])
async def story(request: pytest.FixtureRequest, prepared: dict[str, Story]) -> Story:
    """Made once, since it takes most of the time."""
    name = request.param.__name__
    if name not in prepared:
        prepared[name] = await request.param()
    return prepared[name]


def again(story: Story) -> Story:
    copied = copy.deepcopy(story)
    copied.world.cluster.clock = lambda: copied.world.now
    return copied


async def requests_of(story: Story, cause: str) -> list[Request]:
    """Every request of an undisturbed rollback, and every kind whose reads may fail together."""
    calls: dict[Request, None] = {}

    def before(call: Call) -> None:
        calls[call.verb, call.kind, call.name] = None
        if not call.writes:
            calls["read", call.kind, ""] = None

    story = again(story)
    CAUSES[cause](story)
    story.world.cluster.before = before
    await story.run(WITHIN + 0.5)
    assert weight_taken(story)
    return list(calls)


def weight_taken(story: Story) -> bool:
    return [w for w in story.world.weights().values() if w] == [10_000]


def fail(story: Story, request: Request, failure: str) -> None:
    verb, kind, name = request

    def before(call: Call) -> None:
        same = call.verb == verb or (verb == "read" and not call.writes)
        if same and call.kind == kind and name in {"", call.name}:
            raise cluster_error(f"{call.verb} {call.kind} {call.name}", FAILURES[failure], 15)

    story.world.cluster.before = before


def is_answer(request: Request, failure: str) -> bool:
    """Whether the failure is an answer: 404 to a get says that the object does not exist."""
    return failure == "404" and request[0] in {"get", "read"}


def cases(requests: list[Request], cause: str) -> Iterator[tuple[Request, str, bool]]:
    """Request, failure, and whether the operator fails over at that moment."""
    drawn = random.Random(f"minimal {cause}")
    for request in requests:
        for failure in FAILURES:
            if is_answer(request, failure):
                continue
            both = (False, True) if ALL else (drawn.random() < 0.5,)
            if ALL or drawn.random() < 0.5:
                yield from ((request, failure, failover) for failover in both)


async def problem(story: Story, case: tuple[Request, str, bool], cause: str) -> str | None:
    """What is wrong after one request has failed all the time; None if nothing is."""
    (verb, *_), failure, failover = case
    story = again(story)
    story._check = lambda: None  # type: ignore[method-assign]
    CAUSES[cause](story)
    fail(story, case[0], failure)
    if failover:
        story.world.watches.clear()
    if carries_weight(case[0]):
        await story.run(0.5)
        story.world.cluster.before = None
    left = round(60 * WITHIN / TICK_SECONDS)
    while left and not (weight_taken(story) and says_why(story, verb, failure)):
        await story.run(TICK_SECONDS / 60)
        left -= 1
    if weight_taken(story) and says_why(story, verb, failure):
        return None
    return f"weight {story.world.weights()}, {story.world.status()['message']}"


def says_why(story: Story, verb: str, failure: str) -> bool:
    """Whether the status names the failure, or why the canary has lost its weight."""
    said = str(story.world.status()["message"])
    why = "within 15 s" if failure == "timeout" else WHY
    return verb == "apply_status" or any(text in said for text in (why, "rolled back", Reason.BLIND.explanation))


def carries_weight(request: Request) -> bool:
    """Whether the request carries the weight itself, or says whose canary it is: nothing can replace it."""
    verb, kind, name = request
    writes_split = kind == HTTP_ROUTE or name.endswith("-split")
    return (verb == "apply" and writes_split) or (verb == "read" and kind == LLMDEPLOYMENT)


@pytest.mark.parametrize("cause", CAUSES)
async def test_rejected_or_unwatched_canary_loses_weight_whatever_fails(story: Story, cause: str) -> None:
    requests = await requests_of(story, cause)
    found = {}
    for case in cases(requests, cause):
        if (wrong := await problem(story, case, cause)) is not None:
            (verb, kind, name), failure, failover = case
            found[f"{verb} {kind} {name} {failure} failover={failover}"] = wrong
    assert not found, "\n".join(f"{case}: {wrong}" for case, wrong in found.items())


async def test_good_canary_keeps_its_weight_while_reads_fail(story: Story) -> None:
    requests = [request for request in await requests_of(story, "rejected") if request[0] == "read"]
    for request in requests:
        good = again(story)
        good._check = lambda: None  # type: ignore[method-assign]
        weights, phase = good.world.weights(), good.phase
        fail(good, request, "500")
        await good.run(20 / 60)
        assert good.world.weights() == weights, request
        good.world.cluster.before = None
        await good.run(20 / 60)
        assert (good.world.weights(), good.phase) == (weights, phase), request
        assert good.conditions["Ready"][0] == "True", request
