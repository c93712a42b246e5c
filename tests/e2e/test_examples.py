"""Example 03 end to end, on the light engine."""

from __future__ import annotations

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster, Object, load_manifest
from examples.demo.follow import Follower
from examples.demo.place import ROOT, Place
from examples.light.story import NAME, PATIENCE, RESOURCE, Story, manifest
from examples.light.traffic import Traffic

PAUSE = ROOT / "examples" / "03-pause-and-resume"


def on_light_engine(cluster: Cluster, example: Object) -> Object:
    """Return the example with the test's engine and name, and the example's own rollout."""
    fitting = manifest(cluster, example["spec"]["engine"]["args"]["max-model-len"])
    fitting["spec"]["rollout"] = example["spec"]["rollout"]
    return fitting


def test_pause_holds_until_a_command_resumes_it(place: Place, cluster: Cluster) -> None:
    first, change = (load_manifest(PAUSE / name) for name in ("01-install.yaml", "02-longer-prompts.yaml"))
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        cluster.apply(on_light_engine(cluster, first))
        follower.wait_for("it serves", seen.is_settled, PATIENCE)
        with Traffic(place, cluster, 50) as traffic:
            cluster.apply(on_light_engine(cluster, change))
            paused = follower.wait_for("the ramp pauses", lambda s: seen.phase(s) == "Paused", PATIENCE)
            canary = seen.side(paused, "canary")["revision"]
            assert seen.row(paused) == seen.CANARY
            assert seen.conditions(paused)["Reconciling"]["reason"] == "PausedByStep"
            cluster.kubectl("patch", RESOURCE, "--type=merge", '--patch={"spec":{"paused":true}}')
            story.command("resume", canary, "monday")
            follower.wait_for(
                "the command is carried out, and spec.paused keeps the canary at its weight",
                lambda s: (
                    seen.is_current(s)
                    and seen.conditions(s)["Reconciling"]["reason"] == "Paused"
                    and seen.status(s).get("lastHandledCommand", {}).get("outcome") == "CommandDone"
                ),
                PATIENCE,
                never=lambda s: seen.side(s, "stable").get("revision") == canary,
            )
            cluster.kubectl("patch", RESOURCE, "--type=merge", '--patch={"spec":{"paused":false}}')
            story.promoted(canary)
    assert traffic.failures == []
