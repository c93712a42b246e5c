"""Fifty thousand requests across five ramps and two rollbacks: not one fails because of Serin."""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from tests.e2e.light import NAME, Story
from tests.e2e.traffic import Traffic

REQUESTS = 50_000
RATE = 400.0
FAILS = {"error-rate": "0.5"}


def test_of_fifty_thousand_requests_only_those_fail_that_a_bad_canary_failed_itself(
    place: Place, cluster: Cluster
) -> None:
    bad: set[str] = set()
    good: list[str] = []
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install()
        with Traffic(place, cluster, RATE) as traffic:
            for n in range(1, 6):
                canary = seen.side(story.change(f"good-{n}"), "canary")["revision"]
                good.append(canary)
                story.promoted(canary)
                if n in {2, 4}:
                    canary = seen.side(story.change(f"bad-{n}", args=FAILS), "canary")["revision"]
                    bad.add(canary)
                    story.rolled_back(canary)
            during = traffic.ended
    unexplained = [failure for failure in traffic.failures if not failure.was_made_by(bad)]
    assert not unexplained, f"{len(unexplained)} of {traffic.ended}: {unexplained[:10]}"
    assert during >= REQUESTS
    assert len(bad) == 2
    assert all(traffic.answered[revision] for revision in [*good, *bad]), traffic.answered
    assert {failure.revision for failure in traffic.failures} == bad
    assert {seen.status(s)["rejected"]["reason"] for _, s in follower.states if seen.status(s).get("rejected")} == {
        "VerdictFailed"
    }
