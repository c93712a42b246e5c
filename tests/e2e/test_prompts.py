"""Trials of prompts on a real cluster: in the pods that run, behind a route that stays, and judged by a check.

The light engine serves revisions by the split document as the model server does. A bad prompt spoils its answers; every
status code is 200.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster, Object
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.prompts import CHECKED, name_of, prompt_version
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

RATE = 100.0
STEPS = [{"weight": 20, "hold": "1s"}, {"weight": 50, "hold": "1s"}]
ONE_STEP = [{"weight": 50, "hold": "1s"}]
REQUESTS = 25_000
"""Of each of the two LLMDeployments."""
MANY = 200.0
"""Requests per second of each; its trials together take about as long as its requests."""
PROMPTS = (
    # A proof that no more requests hang takes half a minute, so two LLMDeployments play at the same time.
    (("1.1.0", "Be brief.", 0.0), ("1.2.0", "Please be brief.", 0.0), ("1.3.0", "Think first.", 0.0)),
    (
        ("1.1.0", "Be brief.", 0.0),
        ("2.0.0", "Name the team.", 0.5),
        ("1.2.0", "Check the priority.", 0.0),
        ("2.1.0", "Name the team and the urgency.", 1.0),
    ),
)
"""For each LLMDeployment: version, text, and the share of answers with wrong keys."""
PODS = f"serin.dev/deployment={NAME}"


def serving(cluster: Cluster) -> dict[str, Any]:
    """What a trial of a prompt must leave as it is: the route, the Deployments, and the pods with their restarts."""
    pods = cluster.items("pods", PODS)
    return {
        "route": cluster.get(f"httproute/{NAME}")["metadata"]["generation"],
        "deployments": {d["metadata"]["uid"]: d["metadata"]["generation"] for d in cluster.items("deployments", PODS)},
        "pods": {
            pod["metadata"]["uid"]: [c["restartCount"] for c in pod["status"]["containerStatuses"]] for pod in pods
        },
    }


def test_better_prompt_is_promoted_in_the_pods_that_run(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        cluster.apply(prompt_version("1.0.0"))
        old = seen.side(story.install(prompt=name_of("1.0.0"), metrics=CHECKED, replicas=2), "stable")
        before = serving(cluster)
        with Traffic(place, cluster, RATE) as traffic:
            traffic.wait_for(int(RATE), PATIENCE)
            began = len(follower.states)
            cluster.apply(prompt_version("1.1.0"))
            applied = traffic.elapsed
            trial = story.change("0", prompt=name_of("1.1.0"), metrics=CHECKED, replicas=2, steps=STEPS)
            new = seen.side(trial, "canary")
            done = story.promoted(new["revision"])
            assert serving(cluster) == before
        states = [state for _, state in follower.states[began:] if seen.is_current(state) and is_of(state, trial)]
    assert new["engineRevision"] == old["engineRevision"]
    assert len(before["pods"]) == 2
    assert traffic.failures == []
    assert traffic.prompts == {old["revision"]: {"triage@1.0.0"}, new["revision"]: {"triage@1.1.0"}}
    assert traffic.first_answered[new["revision"]] - applied < 20
    assert seen.side(done, "stable")["prompt"]["name"] == name_of("1.1.0")
    assert traffic.wrong == {}
    assert_reads_as_a_trial_in_the_pods(states)


def is_of(state: Object, other: Object) -> bool:
    """Whether two states have the same spec."""
    return bool(state["metadata"]["generation"] == other["metadata"]["generation"])


def assert_reads_as_a_trial_in_the_pods(states: list[Object]) -> None:
    """What `kubectl get` and `kubectl describe` show, from the first state of a trial to its promotion."""
    phases = [phase for phase, _ in itertools.groupby(map(seen.phase, states))]
    assert phases == ["Preparing", "Ramping", "Promoting", "Stable"]
    assert {seen.row(state) for state in states[:-1]} <= {seen.CANARY, seen.STABLE}
    assert {seen.row(state) for state in states if seen.phase(state) in seen.ON_TRIAL} == {seen.CANARY}
    for state in states:
        conditions = seen.conditions(state)
        assert {conditions[name]["status"] for name in ("Accepted", "CapacityAvailable", "RouteProgrammed")} == {"True"}
        assert (seen.status(state)["replicas"], seen.status(state)["readyReplicas"]) == (2, 2)
        assert seen.status(state)["prompt"] == name_of("1.1.0")
        assert "gateway" not in " ".join(
            [seen.status(state)["message"], *seen.side(state, "canary").get("caveats", ())]
        )
    split = [seen.conditions(state)["SplitInForce"] for state in states]
    assert {c["status"] for c, s in zip(split, states, strict=True) if seen.phase(s) == "Ramping"} >= {"True"}
    assert (split[-1]["status"], split[-1]["reason"]) == ("Unknown", "SplitNotWatched")


@dataclass
class Played:
    """What became of the prompts of one LLMDeployment."""

    good: list[str] = field(default_factory=list)
    """Revisions that were promoted, the first one included."""
    bad: list[str] = field(default_factory=list)
    """Revisions that were rolled back."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each trial took, by version."""


def play(place: Place, cluster: Cluster, prompts: Sequence[tuple[str, str, float]]) -> tuple[Played, Traffic]:
    """Try one prompt after the other, each with its share of the requests."""
    played = Played()
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        cluster.apply(prompt_version("1.0.0"))
        settings: dict[str, Any] = {"metrics": CHECKED, "replicas": 2, "steps": ONE_STEP}
        played.good.append(seen.side(story.install(prompt=name_of("1.0.0"), **settings), "stable")["revision"])
        before = serving(cluster)
        with Traffic(place, cluster, MANY) as traffic:
            for n, (version, text, wrong) in enumerate(prompts, start=1):
                began = traffic.elapsed
                cluster.apply(prompt_version(version, text, wrong=wrong))
                canary = seen.side(story.change("0", prompt=name_of(version), **settings), "canary")["revision"]
                if wrong:
                    played.bad.append(canary)
                    story.rolled_back(canary)
                else:
                    played.good.append(canary)
                    story.promoted(canary)
                played.seconds[version] = round(traffic.elapsed - began, 1)
                traffic.wait_until(REQUESTS * n // len(prompts), PATIENCE)
            assert serving(cluster) == before
        rejected = [seen.status(s)["rejected"] for _, s in follower.states if seen.status(s).get("rejected")]
    assert {(r["revision"], r["reason"]) for r in rejected} == {(revision, "VerdictFailed") for revision in played.bad}
    assert all(r["message"].startswith("schema: the canary is worse than the stable") for r in rejected), rejected
    return played, traffic


def test_fifty_thousand_requests_over_seven_prompts_fail_nowhere(
    place: Place, cluster: Cluster, other_cluster: Cluster
) -> None:
    with ThreadPoolExecutor() as both:
        results = list(both.map(play, [place] * 2, [cluster, other_cluster], PROMPTS))
    print([(played.seconds, traffic.ended) for played, traffic in results])  # where the time goes, with pytest -s
    assert sum(traffic.ended for _, traffic in results) >= 2 * REQUESTS
    assert (sum(len(p.good) - 1 for p, _ in results), sum(len(p.bad) for p, _ in results)) == (5, 2)
    for played, traffic in results:
        assert traffic.failures == []
        assert traffic.answered.keys() == {*played.good, *played.bad}
        assert traffic.wrong.keys() == set(played.bad)
