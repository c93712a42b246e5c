"""How pods learn their split: documents, pods of the version before, prompts in the pod, and people who interfere."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

import serin.resolve
from fakes.fake_cluster import Call
from fakes.operator_in_memory import spec
from fakes.world import KEY, NAME, NAMESPACE, Behaviour
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, POD, SERVICE
from serin.errors import Forbidden
from serin.manifests.owner import Owner
from serin.manifests.split_document import render_split, split_name, token_of
from serin.rollout.phases import Phase
from tests.stories.story import QUICK, Story


def quick(**facts: Any) -> Story:
    story = Story(**facts)
    times = {"load_seconds": 5, "drain_seconds": 5}
    story.world.behaviours = {
        "good": Behaviour(**times),
        "better": Behaviour(**times),
        "bad": Behaviour(**times, error_rate=0.5),
    }
    story.world.traffic.rps = 1_000
    return story


def documents(story: Story) -> dict[str, Any]:
    return {
        obj["metadata"]["name"]: obj
        for obj in story.world.cluster.all(CONFIG_MAP)
        if obj["metadata"]["name"].endswith("-split")
    }


def filters(story: Story) -> tuple[bool, bool]:
    """Whether the rule of the route has filters, and whether its backends have."""
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    (rule,) = route["spec"]["rules"]
    return bool(rule.get("filters")), any("filters" in backend for backend in rule["backendRefs"])


def no_request_is_lost(story: Story) -> None:
    assert story.world.traffic.unserved == 0, f"{story.clock}: the route named a Service that does not exist"


async def installed(**facts: Any) -> Story:
    story = quick(**facts)
    story.each_tick = no_request_is_lost
    story.world.user_applies(spec(**QUICK))
    await story.until_phase(Phase.STABLE, 5)
    return story


# The gateway splits.


async def test_gateway_canary_is_counted_by_its_document_and_the_header_of_the_rule() -> None:
    story = await installed()
    stable = story.world.status()["stable"]["revision"]
    story.world.user_applies(spec("better", **QUICK))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    assert filters(story) == (True, False)
    assert all(document.epoch is None for document in story.world.documents().values())
    assert len(documents(story)) == 2
    await story.run(0.5)
    canary = next(revision for revision in story.world.weights() if revision != stable)
    assert {revision for revision, _ in story.world.traffic.totals} == {stable, canary}
    await story.until_phase(Phase.STABLE, 10)
    await story.run(1)
    assert story.world.traffic.unstamped == 0
    assert list(documents(story)) == [split_name(NAME, story.world.status()["stable"]["engineRevision"])], (
        "a document is removed with its engine"
    )


async def test_document_is_written_before_its_deployment_and_removed_after_it() -> None:
    story = await installed()
    story.world.user_applies(spec("bad", **QUICK))
    await story.until_phase(Phase.ROLLED_BACK, 10)
    await story.run(1)
    calls = [
        (c.verb, c.kind)
        for c in story.world.cluster.writes
        if c.verb in {"apply", "delete"}
        and (c.kind is DEPLOYMENT or (c.kind is CONFIG_MAP and c.name.endswith("-split")))
    ]
    assert calls.index(("apply", CONFIG_MAP)) < calls.index(("apply", DEPLOYMENT))
    assert calls.index(("delete", DEPLOYMENT)) < calls.index(("delete", CONFIG_MAP))


async def test_changed_document_reaches_every_pod_by_annotation() -> None:
    story = await installed()
    reveal = copy.deepcopy(spec(**QUICK))
    reveal["routing"]["revealRevision"] = True
    story.world.user_applies(reveal)
    await story.run(0.25)
    (document,) = story.world.documents().values()
    assert document.reveal
    assert [loaded.digest for loaded in story.world.loaded.values()] == [document.digest] * 2
    shown = {pod["metadata"]["annotations"]["serin.dev/split"] for pod in story.world.cluster.all(POD)}
    assert shown == {document.digest}


async def test_refused_annotation_holds_up_nothing() -> None:
    story = quick()

    def refuse(call: Call) -> None:
        if call.verb == "annotate":
            raise Forbidden("patch pods is forbidden")

    story.world.cluster.before = refuse
    story.world.user_applies(spec(**QUICK))
    await story.until_phase(Phase.STABLE, 5)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(1)
    await story.until_phase(Phase.STABLE, 10)
    assert story.conditions["Ready"][0] == "True"


# Pods of the version before.


def renders_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates as Serin 0.1 has recorded them: the middleware, and no document."""
    render = serin.resolve.render_pod_template

    def render_as_before(*arguments: Any) -> dict[str, Any]:
        template: dict[str, Any] = render(*arguments)
        (engine,) = template["spec"]["containers"]
        engine["env"] = [entry for entry in engine["env"] if entry["name"] != "SERIN_SPLIT"]
        engine["volumeMounts"] = [mount for mount in engine["volumeMounts"] if mount["name"] != "serin-split"]
        template["spec"]["volumes"] = [v for v in template["spec"]["volumes"] if v["name"] != "serin-split"]
        return template

    monkeypatch.setattr(serin.resolve, "render_pod_template", render_as_before)


@pytest.mark.parametrize("behaviour", ["better", "bad"])
async def test_stable_of_the_version_before_is_compared_with_a_canary_that_has_a_document(
    monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    with monkeypatch.context() as before:
        renders_as_before(before)
        story = await installed()
        (old,) = story.world.cluster.all(DEPLOYMENT)
        assert documents(story) == {}
        assert filters(story) == (False, True)
    story.world.user_applies(spec(behaviour, **QUICK))
    await story.run(5, lambda s: 2000 in s.world.weights().values())
    assert filters(story) == (False, True), "Envoy would apply the filter of the rule to the old pods too"
    await story.run(1)
    await story.until_phase(Phase.STABLE if behaviour == "better" else Phase.ROLLED_BACK, 10)
    await story.run(1)
    assert story.world.traffic.unstamped == 0
    assert filters(story) == ((True, False) if behaviour == "better" else (False, True))
    assert len(documents(story)) == (behaviour == "better")
    if behaviour == "bad":
        (same,) = story.world.cluster.all(DEPLOYMENT)
        assert same["metadata"]["generation"] == old["metadata"]["generation"], "a pod of the stable was restarted"
    assert len(story.world.cluster.all(SERVICE)) == 1


async def test_trial_between_pods_of_the_version_before_goes_on_under_the_new_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as before:
        renders_as_before(before)
        story = await installed()
        story.world.user_applies(spec("better", **QUICK))
        await story.run(5, lambda s: 2000 in s.world.weights().values())
        await story.run(0.25)
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert route
    del route["metadata"]["annotations"]  # 0.1 wrote none
    story.world.cluster.put(route, manager="serin")
    generations = {d["metadata"]["name"]: d["metadata"]["generation"] for d in story.world.cluster.all(DEPLOYMENT)}
    attempt = story.world.status()["canary"]
    await story.run(0.25)
    assert story.world.status()["canary"]["revision"] == attempt["revision"]
    assert {
        d["metadata"]["name"]: d["metadata"]["generation"] for d in story.world.cluster.all(DEPLOYMENT)
    } == generations
    await story.until_phase(Phase.STABLE, 10)
    await story.run(1)
    assert (story.world.traffic.unstamped, documents(story)) == (0, {})


# The pods split.


def serves_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates whose middleware applies prompts."""
    render = serin.resolve.render_pod_template

    def render_with_prompts(*arguments: Any) -> dict[str, Any]:
        template: dict[str, Any] = render(*arguments)
        template["spec"]["containers"][0]["env"].append({"name": "SERIN_PROMPTS", "value": "1"})
        return template

    monkeypatch.setattr(serin.resolve, "render_pod_template", render_with_prompts)


async def with_prompt(monkeypatch: pytest.MonkeyPatch) -> tuple[Story, str]:
    """A stable with a prompt, and the revision of another prompt that is on trial at 20 % in the same pods."""
    serves_prompts(monkeypatch)
    story = quick()
    story.each_tick = no_request_is_lost
    story.world.user_writes_prompt("triage-1", "Triage the ticket.")
    story.world.user_writes_prompt("triage-2", "Triage the ticket. Answer in JSON.")
    story.world.user_applies(spec(prompt={"name": "triage-1"}, **QUICK))
    await story.until_phase(Phase.STABLE, 5)
    await story.run(0.25)
    stable = story.world.status()["stable"]["revision"]
    story.world.user_applies(spec(prompt={"name": "triage-2"}, **QUICK))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    return story, next(revision for revision in story.world.weights() if revision != stable)


@pytest.mark.parametrize("error_rate", [0.01, 0.5])
async def test_prompt_canary_is_split_in_the_pods_and_the_route_is_untouched(
    monkeypatch: pytest.MonkeyPatch, error_rate: float
) -> None:
    story, canary = await with_prompt(monkeypatch)
    story.world.revision_error_rates[canary] = error_rate
    route = story.world.cluster.find(HTTP_ROUTE, *KEY)
    (deployment,) = story.world.cluster.all(DEPLOYMENT)
    (document,) = story.world.documents().values()
    assert route
    assert (document.shares[1], document.salt) == ((canary, 2000), canary)
    assert document.epoch is not None
    assert document.epoch == document.sequence % 32
    await story.run(0.5)
    await story.until_phase(Phase.STABLE if error_rate < 0.1 else Phase.ROLLED_BACK, 10)
    await story.run(1)
    (document,) = story.world.documents().values()
    serving = story.world.status()["stable"]["revision"]
    assert (serving == canary) == (error_rate < 0.1)
    assert (document.shares, document.epoch) == (((serving, 10_000),), None)
    after = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert after
    assert after["metadata"]["generation"] == route["metadata"]["generation"]
    (same,) = story.world.cluster.all(DEPLOYMENT)
    assert same["metadata"]["generation"] == deployment["metadata"]["generation"]
    assert same["spec"]["replicas"] == QUICK["replicas"]


async def test_missing_pod_blames_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    story, canary = await with_prompt(monkeypatch)
    story.world.behaviours["good"].crash = "OOMKilled"
    for _ in range(6):  # the traffic has nowhere else to go, which a tick would call a fault
        story.world.pass_time(5)
        await story.reconciler().reconcile(KEY)
    record = story.world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{canary}")
    assert record
    assert "serin.dev/rejection" not in record["metadata"]["annotations"]
    (deployment,) = story.world.cluster.all(DEPLOYMENT)
    assert deployment["spec"]["replicas"] == QUICK["replicas"]


async def test_missing_route_scales_no_shared_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    story, _ = await with_prompt(monkeypatch)
    story.world.cluster.remove(HTTP_ROUTE, *KEY)
    story._weights_before.clear()
    await story.run(0.25)
    (deployment,) = story.world.cluster.all(DEPLOYMENT)
    assert deployment["spec"]["replicas"] == QUICK["replicas"]


async def test_engine_canary_after_a_prompt_canary_gets_no_more_than_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    story, prompt = await with_prompt(monkeypatch)
    story.world.user_applies(spec("better", prompt={"name": "triage-2"}, **QUICK))
    await story.run(3, lambda s: 2000 in [w for r, w in s.world.weights().items() if r != prompt])
    assert story.world.weights().get(prompt, 0) == 0
    await story.until_phase(Phase.STABLE, 10)


# People, crashes and losses.


@pytest.mark.parametrize("what", ["edited", "damaged", "deleted", "emptied"])
@pytest.mark.parametrize("split_by", ["gateway", "pods"])
async def test_document_that_a_person_changed_is_restored(
    monkeypatch: pytest.MonkeyPatch, what: str, split_by: str
) -> None:
    if split_by == "pods":
        story, _ = await with_prompt(monkeypatch)
    else:
        story = await installed()
        story.world.user_applies(spec("better", **QUICK))
        await story.run(3, lambda s: 2000 in s.world.weights().values())
    weights = story.world.weights()
    engine, document = min(story.world.documents().items())
    name = split_name(NAME, engine)
    obj = story.world.cluster.find(CONFIG_MAP, NAMESPACE, name)
    assert obj
    if what == "edited":
        owner = Owner(NAMESPACE, NAME, story.uid)
        obj["data"] = render_split(owner, engine, replace(document, token="0" * 16))["data"]
    elif what == "damaged":
        obj["data"]["split.json"] = obj["data"]["split.json"].replace(document.token, "f" * 16)
    elif what == "emptied":
        del obj["data"]
    if what == "deleted":
        story.world.cluster.remove(CONFIG_MAP, NAMESPACE, name)
    else:
        story.world.cluster.put(obj)
    story._weights_before.clear()
    await story.run(0.25)
    restored = story.world.documents()[engine]
    assert restored.token == token_of(Owner(NAMESPACE, NAME, story.uid))
    assert set(story.world.weights()) == set(weights)
    await story.until_phase(Phase.STABLE, 10)


async def test_document_of_somebody_else_is_not_written_and_blocks_the_canary() -> None:
    story = await installed()
    count = len(story.world.cluster.all(DEPLOYMENT))
    story.world.user_applies(spec("better", **QUICK))
    # The name is known only once the canary is, so it is taken from another world.
    other = await installed()
    other.world.user_applies(spec("better", **QUICK))
    await other.run(1)
    (name,) = documents(other).keys() - documents(story).keys()
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "data": {"split.json": "{}"},
    }
    story.world.cluster.put(theirs)
    await story.run(1)
    assert story.phase is Phase.BLOCKED
    assert name in story.world.status()["message"]
    stored = story.world.cluster.find(CONFIG_MAP, NAMESPACE, name)
    assert stored
    assert stored["data"] == theirs["data"]
    assert len(story.world.cluster.all(DEPLOYMENT)) == count
    assert list(story.world.weights().values()) == [10_000]
    story.world.cluster.remove(CONFIG_MAP, NAMESPACE, name)
    await story.run(1)
    await story.until_phase(Phase.STABLE, 10)


async def test_document_above_the_limit_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await installed()
    monkeypatch.setattr("serin.manifests.split_document.MAX_BYTES", 100)
    story.world.user_applies(spec("better", **QUICK))
    await story.run(0.5)
    assert story.phase is Phase.BLOCKED
    assert "the split document has" in story.world.status()["message"]
    assert len(story.world.cluster.all(DEPLOYMENT)) == 1


@pytest.mark.parametrize("error_rate", [0.01, 0.5])
async def test_prompt_canary_survives_the_death_of_the_operator_after_any_write(
    monkeypatch: pytest.MonkeyPatch, error_rate: float
) -> None:
    story, canary = await with_prompt(monkeypatch)
    writes, ended = 0, False
    while not ended:
        again = copy.deepcopy(story)
        again.world.cluster.clock = lambda again=again: again.world.now
        again.world.revision_error_rates[canary] = error_rate
        again.crash_at, again.writes = writes, 0
        await again.until_phase(Phase.STABLE if error_rate < 0.1 else Phase.ROLLED_BACK, 10)
        await again.run(0.5)
        (document,) = again.world.documents().values()
        assert document.shares == ((again.world.status()["stable"]["revision"], 10_000),), f"after write {writes}"
        assert document.epoch is None
        ended, writes = again.crash_at is not None, writes + 1


async def test_prompt_canary_survives_the_loss_of_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    story, canary = await with_prompt(monkeypatch)
    story.each_tick = lambda s: s.world.status_is_lost()
    await story.run(5, lambda s: s.world.weights() == {canary: 10_000})


async def test_lost_documents_do_not_reuse_the_epoch_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    story, canary = await with_prompt(monkeypatch)
    (before,) = story.world.documents().values()
    story.world.cluster.remove(CONFIG_MAP, NAMESPACE, split_name(NAME, next(iter(story.world.documents()))))
    story._weights_before.clear()
    await story.run(0.25)
    (after,) = story.world.documents().values()
    assert after.epoch != before.epoch
    state = story.world.cluster.find(CONFIG_MAP, NAMESPACE, f"{NAME}-serin-evidence")
    assert state
    assert str(after.epoch) in json.dumps(state["data"])
    await story.run(5, lambda s: s.world.weights() == {canary: 10_000})
