"""A streaming answer of 30 seconds or more ends by itself, also when its pods lose their role meanwhile."""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster, Object
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Stream, Traffic, open_streams

SECONDS = 30.0
LONGER = 50.0
"""Seconds of the streams of a rollback: longer than a verdict takes on a busy machine."""
BACKGROUND = 40.0
"""Requests per second beside the streams; the verdict counts these."""


def test_streams_end_by_themselves_in_a_promotion_and_a_rollback(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        old = seen.side(story.install(replicas=2), "stable")
        with Traffic(place, cluster, BACKGROUND) as traffic:
            stable = promote_under_streams(place, story, old)
            failing = roll_back_under_streams(place, story, traffic, stable)
    assert seen.status(story.latest)["rejected"]["reason"] == "VerdictFailed"
    assert [failure for failure in traffic.failures if not failure.was_made_by({failing})] == []


def promote_under_streams(place: Place, story: Story, old: Object) -> str:
    """Promote a canary while streams are open, and return its revision; its pods stay, and the old ones drain."""
    steps = [{"weight": 60, "hold": "1s"}, {"pause": {}}]
    canary = seen.side(story.change("1", steps=steps, replicas=2), "canary")
    story.paused(canary["revision"])
    pods = story.pods(canary["engineRevision"])
    streams = open_streams(place, story.cluster, SECONDS, at_least=3, revisions={old["revision"], canary["revision"]})
    story.command("promote", canary["revision"], "now")
    story.promoting(canary["revision"])
    assert [s for s in streams if s.running] == streams, "the promotion came too late to be seen by the streams"
    assert story.pods(old["engineRevision"])
    story.promoted(canary["revision"])
    assert len(pods) == 2
    assert story.pods(canary["engineRevision"]) == dict.fromkeys(pods, 0)
    assert_complete(streams, SECONDS)
    story.wait_pods_gone(old["engineRevision"])
    return str(canary["revision"])


def roll_back_under_streams(place: Place, story: Story, traffic: Traffic, stable: str) -> str:
    """Let a canary fail while streams are open, and return its revision; its pods drain."""
    steps = [{"weight": 50, "hold": "1s"}, {"pause": {}}]
    canary = seen.side(story.change("2", steps=steps, replicas=2, args={"fail-on": "printer"}), "canary")
    story.paused(canary["revision"])
    streams = open_streams(place, story.cluster, LONGER, at_least=3, revisions={stable, canary["revision"]})
    # The canary fails only from here on, so that no verdict can come before the streams are open.
    traffic.asks = "printer"
    story.follower.wait_for("the rollback begins", lambda s: bool(seen.status(s).get("rejected")), PATIENCE)
    assert [s for s in streams if s.running] == streams, "the rollback came too late to be seen by the streams"
    assert story.pods(canary["engineRevision"])
    story.rolled_back(canary["revision"])
    assert_complete(streams, LONGER)
    story.wait_pods_gone(canary["engineRevision"])
    return str(canary["revision"])


def assert_complete(streams: list[Stream], seconds: float) -> None:
    for stream in streams:
        stream.join(seconds + 30)
    assert [s.problem for s in streams if s.problem] == []
    assert min(s.took for s in streams) >= seconds
