"""A real vLLM under real requests: the same again is promoted, and what is only slower is rolled back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster, load_manifest
from examples.demo.follow import Follower
from examples.demo.place import ROOT, Place
from examples.demo.say import Teller
from examples.light.story import host
from examples.load import Load

EXAMPLE = ROOT / "examples" / "03-judged-by-latency"
NAME = "triage"
PATIENCE = 420.0
"""Seconds that a model may take to load beside another one, and to be judged at a few requests per second."""
RPS = 6.0


@pytest.fixture
def load(place: Place, cluster: Cluster) -> Iterator[Load]:
    """Tickets, half of them long."""
    assert place.sandbox
    load = Load(place.gateway_url, NAME, rps=RPS, seconds=1800, timeout=120, long_share=0.5, host=host(cluster))
    yield load
    load.stop()


def test_the_same_again_is_promoted_and_what_is_only_slower_is_rolled_back(cluster: Cluster, load: Load) -> None:
    prepare.engines(Teller())
    resource = f"llmdeployment/{NAME}"

    def apply(name: str) -> int:
        manifest = load_manifest(EXAMPLE / name)
        manifest["spec"]["routing"]["gateway"]["hostnames"] = [host(cluster)]
        cluster.apply(manifest)
        return int(cluster.get(resource)["metadata"]["generation"])

    with Follower(cluster, NAME) as follower:
        apply("01-install.yaml")
        follower.wait_for("it serves", seen.is_settled, PATIENCE)
        load.start()
        assert load.wait_for(lambda outcomes: len(outcomes) >= 120, 120)
        stable = seen.side(cluster.get(resource), "stable")["revision"]

        generation = apply("02-the-same-again.yaml")
        promoted = follower.wait_for(
            "the same again is promoted",
            lambda s: (
                s["metadata"]["generation"] == generation
                and seen.is_settled(s)
                and seen.side(s, "stable").get("revision") != stable
            ),
            PATIENCE,
            never=lambda s: bool(seen.status(s).get("rejected")),
        )
        stable = seen.side(promoted, "stable")["revision"]

        began = time.time()
        generation = apply("03-slow-start.yaml")
        follower.wait_for(
            "what is only slower is rolled back",
            lambda s: s["metadata"]["generation"] == generation and seen.is_rolled_back(s),
            PATIENCE,
            never=lambda s: seen.side(s, "stable").get("revision") not in {stable, None},
            since=began,
        )
    rejected = seen.status(cluster.get(resource))["rejected"]
    assert rejected["reason"] == "VerdictFailed"
    assert rejected["message"].startswith("ttft: "), rejected["message"]
    metrics = [metric for _, state in follower.states for metric in seen.status(state).get("metrics", [])]
    speeds = {metric["message"] for metric in metrics if metric["name"] == "speed"}
    assert any(re.search(r"canary \d[\d.]*, stable \d", told) for told in speeds), speeds
    slow = [o for o in load.outcomes() if o.revision == rejected["revision"]]
    assert slow
    assert [o.error for o in slow if o.failed] == []
