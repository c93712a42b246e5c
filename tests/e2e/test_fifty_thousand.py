"""Fifty thousand requests across five promotions and two rollbacks: none fails because of Serin."""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

REQUESTS = 50_000
RATE = 400.0
ROLLOUTS = ("good-1", "good-2", "bad-2", "good-3", "good-4", "bad-4", "good-5")
FAILS = {"error-rate": "0.5"}
DEFAULT_TOLERANCE = 0.1
"""The API's default. Its proof takes a minute at any rate, since both sides are scraped at different times."""


def test_only_bad_canaries_fail_any_of_fifty_thousand_requests(place: Place, cluster: Cluster) -> None:
    bad: set[str] = set()
    good: list[str] = []
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install()
        with Traffic(place, cluster, RATE) as traffic:
            for n, name in enumerate(ROLLOUTS, start=1):
                fails = name.startswith("bad")
                options = {"args": FAILS} if fails else {"loss_tolerance": DEFAULT_TOLERANCE} if n == 1 else {}
                canary = seen.side(story.change(name, **options), "canary")["revision"]
                # Each rollout gets its share of the requests, even if it ends sooner.
                traffic.wait_until(REQUESTS * n // len(ROLLOUTS), PATIENCE)
                if fails:
                    bad.add(canary)
                    story.rolled_back(canary)
                else:
                    good.append(canary)
                    story.promoted(canary)
            during = traffic.ended
    unexplained = [failure for failure in traffic.failures if not failure.was_made_by(bad)]
    assert not unexplained, f"{len(unexplained)} of {traffic.ended}: {unexplained[:10]}"
    assert during >= REQUESTS
    assert (len(good), len(bad)) == (5, 2)
    assert all(traffic.answered[revision] for revision in [*good, *bad]), traffic.answered
    assert {failure.revision for failure in traffic.failures} == bad
    assert {seen.status(s)["rejected"]["reason"] for _, s in follower.states if seen.status(s).get("rejected")} == {
        "VerdictFailed"
    }
