"""Whole rollouts, tick by tick; each transcript is compared with the golden file of the story's name.

A story that is meant to change rewrites its file when SERIN_GOLDEN=write is set; the diff is then read by a person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fakes.operator_in_memory import spec
from fakes.world import KEY, SLOW, Behaviour
from serin.cluster.port import HTTP_ROUTE
from serin.rollout.phases import Phase
from tests.stories.story import HELD, Story
from tests.stories.woken import WokenStory

Tell = Callable[[Story], Awaitable[None]]


async def install(story: Story) -> None:
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)


async def good_canary_is_promoted(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def bad_canary_is_rolled_back_and_remembered(story: Story) -> None:
    story.world.behaviours["bad"] = Behaviour(error_rate=0.5)
    await install(story)
    story.world.user_applies(spec("bad"))
    await story.until_phase(Phase.ROLLED_BACK)
    story.world.user_applies(spec("bad"))
    await story.run(20)
    assert story.phase is Phase.ROLLED_BACK
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("bad"))
    await story.run(5)
    assert story.phase is Phase.ROLLED_BACK


async def crashing_canary_gets_no_traffic(story: Story) -> None:
    story.world.behaviours["crash"] = Behaviour(crash="CrashLoopBackOff")
    await install(story)
    story.world.user_applies(spec("crash"))
    await story.until_phase(Phase.ROLLED_BACK)


async def canary_that_is_never_ready_is_rolled_back(story: Story) -> None:
    story.world.behaviours["stuck"] = Behaviour(load_seconds=float("inf"))
    await install(story)
    story.world.user_applies(spec("stuck"))
    await story.until_phase(Phase.ROLLED_BACK)


async def canary_without_a_node_waits_and_is_not_rejected(story: Story) -> None:
    story.world.behaviours["big"] = Behaviour(schedulable=False)
    await install(story)
    story.world.user_applies(spec("big"))
    await story.run(15)
    assert story.phase is Phase.PREPARING
    assert story.conditions["Stalled"] == ("True", "WaitingForCapacity")
    assert story.conditions["CapacityAvailable"][0] == "False"
    assert story.conditions["Ready"][0] == "True"
    story.world.behaviours["big"].schedulable = True
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def canary_without_metrics_is_held(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    story.world.metrics_error = "Prometheus does not answer; check that it runs."
    await story.run(9)
    assert story.phase is Phase.RAMPING
    assert story.conditions["MetricsAvailable"][0] == "False"
    await story.run(11)
    assert story.conditions["Reconciling"] == ("True", "Blind")
    assert story.world.status()["weight"] == "0%"
    story.world.metrics_error = None
    await story.until_phase(Phase.STABLE)


async def canary_without_traffic_is_held(story: Story) -> None:
    await install(story)
    story.world.traffic.rps = 0
    story.world.user_applies(spec("better"))
    await story.run(20)
    assert story.phase is Phase.RAMPING
    assert story.conditions["Reconciling"] == ("True", "NoTraffic")
    story.world.traffic.rps = 100
    await story.until_phase(Phase.STABLE)


async def traffic_that_stops_holds_the_step(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.run(10, lambda s: s.world.status().get("step") == "2/3")
    story.world.traffic.rps = 0
    await story.run(10)
    assert story.conditions["Reconciling"] == ("True", "NoTraffic")
    story.world.traffic.rps = 100
    await story.until_phase(Phase.STABLE)


async def an_autoscaler_in_mid_canary_takes_no_more_than_the_pods_carry(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.run(20, lambda s: s.world.status().get("weight") == "50%")
    story.world.user_applies(spec("better", replicas=8))
    await story.run(0.5)
    assert story.world.status()["weight"] == "37.5%"
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def a_command_from_another_time_does_nothing(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    canary = story.canary
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)
    story.world.user_commands(f"promote@{canary}#1")
    await story.run(1)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    await story.run(0.5)
    assert story.phase is Phase.RAMPING


async def a_route_of_our_name_that_is_not_ours_is_left_alone(story: Story) -> None:
    await install(story)
    stolen = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert stolen
    # Without any owner it would be adopted.
    stolen["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "other", "uid": "x", "controller": True}
    ]
    before = story.world.cluster.put(stolen)["spec"]
    story.world.user_applies(spec("better"))
    await story.run(2)
    assert story.conditions["Accepted"] == ("False", "RouteRefused")
    assert story.conditions["Stalled"][0] == "True"
    after = story.world.cluster.find(HTTP_ROUTE, *KEY)
    assert after
    assert after["spec"] == before


async def pauses_timed_and_indefinite(story: Story) -> None:
    steps = [{"weight": 10, "hold": "30s"}, {"pause": {"for": "2m"}}, {"pause": {}}, {"weight": 50, "hold": "30s"}]
    rollout = {"ramp": {"steps": steps}, "minimumBake": "0s", "drainTimeout": "5m"}
    story.world.user_applies(spec(rollout=rollout))
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("better", rollout=rollout))
    await story.until_phase(Phase.PAUSED)
    await story.run(10)
    assert story.phase is Phase.PAUSED
    story.world.user_commands(f"resume@{story.canary}#1")
    await story.until_phase(Phase.STABLE)


async def paused_freezes_the_ramp_but_not_a_rollback(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("turning"))
    story.world.behaviours["turning"] = Behaviour()
    await story.until_phase(Phase.RAMPING)
    await story.run(1)
    story.world.user_applies(spec("turning", paused=True))
    await story.run(20)
    assert story.phase is Phase.PAUSED
    story.world.behaviours["turning"].error_rate = 0.6
    await story.until_phase(Phase.ROLLED_BACK)


async def commands_promote_abort_retry_and_skip(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    canary = story.canary
    story.world.user_commands(f"abort@{canary}#a")
    await story.until_phase(Phase.ROLLED_BACK)
    story.world.user_commands(f"retry@{canary}#b")
    await story.until_phase(Phase.RAMPING)
    story.world.user_commands(f"skip@{canary}#c")
    await story.run(1)
    story.world.user_commands(f"abort@{canary}#a")  # a token that was handled: nothing happens
    await story.run(1)
    assert story.phase is not Phase.ROLLED_BACK
    story.world.user_commands(f"promote@{canary}#d")
    await story.until_phase(Phase.STABLE)


async def a_new_revision_in_mid_canary_starts_a_new_canary(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("first"))
    await story.until_phase(Phase.RAMPING)
    await story.run(2)
    story.world.user_applies(spec("second"))
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def going_back_to_the_stable_aborts_the_canary(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.until_phase(Phase.RAMPING)
    await story.run(2)
    story.world.user_applies(spec())
    await story.until_phase(Phase.ROLLING_BACK)
    await story.until_phase(Phase.STABLE)


async def pods_lost_in_mid_canary_take_the_traffic_with_them(story: Story) -> None:
    await install(story)
    story.world.behaviours["flaky"] = Behaviour()
    story.world.user_applies(spec("flaky"))
    await story.until_phase(Phase.RAMPING)
    await story.run(2)
    story.world.behaviours["flaky"].load_seconds = float("inf")
    # A pod stops being Ready between two looks of the operator: that tick it may still carry its weight.
    story.world.pass_time(5)
    await story._turn()
    await story.run(1)
    assert story.conditions["Reconciling"] == ("True", "CanaryNotReady")
    story.world.behaviours["flaky"].load_seconds = 60
    await story.until_phase(Phase.STABLE)


async def a_prompt_moves_nothing_where_pods_have_no_middleware(story: Story) -> None:
    story.model_server = None
    story.world.user_writes_prompt("triage-1", "Triage the ticket.")
    story.world.user_writes_prompt("triage-2", "Triage the ticket. Answer in JSON.")
    story.world.user_applies(spec(prompt={"name": "triage-1"}))
    await story.until_phase(Phase.STABLE)
    weights = story.world.weights()
    story.world.user_applies(spec(prompt={"name": "triage-2"}))
    await story.run(5)
    assert story.phase is Phase.STABLE
    assert story.conditions["Accepted"] == ("True", "PromptNotServed")
    assert story.world.weights() == weights
    story.world.user_deletes_prompt("triage-2")
    await story.run(1)
    assert story.conditions["Accepted"] == ("True", "PromptSourceMissing")


async def a_missing_prompt_blocks_and_the_stable_serves_on(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", prompt={"name": "nowhere"}))
    await story.until_phase(Phase.BLOCKED)
    assert story.conditions["Ready"] == ("False", "PromptNotFound")
    assert story.conditions["Stalled"][0] == "True"
    assert story.conditions["Available"][0] == "True"
    story.world.user_writes_prompt("nowhere", "Here it is.")
    await story.until_phase(Phase.STABLE)


async def the_first_install_that_crashes_says_so(story: Story) -> None:
    story.world.behaviours["crash"] = Behaviour(crash="OOMKilled")
    story.world.user_applies(spec("crash"))
    await story.run(5)
    assert story.phase is Phase.INSTALLING
    assert story.conditions["Stalled"] == ("True", "CanaryCrashed")
    story.world.user_applies(spec())
    await story.until_phase(Phase.STABLE)


def bad_answers(story: Story, revision: str) -> float:
    """How many answers of a revision were bad, by the world's own count."""
    return sum(bad for (served, _), (_, bad) in story.world.traffic.totals.items() if served == revision)


ADAPTIVE: dict[str, Any] = {"ramp": {"adaptive": {"blastBudget": 2, "maxWeight": 25}}, "minimumBake": "2m"}


async def an_adaptive_ramp_gives_a_good_canary_more_and_more(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", rollout=ADAPTIVE))
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def an_adaptive_ramp_costs_few_bad_answers(story: Story) -> None:
    story.world.behaviours["bad"] = Behaviour(error_rate=0.9)
    await install(story)
    story.world.user_applies(spec("bad", rollout=ADAPTIVE))
    await story.until_phase(Phase.RAMPING)
    canary = story.canary
    await story.until_phase(Phase.ROLLED_BACK)
    assert bad_answers(story, canary) < 20


async def an_adaptive_ramp_takes_back_what_turns_bad(story: Story) -> None:
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    story.world.user_applies(spec("turning", rollout=ADAPTIVE | {"minimumBake": "1h"}))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    await story.run(5)
    story.world.behaviours["turning"].error_rate = 0.03
    await story.until_phase(Phase.ROLLED_BACK)


DEFAULT: dict[str, Any] = {"minimumBake": "2m"}
"""Without a ramp."""


def percent(story: Story) -> float:
    return float((story.world.status().get("weight") or "0%").rstrip("%"))


async def the_default_ramp_gives_a_good_canary_up_to_half(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", rollout=DEFAULT | {"minimumBake": "10m"}))
    await story.run(20, lambda s: 15 < percent(s) <= 25)
    await story.run(20, lambda s: percent(s) == 50)
    assert story.world.status()["step"] == "adaptive"
    await story.until_phase(Phase.STABLE)


async def the_default_ramp_costs_few_bad_answers(story: Story) -> None:
    story.world.behaviours["bad"] = Behaviour(error_rate=0.9)
    await install(story)
    story.world.user_applies(spec("bad", rollout=DEFAULT))
    await story.until_phase(Phase.RAMPING)
    canary = story.canary
    await story.until_phase(Phase.ROLLED_BACK)
    assert bad_answers(story, canary) < 20


async def pods_without_middleware_are_counted_by_the_gateway(story: Story) -> None:
    story.model_server = None
    story.world.behaviours["bad"] = Behaviour(error_rate=0.5)
    await install(story)
    story.world.user_applies(spec("better", rollout=ADAPTIVE))
    await story.until_phase(Phase.RAMPING)
    assert any("no middleware" in caveat for caveat in story.world.status()["canary"]["caveats"])
    await story.until_phase(Phase.STABLE)
    story.world.user_applies(spec("bad", rollout=ADAPTIVE))
    await story.until_phase(Phase.ROLLED_BACK)


HELD_BACK: dict[str, Any] = spec()["rollout"] | {"holdback": {"weight": 2, "for": "10m"}}


async def a_holdback_that_stays_good_ends_in_the_promotion(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", rollout=HELD_BACK))
    await story.run(30, lambda s: s.world.status().get("step") == "holdback")
    await story.until_phase(Phase.STABLE)


async def a_holdback_that_turns_bad_brings_the_old_stable_back(story: Story) -> None:
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    stable = story.world.status()["stable"]["revision"]
    story.world.user_applies(spec("turning", rollout=HELD_BACK))
    await story.run(30, lambda s: s.world.weights().get(stable) == 200)
    await story.run(3)
    story.world.behaviours["turning"].error_rate = 0.5
    await story.until_phase(Phase.ROLLED_BACK)
    assert story.world.weights() == {stable: 10_000}


async def a_minimum_bake_outlasts_the_steps(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better", rollout=spec()["rollout"] | {"minimumBake": "20m"}))
    await story.run(20, lambda s: s.conditions["Reconciling"][1] == "Baking")
    await story.until_phase(Phase.STABLE)


def doubtful(policy: str) -> dict[str, Any]:
    """Worse than the tolerance and not beyond the margin: neither proven nor rejected before the deadline."""
    rollout = {"deadline": "10m", "onInconclusive": policy}
    analysis = {"metrics": [{"name": "errors", "preset": "ErrorRate", "margin": 3}]}
    return spec("doubtful", rollout=spec()["rollout"] | rollout, analysis=analysis)


async def at_the_deadline_a_person_is_asked(story: Story) -> None:
    story.world.behaviours["doubtful"] = Behaviour(error_rate=0.02)
    await install(story)
    story.world.user_applies(doubtful("Pause"))
    await story.run(20, lambda s: s.conditions["Stalled"][0] == "True")
    assert story.conditions["Stalled"] == ("True", "Inconclusive")
    assert story.conditions["Ready"][0] == "True"
    await story.run(5)
    assert story.world.status()["weight"] == "50%"
    story.world.user_commands(f"promote@{story.canary}#1")
    await story.until_phase(Phase.STABLE)


async def at_the_deadline_the_doubtful_is_promoted(story: Story) -> None:
    story.world.behaviours["doubtful"] = Behaviour(error_rate=0.02)
    await install(story)
    story.world.user_applies(doubtful("Promote"))
    await story.until_phase(Phase.PROMOTING)
    await story.until_phase(Phase.STABLE)


async def at_the_deadline_the_doubtful_is_rolled_back(story: Story) -> None:
    story.world.behaviours["doubtful"] = Behaviour(error_rate=0.02)
    await install(story)
    story.world.user_applies(doubtful("Rollback"))
    await story.until_phase(Phase.ROLLED_BACK)
    assert story.world.status()["rejected"]["reason"] == "Inconclusive"


async def evidence_that_is_lost_begins_the_trial_anew(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    story.world.evidence_is_lost()
    await story.run(0.5)
    assert story.world.status()["canary"]["attempt"] == 2
    await story.until_phase(Phase.STABLE)


async def an_operator_that_was_away_goes_on_where_it_was(story: Story) -> None:
    await install(story)
    story.world.user_applies(spec("better"))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    before = story.world.weights()
    story.world.operator_is_away(20 * 60)
    assert story.world.weights() == before
    await story.run(0.5)
    assert story.world.status()["canary"]["attempt"] == 1
    assert story.world.status()["metrics"][0]["canary"]["requests"] > 20 * 60 * 100 * 0.2
    await story.until_phase(Phase.STABLE)


async def a_canary_that_turned_bad_while_the_operator_was_away_is_rolled_back_at_once(story: Story) -> None:
    story.world.behaviours["turning"] = Behaviour()
    await install(story)
    story.world.user_applies(spec("turning"))
    await story.run(20, lambda s: s.world.status().get("weight") == "25%")
    story.world.behaviours["turning"].error_rate = 0.5
    story.world.operator_is_away(20 * 60)
    await story.run(0.25)
    assert story.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


async def a_slow_canary_is_caught_by_its_first_tokens(story: Story) -> None:
    story.world.behaviours["slow"] = Behaviour(first_token=SLOW)
    await install(story)
    # The world's pods have no split document, so the preset would be Advisory.
    own = {"name": "ttft", "histogram": {"buckets": "serin_time_to_first_token_seconds_bucket"}}
    metrics = [{"name": "errors", "preset": "ErrorRate"}, own]
    story.world.user_applies(spec("slow", analysis={"metrics": metrics}))
    await story.until_phase(Phase.ROLLED_BACK)
    rejected = story.world.status()["rejected"]
    assert rejected["message"].startswith("ttft: the canary is worse than the stable")
    story.world.user_applies(spec("better", analysis={"metrics": metrics}))
    await story.until_phase(Phase.STABLE)


STORIES: tuple[Tell, ...] = (
    good_canary_is_promoted,
    bad_canary_is_rolled_back_and_remembered,
    crashing_canary_gets_no_traffic,
    canary_that_is_never_ready_is_rolled_back,
    canary_without_a_node_waits_and_is_not_rejected,
    canary_without_metrics_is_held,
    canary_without_traffic_is_held,
    traffic_that_stops_holds_the_step,
    an_autoscaler_in_mid_canary_takes_no_more_than_the_pods_carry,
    a_command_from_another_time_does_nothing,
    a_route_of_our_name_that_is_not_ours_is_left_alone,
    pauses_timed_and_indefinite,
    paused_freezes_the_ramp_but_not_a_rollback,
    commands_promote_abort_retry_and_skip,
    a_new_revision_in_mid_canary_starts_a_new_canary,
    going_back_to_the_stable_aborts_the_canary,
    pods_lost_in_mid_canary_take_the_traffic_with_them,
    a_prompt_moves_nothing_where_pods_have_no_middleware,
    a_missing_prompt_blocks_and_the_stable_serves_on,
    the_first_install_that_crashes_says_so,
    an_adaptive_ramp_gives_a_good_canary_more_and_more,
    an_adaptive_ramp_costs_few_bad_answers,
    an_adaptive_ramp_takes_back_what_turns_bad,
    the_default_ramp_gives_a_good_canary_up_to_half,
    the_default_ramp_costs_few_bad_answers,
    pods_without_middleware_are_counted_by_the_gateway,
    a_holdback_that_stays_good_ends_in_the_promotion,
    a_holdback_that_turns_bad_brings_the_old_stable_back,
    a_minimum_bake_outlasts_the_steps,
    at_the_deadline_a_person_is_asked,
    at_the_deadline_the_doubtful_is_promoted,
    at_the_deadline_the_doubtful_is_rolled_back,
    evidence_that_is_lost_begins_the_trial_anew,
    an_operator_that_was_away_goes_on_where_it_was,
    a_canary_that_turned_bad_while_the_operator_was_away_is_rolled_back_at_once,
    a_slow_canary_is_caught_by_its_first_tokens,
)
SKEWED: tuple[Tell, ...] = (
    good_canary_is_promoted,
    bad_canary_is_rolled_back_and_remembered,
    crashing_canary_gets_no_traffic,
    pods_lost_in_mid_canary_take_the_traffic_with_them,
    an_adaptive_ramp_takes_back_what_turns_bad,
    a_holdback_that_turns_bad_brings_the_old_stable_back,
    evidence_that_is_lost_begins_the_trial_anew,
    a_canary_that_turned_bad_while_the_operator_was_away_is_rolled_back_at_once,
)
"""Stories whose outcome must not depend on the operator's clock; times and weights of the others do."""
WOKEN_STEP = 4.3
"""No whole seconds, and longer than in other woken stories, because these last for hours."""


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_story_reads_as_its_golden_transcript(tell: Tell) -> None:
    story = Story()
    await tell(story)
    story.read_as_golden(tell.__name__)


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
async def test_story_ends_alike_if_only_wake_ups_reconcile(tell: Tell) -> None:
    """Watch events, due times, the collector and the resync; no reconcile happens because time has passed."""
    await tell(WokenStory(step=WOKEN_STEP))


@pytest.mark.parametrize("ahead", [60.0, -60.0])
@pytest.mark.parametrize("tell", SKEWED, ids=lambda tell: tell.__name__)
async def test_story_ends_alike_if_the_operators_clock_is_wrong(tell: Tell, ahead: float) -> None:
    await tell(WokenStory(step=WOKEN_STEP, operator_ahead=ahead))


async def test_promoting_canary_without_weight_leaves_stable_available() -> None:
    story = Story()
    story.world.user_applies(spec(**HELD))
    await story.until_phase(Phase.STABLE)
    story.world.gateway_lags = True
    story.world.user_applies(spec("better", **HELD, paused=True))
    await story.run(5, lambda s: "canary" in s.world.status())
    await story.run(1)
    canary = story.canary
    assert not story.world.weights().get(canary)
    seen = []
    story.each_tick = lambda s: seen.append(s.conditions["Available"])
    story.world.user_commands(f"promote@{canary}#1")
    story.world.user_applies(spec("better", **HELD))
    await story.run(5, lambda s: s.world.weights() == {canary: 10_000})
    assert {status for status, _ in seen} == {"True"}, seen
