"""Plays `examples/04-judged-by-latency` on a real vLLM and prints how long each verdict took: `make bench-latency`.

About four minutes, most of them for vLLM to load. Ends with status 1 if a rollout ends otherwise than the example says.
Starts the sandbox if needed and leaves it running. Not here: the same verdicts on the light engine, which
`tests/e2e/test_latency.py` checks in a minute.
"""

from __future__ import annotations

import sys
import time

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import HOST_PODS, Cluster, Object, load_manifest, temporary_namespace
from examples.demo.errors import WaitFailedError
from examples.demo.follow import Follower
from examples.demo.place import ROOT
from examples.demo.say import Teller
from examples.light.story import host
from examples.load import Load

EXAMPLE = ROOT / "examples" / "04-judged-by-latency"
NAME = "triage"
RESOURCE = f"llmdeployment/{NAME}"
PATIENCE = 420.0
"""Seconds that a model may take to load beside another one, and to be judged at a few requests per second."""
RPS = 6.0
WARM_UP = 120
"""Requests before the first rollout."""


def main() -> int:
    """Play both rollouts and return the exit status."""
    tell = Teller()
    place = prepare.sandbox(tell)
    prepare.engines(tell)
    prepare.operator(tell, place)
    with temporary_namespace(place.environment, "bench-latency", HOST_PODS) as cluster:
        # Half of the tickets are long: only they wait longer at the slow canary.
        load = Load(place.gateway_url, NAME, rps=RPS, seconds=1800, timeout=120, long_share=0.5, host=host(cluster))
        try:
            with Follower(cluster, NAME) as follower:
                _apply(cluster, "01-install.yaml")
                follower.wait_for("it serves", seen.is_settled, PATIENCE)
                _warm_up(load)
                promoted = _promote_equal(cluster, follower, tell)
                rejected = _roll_back_slow(cluster, follower, promoted, tell)
        except WaitFailedError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        finally:
            load.stop()
    failed = [o.error for o in load.outcomes() if o.revision == rejected["revision"] and o.failed]
    if not rejected["message"].startswith("ttft: ") or failed:
        print(f"bench: rolled back for {rejected['message']!r}, with the errors {failed}", file=sys.stderr)
        return 1
    return 0


def _warm_up(load: Load) -> None:
    load.start()
    if not load.wait_for(lambda outcomes: len(outcomes) >= WARM_UP, WARM_UP):
        raise WaitFailedError(f"{WARM_UP} requests did not end in {WARM_UP} s; see the pods of {RESOURCE}.")


def _apply(cluster: Cluster, name: str) -> int:
    manifest = load_manifest(EXAMPLE / name)
    manifest["spec"]["routing"]["gateway"]["hostnames"] = [host(cluster)]
    cluster.apply(manifest)
    return int(cluster.get(RESOURCE)["metadata"]["generation"])


def _promote_equal(cluster: Cluster, follower: Follower, tell: Teller) -> str:
    """Roll out the same engine under another seed and return its revision."""
    stable, began = seen.side(cluster.get(RESOURCE), "stable")["revision"], time.monotonic()
    generation = _apply(cluster, "02-the-same-again.yaml")
    promoted = follower.wait_for(
        "the equal canary is promoted",
        lambda s: (
            s["metadata"]["generation"] == generation
            and seen.is_settled(s)
            and seen.side(s, "stable").get("revision") != stable
        ),
        PATIENCE,
        never=lambda s: bool(seen.status(s).get("rejected")),
    )
    tell.say(f"the equal canary was promoted after {time.monotonic() - began:.0f} s")
    return str(seen.side(promoted, "stable")["revision"])


def _roll_back_slow(cluster: Cluster, follower: Follower, stable: str, tell: Teller) -> Object:
    """Roll out the slower engine and return the status of its rejection."""
    since, began = time.time(), time.monotonic()
    generation = _apply(cluster, "03-slow-start.yaml")
    rolled_back = follower.wait_for(
        "the slower canary is rolled back",
        lambda s: s["metadata"]["generation"] == generation and seen.is_rolled_back(s),
        PATIENCE,
        never=lambda s: seen.side(s, "stable").get("revision") not in {stable, None},
        since=since,
    )
    rejected: Object = seen.status(rolled_back)["rejected"]
    tell.say(f"the slower canary was rolled back after {time.monotonic() - began:.0f} s: {rejected['message']}")
    return rejected


if __name__ == "__main__":
    sys.exit(main())
