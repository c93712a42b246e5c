"""A streaming answer of 30 seconds or more that runs while its pods lose their role ends by itself."""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import NAME, Story
from examples.light.traffic import Stream, Traffic, open_streams

SECONDS = 30.0
LONGER = 50.0
"""What a verdict takes on a busy machine is still before their end."""
BACKGROUND = 40.0
"""Requests per second beside the streams: what the verdict is made from."""


def test_streams_of_the_old_stable_end_by_themselves_during_a_promotion(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        old = seen.side(story.install(), "stable")
        with Traffic(place, cluster, BACKGROUND) as traffic:
            steps = [{"weight": 50, "hold": "1s"}, {"pause": {}}]
            canary = seen.side(story.change("1", steps=steps), "canary")
            follower.wait_for("the ramp pauses", lambda s: seen.phase(s) == "Paused", 120)
            streams = open_streams(place, cluster, SECONDS, at_least=3, revisions={old["revision"], canary["revision"]})
            story.command("promote", canary["revision"], "now")
            story.promoting(canary["revision"])
            assert [s for s in streams if s.running] == streams, "the promotion came too late to be seen by the streams"
            assert story.pods(old["engineRevision"])
            story.promoted(canary["revision"])
            _assert_complete(streams, SECONDS)
            story.wait_pods_gone(old["engineRevision"])
    assert traffic.failures == []


def test_streams_of_the_canary_end_by_themselves_when_it_is_rolled_back(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        stable = seen.side(story.install(), "stable")["revision"]
        with Traffic(place, cluster, BACKGROUND) as traffic:
            steps = [{"weight": 50, "hold": "1s"}, {"pause": {}}]
            canary = seen.side(story.change("1", steps=steps, args={"fail-on": "printer"}), "canary")
            follower.wait_for("the ramp pauses", lambda s: seen.phase(s) == "Paused", 120)
            streams = open_streams(place, cluster, LONGER, at_least=3, revisions={stable, canary["revision"]})
            # Only now, so that no verdict can come before the streams are open.
            traffic.asks = "printer"
            follower.wait_for("the rollback begins", lambda s: bool(seen.status(s).get("rejected")), 120)
            assert [s for s in streams if s.running] == streams, "the rollback came too late to be seen by the streams"
            assert story.pods(canary["engineRevision"])
            story.rolled_back(canary["revision"])
            _assert_complete(streams, LONGER)
            story.wait_pods_gone(canary["engineRevision"])
    assert seen.status(story.latest)["rejected"]["reason"] == "VerdictFailed"
    assert [failure for failure in traffic.failures if not failure.was_made_by({canary["revision"]})] == []


def _assert_complete(streams: list[Stream], seconds: float) -> None:
    for stream in streams:
        stream.join(seconds + 30)
    assert [s.problem for s in streams if s.problem] == []
    assert min(s.took for s in streams) >= seconds
