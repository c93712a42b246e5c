"""Two things are lost at once: no revision gains weight but the one that is known to be the stable."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, SERVICE, Kind
from serin.errors import ClusterError
from serin.manifests.evidence_map import name_of
from serin.manifests.split_document import split_name
from serin.rollout.phases import Phase
from tests.stories.prompts import PromptStory, prompt, serves_prompts
from tests.stories.story import Story

HELD: dict[str, Any] = {
    "replicas": 1,
    "rollout": {"ramp": {"steps": [{"weight": 60, "hold": "5h"}]}, "drainTimeout": "10s", "minimumBake": "0s"},
    "analysis": {"blindTimeout": "60s", "metrics": [{"name": "errors", "preset": "ErrorRate"}]},
}
"""A canary that gets 60 % and keeps it."""


@pytest.fixture(scope="module")
def worlds() -> dict[str, Story]:
    return {}


def unchecked(prepared: Story) -> Story:
    """A copy without the checks of each tick, which need whole records."""
    story = copy.deepcopy(prepared)
    story.world.cluster.clock = lambda: story.world.now
    story.__dict__["_check"] = story.__dict__["_check_weights"] = lambda: None
    story.each_tick = None
    return story


@pytest.fixture
async def engines(worlds: dict[str, Story]) -> Story:
    """A canary with other pods at 60 %."""
    if "engines" not in worlds:
        made = Story()
        made.world.behaviours = {n: Behaviour(load_seconds=5, drain_seconds=5) for n in ("first", "third", "fourth")}
        made.world.traffic.rps = 1_000
        made.world.user_applies(spec("first", **HELD))
        await made.until_phase(Phase.STABLE, 5)
        made.world.user_applies(spec("third", **HELD))
        await made.run(10, lambda s: s.world.status().get("weight") == "60%")
        worlds["engines"] = made
    return unchecked(worlds["engines"])


@pytest.fixture(params=["alone", "an earlier revision is recorded"])
async def prompts(worlds: dict[str, Story], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A canary with another prompt in the pods of the stable at 60 %."""
    serves_prompts(monkeypatch)
    if request.param not in worlds:
        made = PromptStory()
        made.each_tick = None
        if request.param != "alone":
            made.world.behaviours["first"] = Behaviour(load_seconds=5, drain_seconds=5)
            made.world.user_applies(spec("first", **HELD))
            await made.until_phase(Phase.STABLE, 5)
        made.world.user_applies(prompt(1, **HELD))
        if request.param != "alone":
            await made.until_phase(Phase.RAMPING, 5)
            made.world.user_commands(f"promote@{made.canary}#1")
        await made.run(5, lambda s: s.phase is Phase.STABLE and len(s.world.cluster.all(DEPLOYMENT)) == 1)
        await made.run(0.5)
        made.world.user_applies(prompt(2, **HELD))
        await made.run(10, lambda s: s.world.status().get("weight") == "60%")
        worlds[request.param] = made
    return unchecked(worlds[request.param])


def sides(story: Story) -> tuple[str, str]:
    return story.world.status()["stable"]["revision"], story.canary


def delete(story: Story, kind: Kind, name: str) -> None:
    assert story.world.cluster.find(kind, NAMESPACE, name)
    story.world.cluster.remove(kind, NAMESPACE, name)


def strip(story: Story, kind: Kind, field: str, name: str = "") -> None:
    """Take all labels, annotations or owners off all objects of a kind."""
    for obj in story.world.cluster.all(kind):
        if name not in {"", obj["metadata"]["name"]}:
            continue
        story.world.cluster.put(
            obj | {"metadata": obj["metadata"] | {field: [] if field == "ownerReferences" else {}}}, manager="somebody"
        )


def lose_record_and_document(story: Story) -> None:
    status = story.world.status()["stable"]
    delete(story, CONTROLLER_REVISION, f"{NAME}-{status['revision']}")
    delete(story, CONFIG_MAP, split_name(NAME, status["engineRevision"]))


async def keeps_below(story: Story, revision: str, weight: int, minutes: float = 1) -> None:
    """No tick gives a revision more than this."""
    for _ in range(int(minutes * 12)):
        await story.tick()
        assert story.world.weights().get(revision, 0) <= weight, story.clock
        for document in story.world.documents().values():
            if len(story.world.cluster.all(DEPLOYMENT)) > 1:  # each revision has its own
                break
            assert dict(document.shares).get(revision, 0) <= weight, story.clock


async def test_prompt_on_trial_does_not_replace_a_stable_whose_record_and_document_are_lost(prompts: Story) -> None:
    stable, canary = sides(prompts)
    lose_record_and_document(prompts)
    await keeps_below(prompts, canary, 6_000)
    assert prompts.world.status()["stable"]["revision"] == stable


async def test_nothing_is_written_into_pods_whose_stable_cannot_be_known(prompts: Story) -> None:
    lose_record_and_document(prompts)
    prompts.world.user_deletes_prompt("triage-1")
    await prompts.run(1)
    assert (prompts.phase, prompts.conditions["Stalled"]) == (Phase.BLOCKED, ("True", "StableRecordMissing"))
    assert prompts.world.documents() == {}


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.ROLLED_BACK])
async def test_rejected_prompt_does_not_replace_a_stable_whose_record_and_document_are_lost(
    prompts: Story, phase: Phase
) -> None:
    _, canary = sides(prompts)
    prompts.world.revision_error_rates[canary] = 0.9
    await prompts.until_phase(phase, 2)
    lose_record_and_document(prompts)
    await keeps_below(prompts, canary, 0)


async def test_prompt_on_trial_gains_nothing_if_promotion_document_and_route_are_lost(prompts: Story) -> None:
    _, canary = sides(prompts)
    lose_record_and_document(prompts)
    delete(prompts, HTTP_ROUTE, NAME)
    prompts.world.user_deletes_prompt("triage-1")
    await keeps_below(prompts, canary, 6_000)
    assert prompts.phase is Phase.BLOCKED


@pytest.mark.parametrize("rejected", [False, True])
async def test_nothing_is_installed_over_pods_that_run_if_all_promotions_and_the_route_are_lost(
    engines: Story,
    rejected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    stable, canary = sides(engines)
    if rejected:
        engines.world.behaviours["third"].error_rate = 0.9
        await engines.until_phase(Phase.ROLLING_BACK, 1)
    strip(engines, CONTROLLER_REVISION, "annotations")
    engines.world.cluster.remove(HTTP_ROUTE, *KEY)
    await keeps_below(engines, canary, 6_000)
    assert engines.world.status()["stable"]["revision"] == stable
    if rejected:
        await engines.until_phase(Phase.ROLLED_BACK, 2)


@pytest.mark.parametrize("owners", [True, False], ids=["", "and their owners"])
@pytest.mark.parametrize(
    "kinds",
    [(CONTROLLER_REVISION, CONFIG_MAP), (CONTROLLER_REVISION, CONFIG_MAP, DEPLOYMENT, SERVICE, HTTP_ROUTE)],
    ids=["records and documents", "all children"],
)
async def test_children_that_have_all_lost_their_labels_are_found_by_name(
    engines: Story,
    kinds: tuple[Kind, ...],
    owners: bool,  # noqa: FBT001 - a column of the table
) -> None:
    stable, canary = sides(engines)
    for kind in kinds:
        strip(engines, kind, "labels")
        if not owners:
            strip(engines, kind, "ownerReferences")
    await engines.run(0.25)
    assert sides(engines) == (stable, canary)
    assert all(obj["metadata"]["labels"] for kind in kinds for obj in engines.world.cluster.all(kind))
    engines.world.revision_error_rates[canary] = 0.9
    await engines.until_phase(Phase.ROLLED_BACK, 2)
    assert engines.world.weights() == {stable: 10_000}


async def test_backend_without_record_and_pods_serves_nobody(engines: Story) -> None:
    """An old route is restored, or edited by hand."""
    stable, _ = sides(engines)
    engines.world.user_applies(spec("first", **HELD))
    await engines.run(3, lambda s: s.phase is Phase.STABLE and len(s.world.cluster.all(DEPLOYMENT)) == 1)
    route = engines.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    route["spec"]["rules"][0]["backendRefs"][0]["name"] = f"{NAME}-0123456789"
    engines.world.cluster.put(route, manager="restore")
    await engines.run(0.5, lambda s: s.world.weights() == {stable: 10_000})
    await engines.until_phase(Phase.STABLE, 1)


SPECS: dict[str, Any] = {
    "prompt missing": {"prompt": {"name": "not-restored-yet"}},
    "invalid": {"fieldOfTomorrow": True},
}


@pytest.mark.parametrize("asked", ["prompt missing", "invalid", "another revision"])
async def test_canary_is_not_the_stable_if_all_promotions_are_lost(engines: Story, asked: str) -> None:
    stable, canary = sides(engines)
    strip(engines, CONTROLLER_REVISION, "annotations")
    behaviour = "third" if asked in SPECS else "fourth"
    engines.world.user_applies(spec(behaviour, **HELD) | SPECS.get(asked, {}))
    await keeps_below(engines, canary, 6_000)
    assert engines.world.status()["stable"]["revision"] == stable
    assert engines.world.weights()[stable] >= 4_000


async def test_nothing_changes_if_neither_records_nor_trial_state_name_the_stable(engines: Story) -> None:
    before = engines.world.weights()
    strip(engines, CONTROLLER_REVISION, "annotations")
    delete(engines, CONFIG_MAP, name_of(NAME))
    engines.world.user_applies(spec("fourth", **HELD))
    await engines.run(1)
    assert engines.world.weights() == before
    assert engines.conditions["Stalled"] == ("True", "StableRecordMissing")
    assert "says which of them was promoted" in engines.world.status()["message"]


@pytest.fixture
async def orphaned(worlds: dict[str, Story]) -> Story:
    """The record and the PromptVersion of the stable are deleted while a canary has 60 %."""
    if "orphaned" not in worlds:
        made = Story()
        made.world.behaviours = {name: Behaviour(load_seconds=5, drain_seconds=5) for name in ("first", "third")}
        made.world.traffic.rps = 1_000
        made.world.user_writes_prompt("triage-1", "Be brief.")
        made.world.user_applies(spec("first", **HELD, prompt={"name": "triage-1"}))
        await made.until_phase(Phase.STABLE, 5)
        made.world.user_applies(spec("third", **HELD))
        await made.run(10, lambda s: s.world.status().get("weight") == "60%")
        worlds["orphaned"] = made
    story = unchecked(worlds["orphaned"])
    delete(story, CONTROLLER_REVISION, f"{NAME}-{sides(story)[0]}")
    story.world.user_deletes_prompt("triage-1")
    return story


@pytest.mark.parametrize("unread", [None, SERVICE], ids=["", "a read fails"])
@pytest.mark.parametrize("cause", ["bad", "unwatched"])
async def test_bad_or_unwatched_canary_loses_its_weight_while_the_record_of_the_stable_is_missing(
    orphaned: Story, cause: str, unread: Kind | None
) -> None:
    stable, canary = sides(orphaned)
    if cause == "bad":
        orphaned.world.behaviours["third"].error_rate = 0.9
    else:
        orphaned.world.metrics_error = "Prometheus is away."
    if unread:
        fail(orphaned, "list", unread)
    await orphaned.run(2, lambda s: s.world.weights().get(canary, 0) == 0)
    assert orphaned.world.weights()[stable] == 10_000
    assert len(orphaned.world.cluster.all(DEPLOYMENT)) == 2


async def test_good_canary_keeps_its_weight_while_the_record_of_the_stable_is_missing(orphaned: Story) -> None:
    before = orphaned.world.weights()
    await orphaned.run(5)
    assert orphaned.world.weights() == before


async def test_bad_prompt_loses_its_weight_while_the_record_of_the_stable_is_missing(prompts: Story) -> None:
    stable, canary = sides(prompts)
    delete(prompts, CONTROLLER_REVISION, f"{NAME}-{stable}")
    prompts.world.user_deletes_prompt("triage-1")
    await prompts.run(0.5)
    assert prompts.world.weights() == {stable: 4_000, canary: 6_000}
    prompts.world.revision_error_rates[canary] = 0.9
    await prompts.run(2, lambda s: s.world.weights().get(canary, 0) == 0)
    assert prompts.world.weights()[stable] == 10_000


def fail(story: Story, verb: str, kind: Kind) -> None:
    """Let one kind of read fail."""

    def before(call: Call) -> None:
        if (call.verb, call.kind) == (verb, kind):
            raise ClusterError("The API server is away.")

    story.world.cluster.before = before


@pytest.mark.parametrize(
    ("verb", "unread", "damage"),
    [
        ("list", DEPLOYMENT, "record"),
        ("get", CONTROLLER_REVISION, "record"),
        ("get", CONTROLLER_REVISION, "labels of the record"),
        ("list", CONTROLLER_REVISION, "document"),
        ("list", CONTROLLER_REVISION, "labels of the document"),
        ("list", CONFIG_MAP, "labels of the record"),
        ("list", CONFIG_MAP, "record"),
    ],
    ids=str,
)
@pytest.mark.parametrize("error_rate", [0.01, 0.9])
async def test_prompt_gains_no_weight_while_a_read_fails_and_something_is_lost(
    prompts: Story, verb: str, unread: Kind, damage: str, error_rate: float
) -> None:
    stable, canary = sides(prompts)
    engine = prompts.world.status()["stable"]["engineRevision"]
    is_record = "record" in damage
    kind, name = (CONTROLLER_REVISION, f"{NAME}-{stable}") if is_record else (CONFIG_MAP, split_name(NAME, engine))
    fail(prompts, verb, unread)
    if "labels" in damage:
        strip(prompts, kind, "labels", name)
    else:
        delete(prompts, kind, name)
    prompts.world.revision_error_rates[canary] = error_rate
    await keeps_below(prompts, canary, 6_000, minutes=2)
    prompts.world.cluster.before = None
    await keeps_below(prompts, canary, 6_000)
    assert prompts.world.status()["stable"]["revision"] == stable
    if error_rate > 0.5:
        await prompts.run(1, lambda s: s.world.weights() == {stable: 10_000})


def give_another_controller(story: Story, kind: Kind) -> None:
    """Our own reference stays, but not as that of the controller."""
    other = {"apiVersion": "x/v1", "kind": "App", "name": "app", "uid": "app-1", "controller": True}
    for obj in story.world.cluster.all(kind):
        ours = [ref | {"controller": False} for ref in obj["metadata"]["ownerReferences"]]
        metadata = obj["metadata"] | {"ownerReferences": [*ours, other]}
        story.world.cluster.put(obj | {"metadata": metadata}, manager="somebody")


MEMORY = pytest.mark.parametrize("kind", [HTTP_ROUTE, CONFIG_MAP, CONTROLLER_REVISION], ids=str)


async def loses_its_weight(story: Story, kind: Kind) -> None:
    """A bad canary, although its objects have another controller."""
    stable, canary = sides(story)
    give_another_controller(story, kind)
    story.world.revision_error_rates[canary] = 0.9
    await story.until_phase(Phase.ROLLED_BACK, 3)
    assert story.world.weights() == {stable: 10_000}


@MEMORY
async def test_canary_loses_its_weight_although_its_objects_have_another_controller(engines: Story, kind: Kind) -> None:
    await loses_its_weight(engines, kind)


@MEMORY
async def test_prompt_loses_its_weight_although_its_objects_have_another_controller(prompts: Story, kind: Kind) -> None:
    await loses_its_weight(prompts, kind)
