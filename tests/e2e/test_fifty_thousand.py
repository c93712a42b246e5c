"""Fifty thousand requests across five promotions and two rollbacks: none fails because of Serin."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

REQUESTS = 25_000
"""Of each of the two LLMDeployments."""
RATE = 200.0
# A rollout waits for scrapes most of the time, so two LLMDeployments play at the same time.
ROLLOUTS = (("good-1", "bad-1", "good-2"), ("good-3", "good-4", "bad-4", "good-5"))
FAILS = {"error-rate": "0.5"}
DEFAULT_TOLERANCE = 0.1
"""The API's default, for one rollout. Its proof takes a minute at any rate, since the sides are scraped in turn."""


def play(place: Place, cluster: Cluster, rollouts: Sequence[str]) -> tuple[set[str], set[str], Traffic]:
    """Roll out one revision after the other, each with its share of the requests; returns the good and the bad ones."""
    good, bad = set[str](), set[str]()
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install()
        with Traffic(place, cluster, RATE) as traffic:
            for n, name in enumerate(rollouts, start=1):
                fails = name.startswith("bad")
                tolerance = DEFAULT_TOLERANCE if name == "good-1" else 0.3
                trial = story.change(name, args=FAILS if fails else None, loss_tolerance=tolerance)
                canary = seen.side(trial, "canary")["revision"]
                # Also if it ends sooner.
                traffic.wait_until(REQUESTS * n // len(rollouts), PATIENCE)
                if fails:
                    bad.add(canary)
                    story.rolled_back(canary)
                else:
                    good.add(canary)
                    story.promoted(canary)
        reasons = {seen.status(s)["rejected"]["reason"] for _, s in follower.states if seen.status(s).get("rejected")}
    assert reasons == {"VerdictFailed"}
    return good, bad, traffic


def test_only_bad_canaries_fail_any_of_fifty_thousand_requests(
    place: Place, cluster: Cluster, other_cluster: Cluster
) -> None:
    with ThreadPoolExecutor() as both:
        results = list(both.map(play, [place] * 2, [cluster, other_cluster], ROLLOUTS))
    assert (sum(len(good) for good, _, _ in results), sum(len(bad) for _, bad, _ in results)) == (5, 2)
    assert sum(traffic.ended for _, _, traffic in results) >= 2 * REQUESTS
    for good, bad, traffic in results:
        unexplained = [failure for failure in traffic.failures if not failure.was_made_by(bad)]
        assert not unexplained, f"{len(unexplained)} of {traffic.ended}: {unexplained[:10]}"
        assert {failure.revision for failure in traffic.failures} == bad
        assert all(traffic.answered[revision] for revision in good | bad), traffic.answered
