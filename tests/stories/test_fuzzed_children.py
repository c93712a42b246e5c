"""Children are damaged at random moments: what serves users is never deleted, and all comes to rest where it should.

Labels, annotations and owners are removed or changed, objects and pods deleted, several at once. The runs are seeded:
SERIN_FUZZ_RUNS sets their number per scenario (half of it for two whole damages at once),
SERIN_FUZZ_SEED the first one.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.api.names import ANNOTATION_PROMOTION
from serin.cluster.port import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
)
from serin.errors import ClusterError
from serin.kube_types import Object
from serin.manifests.adoption import is_owned
from serin.manifests.owner import Owner
from serin.rollout.phases import Phase
from tests.stories.prompts import PromptStory, serves_prompts
from tests.stories.story import OURS, Story

RUNS = int(os.environ.get("SERIN_FUZZ_RUNS", "30"))
FIRST = int(os.environ.get("SERIN_FUZZ_SEED", "0"))
REPAIR_TICKS = 6
"""Ticks of 5 seconds after a damage until every backend with weight has Ready pods again: they load for 5 seconds."""


@dataclass(frozen=True)
class Scenario:
    """A rollout, and where it ends whatever is damaged on the way."""

    weight: str | None
    """Of the canary when the damage begins; None: there is no canary yet."""
    error_rate: float
    end: Phase
    canary_serves: bool
    """Whether the canary has all traffic in the end."""


SCENARIOS = {
    "settled": Scenario(None, 0.01, Phase.STABLE, canary_serves=False),
    "held": Scenario("25%", 0.01, Phase.RAMPING, canary_serves=False),
    "bad": Scenario("25%", 0.5, Phase.ROLLED_BACK, canary_serves=False),
    "good": Scenario("25%", 0.01, Phase.STABLE, canary_serves=True),
}


def wanted_spec(name: str, behaviour: str) -> dict[str, Any]:
    hold = "5h" if name == "held" else "10s"
    rollout = {"ramp": {"steps": [{"weight": 25, "hold": hold}]}, "drainTimeout": "10s", "minimumBake": "0s"}
    metrics = {"metrics": [{"name": "errors", "preset": "ErrorRate"}]}
    return spec(behaviour, replicas=1, rollout=rollout, analysis=metrics)


@pytest.fixture(scope="module")
def worlds() -> dict[str, Story]:
    return {}


async def prepared(worlds: dict[str, Story], name: str) -> Story:
    """A copy of the world in which the damage begins; an earlier stable is recorded, too."""
    if name not in worlds:
        story = Story()
        quick: dict[str, Any] = {"load_seconds": 5, "drain_seconds": 5}
        story.world.behaviours = {kind: Behaviour(**quick) for kind in ("first", "second", "third")}
        story.world.traffic.rps = 1_000
        for behaviour in ("first", "second"):
            story.world.user_applies(wanted_spec("good", behaviour))
            await story.run(0.2)
            await story.until_phase(Phase.STABLE, 10)
        scenario = SCENARIOS[name]
        story.world.user_applies(wanted_spec(name, "third" if scenario.weight else "second"))
        if scenario.weight:
            await story.run(10, lambda s: s.world.status().get("weight") == scenario.weight)
            story.world.behaviours["third"].error_rate = scenario.error_rate
        worlds[name] = story
    story = copy.deepcopy(worlds[name])
    story.world.cluster.clock = lambda: story.world.now
    return story


class Vandal:
    """Damages children at random, and says what it did."""

    def __init__(self, story: Story, seed: int) -> None:
        self.story, self.random = story, random.Random(seed)
        self.deeds: list[str] = []

    def strike_twice(self) -> None:
        """Two damages of different objects at once, whole ones: nothing but the pods is spared."""
        cluster = self.story.world.cluster
        found = [(kind, obj) for kind in OURS for obj in cluster.all(kind)]
        for kind, obj in self.random.sample(found, 2):
            field = self.random.choice(["", "labels", "annotations", "ownerReferences"])
            if field:
                obj["metadata"][field] = [] if field == "ownerReferences" else {}
                cluster.put(obj, manager="vandal")
            else:
                self._delete(obj)
            self.deeds.append(f"{self.story.clock} take {field or 'everything'} off {kind} {obj['metadata']['name']}")

    def strike(self) -> None:
        cluster = self.story.world.cluster
        kind = self.random.choice((*OURS, POD))
        found = [obj for obj in cluster.all(kind) if not obj["metadata"].get("deletionTimestamp")]
        if not found:
            return
        obj = self.random.choice(found)
        deeds: list[Callable[[Object], str]] = [self._delete]
        if kind is not POD:
            deeds += [self._label, self._annotation, self._disown, self._misown]
        deed = self.random.choice(deeds)(obj)
        if deed:
            self.deeds.append(f"{self.story.clock} {deed} {kind} {obj['metadata']['name']}")

    def _delete(self, obj: Object) -> str:
        kind = next(k for k in (*OURS, POD) if k.kind == obj["kind"])
        self.story.world.cluster.remove(kind, NAMESPACE, obj["metadata"]["name"])
        return "delete"

    def _label(self, obj: Object) -> str:
        return self._edit(obj, "labels")

    def _annotation(self, obj: Object) -> str:
        return self._edit(obj, "annotations")

    def _edit(self, obj: Object, field: str) -> str:
        marks = obj["metadata"].get(field)
        if not marks:
            return ""
        name = self.random.choice(sorted(marks))
        if self.random.random() < 0.5:
            del marks[name]
            deed = f"remove {name} of"
        else:
            marks[name] = "something"
            deed = f"change {name} of"
        self.story.world.cluster.put(obj, manager="vandal")
        return deed

    def _disown(self, obj: Object) -> str:
        obj["metadata"]["ownerReferences"] = []
        self.story.world.cluster.put(obj, manager="vandal")
        return "disown"

    def _misown(self, obj: Object) -> str:
        for ref in obj["metadata"].get("ownerReferences") or ():
            if self.random.random() < 0.5:
                ref["uid"] = "of-an-earlier-one"
            else:
                ref.pop("controller", None)
        self.story.world.cluster.put(obj, manager="vandal")
        return "change the owner of"


class Watchman:
    """Checks every write of the operator and every tick."""

    def __init__(self, story: Story) -> None:
        self.story = story
        status = story.world.status()
        self.stable = status["stable"]
        record = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{self.stable['revision']}")
        assert record
        self.before = int(record["metadata"]["annotations"][ANNOTATION_PROMOTION])
        self.promoted = False
        self.weightless = 0

    def after(self, call: Call) -> None:
        """Of the stable's, nothing is deleted before the canary was promoted; the route never."""
        if call.kind is CONTROLLER_REVISION and call.verb == "apply" and call.body:
            annotations = call.body["metadata"].get("annotations") or {}
            other = call.name != f"{NAME}-{self.stable['revision']}"
            self.promoted |= other and int(annotations.get(ANNOTATION_PROMOTION, 0)) > self.before
        if call.verb != "delete":
            return
        assert call.kind is not HTTP_ROUTE
        if not self.promoted:
            assert self.stable["engineRevision"] not in call.name, f"{call} of the stable"
            assert self.stable["revision"] not in call.name, f"{call} of the stable"

    def tick(self) -> None:
        cluster = self.story.world.cluster
        weights = self.story.world.weights()
        route = cluster.find(HTTP_ROUTE, *KEY)
        backends = route["spec"]["rules"][0]["backendRefs"] if route else []
        weighted = [ref["name"] for ref in backends if ref["weight"]]
        ready = [
            bool(cluster.find(SERVICE, NAMESPACE, name))
            and bool(self.story.world.ready_pods(name.removeprefix(f"{NAME}-")))
            for name in weighted
        ]
        self.weightless = 0 if weights and all(ready) else self.weightless + 1


def rest_of(story: Story) -> dict[Kind, list[str]]:
    owner = Owner(*KEY, story.uid)
    found = {kind: story.world.cluster.all(kind) for kind in OURS}
    for objects in found.values():
        for obj in objects:
            assert is_owned(obj, owner), f"{obj['kind']} {obj['metadata']['name']} has no owner"
    return {kind: [obj["metadata"]["name"] for obj in objects] for kind, objects in found.items()}


@pytest.mark.parametrize("reads_fail", [False, True], ids=["", "reads fail"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_damaged_children_cost_nothing_that_serves(
    worlds: dict[str, Story],
    name: str,
    reads_fail: bool,  # noqa: FBT001 - a column of the table
) -> None:
    for seed in range(FIRST, FIRST + RUNS):
        story = await prepared(worlds, name)
        vandal = Vandal(story, seed)
        try:
            await play(story, SCENARIOS[name], vandal, reads_fail=reads_fail)
        except Exception as error:
            deeds = "\n".join(vandal.deeds)
            raise AssertionError(f"{name}, seed {seed}: {error!r}\n{deeds}\n" + "\n".join(story.transcript)) from error


async def play(story: Story, scenario: Scenario, vandal: Vandal, *, reads_fail: bool) -> None:
    watchman = Watchman(story)
    canary = story.world.status().get("canary", {}).get("revision")
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None
    strikes = vandal.random.randint(1, 5)
    quiet = 0
    for _ in range(400):
        if strikes and vandal.random.random() < 0.4:
            for _ in range(vandal.random.randint(1, strikes)):
                vandal.strike()
                strikes -= 1
            quiet = 0
        if reads_fail and quiet < 3 and vandal.random.random() < 0.6:
            await failing_tick(story, watchman, vandal)
            continue
        await guarded_tick(story, watchman)
        watchman.tick()
        quiet += 1
        assert watchman.weightless <= REPAIR_TICKS or strikes, f"{story.clock}: nothing serves"
        if not strikes and quiet > 12 and is_at_rest(story, scenario, canary):
            break
    assert is_at_rest(story, scenario, canary), f"{story.phase} {story.world.weights()} {story.world.status()}"
    left = rest_of(story)
    serving = canary if scenario.canary_serves else watchman.stable["revision"]
    assert f"{NAME}-{serving}" in left[CONTROLLER_REVISION]
    if scenario.weight is None or scenario.end is not Phase.RAMPING:
        assert len(left[DEPLOYMENT]) == len(left[SERVICE]) == len(left[POD_DISRUPTION_BUDGET]) == 1


def is_at_rest(story: Story, scenario: Scenario, canary: str | None) -> bool:
    if story.phase is not scenario.end:
        return False
    if scenario.end is Phase.RAMPING:
        return story.world.status().get("weight") == scenario.weight
    stable = story.world.status()["stable"]["revision"]
    return story.world.weights() == {stable: 10_000} and (stable == canary) is scenario.canary_serves


async def failing_tick(story: Story, watchman: Watchman, vandal: Vandal) -> None:
    """A tick in which one kind cannot be read: nothing is adopted or deleted."""
    kind = vandal.random.choice((*OURS, POD))
    vandal.deeds.append(f"{story.clock} fail to read {kind}")

    def before(call: Call) -> None:
        assert call.verb not in {"adopt", "delete"}, call
        if call.kind is kind and call.verb in {"get", "list"}:
            raise ClusterError("The API server is away.")

    story.world.pass_time(5)
    story.world.cluster.before, story.world.cluster.after = before, watchman.after
    with contextlib.suppress(ClusterError):
        await story.reconciler().reconcile(KEY)
    story.world.cluster.before = story.world.cluster.after = None
    story._note()


async def guarded_tick(story: Story, watchman: Watchman) -> None:
    """A tick in which every write of the operator is checked."""
    story.world.pass_time(5)
    for _ in range(20):
        before = len(story.world.cluster.writes)
        story.world.cluster.after = watchman.after
        try:
            await story.reconciler().reconcile(KEY)
        finally:
            story.world.cluster.after = None
        if len(story.world.cluster.writes) == before:
            return
        story._note()
    raise AssertionError("the operator keeps writing to a world that stands still")


async def prepared_prompt(worlds: dict[str, Story]) -> Story:
    """A copy of the world in which the canary is a prompt in the pods of the stable."""
    if "prompt" not in worlds:
        story = PromptStory()
        story.each_tick = None
        for number, end in ((1, Phase.STABLE), (2, Phase.RAMPING)):
            story.world.user_applies(wanted_spec("held", "good") | {"prompt": {"name": f"triage-{number}"}})
            await story.until_phase(end, 5)
            await story.run(0.5)
        await story.run(10, lambda s: s.world.status().get("weight") == "25%")
        worlds["prompt"] = story
    story = copy.deepcopy(worlds["prompt"])
    story.world.cluster.clock = lambda: story.world.now
    return story


@pytest.mark.parametrize("reads_fail", [False, True], ids=["", "reads fail"])
@pytest.mark.parametrize("name", ["held", "prompt"])
async def test_two_damages_at_once_give_no_canary_more_weight(
    worlds: dict[str, Story],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    reads_fail: bool,  # noqa: FBT001 - a column of the table
) -> None:
    if name == "prompt":
        serves_prompts(monkeypatch)
    for seed in range(FIRST, FIRST + RUNS // 2):
        story = await (prepared_prompt(worlds) if name == "prompt" else prepared(worlds, name))
        vandal = Vandal(story, seed)
        try:
            await play_twice(story, vandal, reads_fail=reads_fail)
        except Exception as error:
            deeds = "\n".join(vandal.deeds)
            raise AssertionError(f"{name}, seed {seed}: {error!r}\n{deeds}\n" + "\n".join(story.transcript)) from error


async def play_twice(story: Story, vandal: Vandal, *, reads_fail: bool) -> None:
    """The canary turns bad or not; it has all traffic at no time, and none in the end if it is bad."""
    canary = story.world.status()["canary"]["revision"]
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None
    watchman, bad = Watchman(story), vandal.random.random() < 0.5
    if bad:
        story.world.revision_error_rates[canary] = 0.5
    vandal.strike_twice()
    for turn in range(24):
        if reads_fail and turn < 6:
            await failing_tick(story, watchman, vandal)
        else:
            await guarded_tick(story, watchman)
        assert story.world.weights().get(canary, 0) <= 2_500, story.clock
        assert not watchman.promoted
        shared = [shares for d in story.world.documents().values() if len(shares := dict(d.shares)) > 1]
        assert all(shares.get(canary, 0) <= 2_500 for shares in shared), story.clock
    assert not bad or not story.world.weights().get(canary), story.world.status()["message"]
