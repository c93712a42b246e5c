"""Latency decides on a real cluster: an equal canary is promoted, and one that is only slower is rolled back.

`make bench-latency` plays the same with a real vLLM, which takes minutes to load.
"""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import METRICS, NAME, Story
from examples.light.traffic import Traffic

RATE = 200.0
FAST, SLOW = ({"first-token-delay": seconds} for seconds in ("0.02", "0.08"))
"""A few milliseconds more, as measured, fall below the bucket bounds 0.04 and 0.1."""
SHOWN = [*METRICS, {"name": "ttft", "preset": "TimeToFirstToken", "mode": "Advisory"}]
JUDGED = [*METRICS, {"name": "ttft", "preset": "TimeToFirstToken"}]


def test_equal_canary_is_promoted_and_a_slower_one_rolled_back(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install(args=FAST, metrics=SHOWN)
        with Traffic(place, cluster, RATE) as traffic:
            equal = seen.side(story.change("equal", args=FAST, metrics=SHOWN), "canary")["revision"]
            story.promoted(equal)
            slow = seen.side(story.change("slow", args=SLOW, metrics=JUDGED), "canary")["revision"]
            story.rolled_back(slow)
    rejected = seen.status(story.latest)["rejected"]
    assert rejected["reason"] == "VerdictFailed"
    assert rejected["message"].startswith("ttft: "), rejected["message"]
    assert traffic.answered[slow] > 0
    assert traffic.failures == []
