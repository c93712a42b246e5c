"""Trials of prompts, tick by tick: in the stable's own pods, without a change of the route; with golden transcripts."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from fakes.fake_cluster import Call
from fakes.world import KEY, NAME, NAMESPACE
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, POD
from serin.errors import ClusterError
from serin.manifests.controller_revision import read_record
from serin.rollout.phases import Phase
from tests.stories.prompts import BAD, PromptStory, prompt, record_of, serves_prompts, untouched
from tests.stories.woken import WokenStory

Tell = Callable[[PromptStory], Awaitable[None]]


@pytest.fixture(autouse=True)
def _pods_that_apply_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    serves_prompts(monkeypatch)


async def a_good_prompt_is_promoted_in_the_pods_of_the_stable(story: PromptStory) -> None:
    before = untouched(story)
    canary = await story.on_trial()
    await story.until_phase(Phase.STABLE, 10)
    assert story.world.status()["stable"]["revision"] == canary
    assert untouched(story) == before


async def a_bad_prompt_is_rolled_back_and_remembered(story: PromptStory) -> None:
    before = untouched(story)
    story.is_bad.add(2)
    canary = await story.on_trial()
    await story.until_phase(Phase.ROLLED_BACK, 10)
    assert record_of(story, canary).rejection.reason == "VerdictFailed"
    story.world.user_applies(prompt(1))
    await story.until_phase(Phase.STABLE, 5)
    story.world.user_applies(prompt(2))
    await story.run(1)
    assert story.phase is Phase.ROLLED_BACK
    assert story.world.weights() == {story.world.status()["stable"]["revision"]: 10_000}
    assert untouched(story) == before


async def commands_pause_abort_retry_and_promote_a_prompt(story: PromptStory) -> None:
    before = untouched(story)
    canary = await story.on_trial()
    story.world.user_applies(prompt(2, paused=True))
    await story.run(1)
    assert story.world.weights()[canary] == 2000
    story.world.user_applies(prompt(2))
    story.world.user_commands(f"abort@{canary}#one")
    await story.until_phase(Phase.ROLLED_BACK, 5)
    story.world.user_commands(f"retry@{canary}#two")
    story.ever_failed.discard(canary)  # it may rise again within the same tick
    await story.run(5, lambda s: s.world.weights().get(canary) == 2000)
    story.world.user_commands(f"promote@{canary}#three")
    await story.until_phase(Phase.STABLE, 5)
    assert story.world.status()["stable"]["revision"] == canary
    assert untouched(story) == before


async def a_holdback_keeps_the_old_prompt_for_a_while(story: PromptStory) -> None:
    before = untouched(story)
    rollout = prompt(2)["rollout"] | {"holdback": {"weight": 10, "for": "20s"}}
    story.world.user_applies(prompt(2, rollout=rollout))
    stable = story.world.status()["stable"]["revision"]
    await story.run(10, lambda s: s.world.weights().get(stable) == 1000)
    await story.until_phase(Phase.STABLE, 10)
    assert story.world.status()["stable"]["revision"] != stable
    assert untouched(story) == before


async def a_changed_prompt_in_mid_trial_starts_a_new_trial(story: PromptStory) -> None:
    before = untouched(story)
    first = await story.on_trial(2, 6000)
    second = await story.on_trial(3)
    assert first not in story.world.weights()
    await story.until_phase(Phase.STABLE, 10)
    assert story.world.status()["stable"]["revision"] == second
    assert untouched(story) == before


async def going_back_to_the_prompt_of_the_stable_withdraws_the_canary(story: PromptStory) -> None:
    before = untouched(story)
    canary = await story.on_trial()
    story.world.user_applies(prompt(1))
    await story.run(1, lambda s: s.phase is Phase.ROLLING_BACK)
    await story.until_phase(Phase.STABLE, 5)
    assert canary not in story.world.weights()
    assert untouched(story) == before


async def engine_and_prompt_change_together_as_an_engine_canary(story: PromptStory) -> None:
    story.world.user_applies(prompt(2, "better"))
    await story.run(3, lambda s: 2000 in s.world.weights().values())
    assert len(story.world.cluster.all(DEPLOYMENT)) == 2
    assert all(document.epoch is None for document in story.world.documents().values())
    await story.until_phase(Phase.STABLE, 10)
    assert story.world.status()["stable"]["prompt"]["name"] == "triage-2"
    assert len(story.world.cluster.all(DEPLOYMENT)) == 1


async def a_changed_prompt_in_mid_engine_canary_starts_a_new_trial(story: PromptStory) -> None:
    stable = story.world.status()["stable"]["revision"]
    story.world.user_applies(prompt(2, "better"))
    await story.run(5, lambda s: 6000 in [w for r, w in s.world.weights().items() if r != stable])
    engines = {d["metadata"]["name"] for d in story.world.cluster.all(DEPLOYMENT)}
    pods = {p["metadata"]["uid"] for p in story.world.cluster.all(POD)}
    story.world.user_applies(prompt(3, "better"))
    await story.run(3, lambda s: 2000 in [w for r, w in s.world.weights().items() if r != stable])
    canary = next(r for r, w in story.world.weights().items() if r != stable and w == 2000)
    trial = record_of(story, canary).trial
    assert (trial.against, trial.attempt) == (stable, 1)
    assert {d["metadata"]["name"] for d in story.world.cluster.all(DEPLOYMENT)} == engines
    assert {p["metadata"]["uid"] for p in story.world.cluster.all(POD)} <= pods, "a pod was restarted"
    await story.until_phase(Phase.STABLE, 10)
    assert story.world.status()["stable"]["prompt"]["name"] == "triage-3"


STORIES: tuple[Tell, ...] = (
    a_good_prompt_is_promoted_in_the_pods_of_the_stable,
    a_bad_prompt_is_rolled_back_and_remembered,
    commands_pause_abort_retry_and_promote_a_prompt,
    a_holdback_keeps_the_old_prompt_for_a_while,
    a_changed_prompt_in_mid_trial_starts_a_new_trial,
    going_back_to_the_prompt_of_the_stable_withdraws_the_canary,
    engine_and_prompt_change_together_as_an_engine_canary,
    a_changed_prompt_in_mid_engine_canary_starts_a_new_trial,
)


class WokenPromptStory(PromptStory, WokenStory):
    """A prompt story in which only wake-ups reconcile."""


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_prompt_story_ends_alike_if_only_wake_ups_reconcile(tell: Tell) -> None:
    story = WokenPromptStory(step=1.7)
    await story.installed()
    await tell(story)


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_prompt_story_reads_as_its_golden_transcript(tell: Tell) -> None:
    story = PromptStory()
    await story.installed()
    await tell(story)
    story.read_as_golden(tell.__name__)


# What people read.


async def test_events_of_a_prompt_trial_speak_of_the_pods_and_not_of_the_route() -> None:
    story = PromptStory()
    await story.installed()
    old = story.world.status()["stable"]["revision"]
    installed = len(story.world.cluster.events)
    await story.on_trial()
    assert not [caveat for caveat in story.world.status()["canary"]["caveats"] if "gateway" in caveat]
    await story.until_phase(Phase.STABLE, 10)
    told = {
        event.reason: event.message.partition(" Stable: ")[0].partition(" Canary: ")[0]
        for event in story.world.cluster.events[installed:]
    }
    assert told["CanaryEntering"].startswith(
        "The pods get the canary's weight with their split document; the route stays as it is."
    )
    # The pods have switched to the split before this one, which says nothing about it.
    assert told["Promoted"] == (
        f"The canary has become the stable. Revision {old} loses its weight in the split document of the pods."
    )


# Pods that do not switch.


async def test_rollback_is_complete_only_when_every_pod_has_switched() -> None:
    story = PromptStory()
    await story.installed()
    canary = await story.on_trial()
    story.world.revision_error_rates[canary] = BAD
    (engine,) = story.world.documents()
    late = story.world.pods(engine)[0]["metadata"]["name"]
    story.each_tick = None  # this pod goes on to serve the canary
    story.world.stuck.add(late)
    await story.run(5, lambda s: s.phase is Phase.ROLLING_BACK)
    await story.run(1.5)
    assert story.phase is Phase.ROLLING_BACK
    assert story.world.status()["message"].startswith("1 of 2 pods has not switched yet.")
    assert story.conditions["SplitInForce"] == ("False", "SplitPending")
    assert story.world.weights()[canary] == 0
    story.world.stuck.clear()
    await story.until_phase(Phase.ROLLED_BACK, 2)
    assert canary not in story.world.weights()
    assert story.conditions["SplitInForce"] == ("Unknown", "SplitNotWatched")


@pytest.mark.parametrize("budget", ["permits", "forbids"])
async def test_rollback_evicts_a_pod_that_does_not_switch(budget: str) -> None:
    story = PromptStory()
    await story.installed()
    canary = await story.on_trial()
    (engine,) = story.world.documents()
    late = story.world.pods(engine)[0]["metadata"]["name"]
    # This pod goes on to serve the canary, and the one that replaces it takes its time.
    story.each_tick = lambda s: s._most_ready.clear()
    story.world.stuck.add(late)

    def refuse(call: Call) -> None:
        if call.verb == "evict" and budget == "forbids":
            raise ClusterError("Cannot evict pod as it would violate the pod's disruption budget.")

    story.world.cluster.before = refuse
    story.world.user_commands(f"abort@{canary}#one")
    await story.run(1.75)
    assert late in [pod["metadata"]["name"] for pod in story.world.pods(engine)], "it still had time"
    if budget == "permits":
        await story.until_phase(Phase.ROLLED_BACK, 2)
        await story.run(0.25)
        assert late not in [pod["metadata"]["name"] for pod in story.world.pods(engine)]
        assert len(story.world.pods(engine)) == 2
    else:
        await story.run(2)
        assert story.phase is Phase.ROLLING_BACK
        assert f"Pod {late} still uses an earlier split document" in story.world.status()["message"]
        assert "disruption budget" in story.world.status()["message"]


async def test_pods_without_samples_are_never_taken_for_switched() -> None:
    story = PromptStory()
    await story.installed()
    canary = await story.on_trial()
    story.world.user_commands(f"abort@{canary}#one")
    story.world.metrics_error = "Prometheus is down."
    await story.run(3)
    assert story.phase is Phase.ROLLING_BACK
    assert "It is not known whether the 2 pods have switched" in story.world.status()["message"]
    assert story.conditions["SplitInForce"] == ("Unknown", "SplitPending")
    assert story.world.weights()[canary] == 0
    story.world.metrics_error = None
    await story.until_phase(Phase.ROLLED_BACK, 1)


async def test_revision_leaves_the_document_once_its_requests_have_ended() -> None:
    story = PromptStory()
    await story.installed()
    story.world.behaviours["good"].drain_seconds = 20
    canary = await story.on_trial()
    story.world.user_commands(f"abort@{canary}#one")
    await story.run(1, lambda s: s.world.weights().get(canary) == 0)
    began = story.world.now
    await story.run(1, lambda s: canary not in s.world.weights())
    assert timedelta(seconds=20) <= story.world.now - began < timedelta(seconds=35)
    story.world.behaviours["good"].drain_seconds = 1_000_000
    story.world.user_commands(f"retry@{canary}#two")
    story.ever_failed.discard(canary)  # it may rise again within the same tick
    await story.run(2, lambda s: s.world.weights().get(canary, 0) > 0)
    story.world.user_commands(f"abort@{canary}#three")
    await story.run(1, lambda s: s.world.weights().get(canary) == 0)
    await story.run(1.5, lambda s: canary not in s.world.weights())  # the drain timeout is 30 s


async def test_third_prompt_enters_when_the_second_has_left_its_pods() -> None:
    story = PromptStory()
    await story.installed()
    second = await story.on_trial()
    (engine,) = story.world.documents()
    stable = story.world.status()["stable"]["revision"]
    late = story.world.pods(engine)[0]["metadata"]["name"]
    story.each_tick = None  # this pod goes on to serve the second prompt
    story.world.stuck.add(late)
    story.world.user_applies(prompt(3))
    await story.run(1.5)
    [document] = story.world.documents().values()
    assert dict(document.shares) == {stable: 10_000, second: 0}
    assert document.prompts.keys() == {stable, second}, "the second keeps its content"
    status = story.world.status()
    third = status["canary"]["revision"]
    assert story.phase is Phase.PREPARING
    assert status["message"] == (
        f"Revision {third} enters when the one before it has left its pods. 1 of 2 pods has not switched yet."
    )
    story.world.stuck.clear()
    await story.run(2, lambda s: s.world.weights().get(third) == 2000)
    assert second not in story.world.weights()


async def test_third_prompt_does_not_keep_a_pod_at_one_that_was_rolled_back() -> None:
    """Only a revision that is in the document is known to leave, so that the pods which still serve it are evicted."""
    story = PromptStory()
    await story.installed()
    second = await story.on_trial()
    (engine,) = story.world.documents()
    late = story.world.pods(engine)[0]["metadata"]["name"]
    story.each_tick = lambda s: s._most_ready.clear()
    story.world.stuck.add(late)
    story.world.user_commands(f"abort@{second}#one")
    await story.run(0.5, lambda s: s.world.weights().get(second) == 0)
    story.world.user_applies(prompt(3))
    await story.run(4, lambda s: 2000 in s.world.weights().values())
    assert 2000 in story.world.weights().values()
    assert late not in [pod["metadata"]["name"] for pod in story.world.pods(engine)]


async def test_refusing_pod_is_a_condition() -> None:
    story = PromptStory()
    await story.installed()
    await story.on_trial()
    (engine,) = story.world.documents()
    pod = story.world.pods(engine)[0]["metadata"]["name"]
    story.world.refusing.add(pod)
    await story.run(0.25)
    assert story.conditions["SplitInForce"] == ("False", "SplitRefused")
    (condition,) = [c for c in story.world.status()["conditions"] if c["type"] == "SplitInForce"]
    assert pod in condition["message"]


# What the pods do blames no prompt.


@pytest.mark.parametrize("crash", ["CrashLoopBackOff", "OOMKilled"])
async def test_crash_of_shared_pods_blames_no_prompt(crash: str) -> None:
    story = PromptStory()
    await story.installed()
    canary = await story.on_trial()
    before = untouched(story)
    story.world.behaviours["good"].crash = crash
    for _ in range(6):  # the traffic has nowhere else to go, which a tick would call a fault
        story.world.pass_time(5)
        await story.reconciler().reconcile(KEY)
    assert record_of(story, canary).rejection is None
    assert untouched(story) == before


async def test_missing_route_scales_no_shared_pods() -> None:
    story = PromptStory()
    await story.installed()
    await story.on_trial()
    replicas = untouched(story)["deployments"]
    story.world.cluster.remove(HTTP_ROUTE, *KEY)
    story._weights_before.clear()
    await story.run(0.25)
    assert untouched(story)["deployments"] == replicas


# Crashes and losses.


async def promoted(story: PromptStory) -> None:
    story.world.user_applies(prompt(2))
    await story.run(0.5)
    await story.until_phase(Phase.STABLE, 10)


async def rolled_back(story: PromptStory) -> None:
    story.is_bad.add(2)
    story.world.user_applies(prompt(2))
    await story.until_phase(Phase.ROLLED_BACK, 10)


async def changed(story: PromptStory) -> None:
    story.world.user_applies(prompt(2))
    await story.run(0.5)
    story.world.user_applies(prompt(3))
    await story.run(0.5)
    await story.until_phase(Phase.STABLE, 10)


async def changed_in_mid_engine_canary(story: PromptStory) -> None:
    story.world.user_applies(prompt(2, "better"))
    await story.run(0.75)
    story.world.user_applies(prompt(3, "better"))
    await story.run(0.5)
    await story.until_phase(Phase.STABLE, 10)


ENDS: tuple[Tell, ...] = (promoted, rolled_back, changed, changed_in_mid_engine_canary)


def end_of(story: PromptStory) -> object:
    """How the world is in the end: phase, prompt, split and children."""
    documents = story.world.documents()
    children = {
        str(kind): [o["metadata"]["name"] for o in story.world.cluster.all(kind)] for kind in (DEPLOYMENT, CONFIG_MAP)
    }
    prompt_name = story.world.status()["stable"]["prompt"]["name"]
    shares = {engine: (document.shares, document.epoch) for engine, document in documents.items()}
    return story.phase, prompt_name, story.world.weights(), shares, children


async def told(tell: Tell, begun: PromptStory, **facts: object) -> PromptStory:
    """A story that goes on from a world that was begun, and then has the time to finish what was interrupted."""
    story = copy.deepcopy(begun)
    story.world.cluster.clock = lambda: story.world.now
    for name, value in facts.items():
        setattr(story, name, value)
    story.writes = 0
    await tell(story)
    await story.run(1)
    return story


@pytest.mark.parametrize("tell", ENDS, ids=lambda tell: tell.__name__)
async def test_prompt_trial_survives_a_crash_after_any_write(tell: Tell) -> None:
    begun = PromptStory()
    await begun.installed()
    calm = await told(tell, begun)
    assert calm.writes > 0
    for number in range(calm.writes):
        story = await told(tell, begun, crash_at=number)
        assert end_of(story) == end_of(calm), f"crash after write {number}:\n" + "\n".join(story.transcript)


@pytest.mark.parametrize("tell", ENDS, ids=lambda tell: tell.__name__)
async def test_prompt_trial_survives_the_loss_of_the_status(tell: Tell) -> None:
    begun = PromptStory()
    await begun.installed()
    calm = await told(tell, begun)

    def forget(story: PromptStory) -> None:
        story.exposes_no_more_than_its_step()
        story.world.status_is_lost()

    assert end_of(await told(tell, begun, each_tick=forget)) == end_of(calm)


async def test_lost_document_does_not_reuse_the_epoch_in_force() -> None:
    story = PromptStory()
    await story.installed()
    canary = await story.on_trial()
    ((engine, before),) = story.world.documents().items()
    story.world.cluster.remove(CONFIG_MAP, NAMESPACE, f"{NAME}-{engine}-split")
    story._weights_before.clear()
    await story.run(0.25)
    (after,) = story.world.documents().values()
    assert after.epoch != before.epoch
    await story.run(5, lambda s: s.world.weights() == {canary: 10_000})


async def test_history_of_prompts_is_bounded() -> None:
    story, limit = PromptStory(), 2
    for number in range(4, 12):
        story.world.user_writes_prompt(f"triage-{number}", f"Triage the ticket. Version {number}.")
    await story.installed()
    first = story.world.status()["stable"]["revision"]
    for number in range(2, 12):
        story.world.user_applies(prompt(number, revisionHistoryLimit=limit))
        await story.run(1)
    await story.until_phase(Phase.STABLE, 10)
    await story.run(1)
    found = {record.revision: record for record in map(read_record, story.world.cluster.all(CONTROLLER_REVISION))}
    assert first in found, "the Deployment was made from its template"
    assert story.world.status()["stable"]["revision"] in found
    assert len(found) == 2 + limit
