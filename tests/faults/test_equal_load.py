"""Latency decides between four pods and four: ten equal canaries stay, and two whose engine is slower by half go.

The light engine's delays grow with load (`LOADED`), so an answer's time depends on how many requests its pod has. Each
namespace has a stable of four pods and sixteen requests per second, which is what these engines carry; half of them go
to the canary at once. Time to first token and time per output token are Required, with the margin that is the default.

Seconds: `bench.podsim` plays the same trials (4 requests/s per pod, 4 replicas, 50 %). There an engine that is slower
by half was rolled back within a minute for its time per token, in 24 of 24 trials, and an equal canary was proven by
minute five (time per token) or ten (first token). So three minutes would show a wrong rollback, and are what a trial
gets here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from examples.demo import conditions as seen
from examples.demo.cluster import Object, temporary_namespace
from examples.demo.errors import WaitFailedError
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import IMAGE, LOADED, METRICS, NAME, Story
from examples.light.traffic import Traffic
from serin.manifests.model_server import INIT_CONTAINER

EQUAL, SLOWER = 10, 2
"""Namespaces at a time, one canary in each. With ten, the node has 85 pods of the 110 that it may have."""
REPLICAS, RATE, TOKENS = 4, 16.0, 200
IN_FLIGHT = 512
"""Requests at a time, at most: a hundred are usual, and a slower engine has more."""
WARM_UP = 60.0
"""Seconds of traffic before the first canary: a trial takes its boundaries from what the stable did before."""
JUDGED = 180.0
"""Seconds that an equal canary has half of the traffic, unless it is promoted earlier."""
COMPARED = 500
"""Canary requests of each latency, at least; 1,400 are sent."""
SLOW = {**LOADED, "speed": "0.667"}
"""Every delay is half as long again."""
AT_HALF = ({"weight": 50, "hold": "1s"},)
JUDGED_BY = [
    *METRICS,
    {"name": "ttft", "preset": "TimeToFirstToken"},
    {"name": "tpot", "preset": "TimePerOutputToken"},
]
SMALL_INIT: dict[str, Any] = {
    "spec": {"initContainers": [{"name": INIT_CONTAINER, "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}]}
}
"""Requests no more than the engine: the init container's usual tenth of a processor, 85 times, is more than the node
has, and counts for the scheduler as long as the pod lives."""
OPTIONS: dict[str, Any] = {
    "replicas": REPLICAS,
    "steps": AT_HALF,
    "metrics": JUDGED_BY,
    "pod_template": SMALL_INIT,
}


@dataclass(frozen=True)
class Ended:
    """What became of one canary."""

    variant: str
    how: str
    """`stayed`, `promoted` or `rolled back`."""
    seconds: float
    """From its first weight until then."""
    message: str
    metrics: Mapping[str, Object]
    """The last state of each metric of which the canary had requests."""


@contextmanager
def serving(place: Place, name: str) -> Iterator[Story]:
    """A stable of loaded engines in a namespace of its own, and traffic for it that has run for a while."""
    with temporary_namespace(place.environment, name) as cluster, Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install(args=LOADED, **OPTIONS)
        with Traffic(place, cluster, RATE, connections=IN_FLIGHT, tokens=TOKENS) as traffic:
            traffic.wait_for(int(WARM_UP * RATE), 3 * WARM_UP)
            yield story
        assert traffic.failures == []


def judge(story: Story, variant: str, args: Mapping[str, str]) -> Ended:
    """Make a variant the canary; return what becomes of it within `JUDGED` seconds at half of the traffic."""
    revision = seen.side(story.change(variant, args=args, **OPTIONS), "canary")["revision"]
    story.at_weight(revision, "50%")
    began = time.monotonic()

    metrics: dict[str, Object] = {}

    def end(state: Object) -> str:
        if seen.side(state, "canary").get("revision") == revision:
            metrics.update({each["name"]: each for each in seen.status(state).get("metrics", ()) if each.get("canary")})
        if (seen.status(state).get("rejected") or {}).get("revision") == revision:
            return "rolled back"
        return "promoted" if seen.side(state, "stable").get("revision") == revision else ""

    try:
        last = story.follower.wait_for("a verdict", lambda state: bool(end(state)), JUDGED)
    except WaitFailedError:
        last = story.latest
    message = (seen.status(last).get("rejected") or seen.status(last)).get("message", "")
    ended = Ended(variant, end(last) or "stayed", time.monotonic() - began, message, metrics)
    compared = {name: (each["canary"], each.get("stable"), each.get("evidence")) for name, each in metrics.items()}
    print(f"equal load: {story.cluster.namespace} {ended.how} after {ended.seconds:.0f} s; {message} {compared}")
    return ended


@pytest.fixture
def stories(place: Place, light_image: str, request: pytest.FixtureRequest) -> Iterator[Sequence[Story]]:
    """As many stories as the test asks for, each with its own traffic."""
    assert light_image == IMAGE
    stacks = [ExitStack() for _ in range(request.param)]

    def begin(number: int) -> Story:
        # Names that the other test does not use: its namespaces may be ending still.
        return stacks[number].enter_context(serving(place, f"{request.param}-under-load-{number}"))

    # At the same time, because each needs minutes; every one is ended, also if another one did not begin.
    with ThreadPoolExecutor(request.param) as pool:
        begun = [pool.submit(begin, number) for number in range(request.param)]
        wait(begun)
        try:
            yield [each.result() for each in begun]
        finally:
            list(pool.map(ExitStack.close, stacks))


@pytest.mark.parametrize("stories", [EQUAL], indirect=True)
def test_equal_canaries_at_equal_load_are_not_rolled_back(stories: Sequence[Story]) -> None:
    with ThreadPoolExecutor(len(stories)) as pool:
        ended = list(pool.map(lambda story: judge(story, "equal", LOADED), stories))

    assert len(ended) == EQUAL
    assert [each for each in ended if each.how == "rolled back"] == []
    # They stay because they are compared and equal, not because nothing is compared.
    compared = [each.metrics[name]["canary"]["requests"] for each in ended for name in ("ttft", "tpot")]
    assert min(compared) >= COMPARED, compared


@pytest.mark.parametrize("stories", [SLOWER], indirect=True)
def test_engine_slower_by_half_is_rolled_back(stories: Sequence[Story]) -> None:
    with ThreadPoolExecutor(len(stories)) as pool:
        ended = list(pool.map(lambda story: judge(story, "slower", SLOW), stories))

    assert [each.how for each in ended] == ["rolled back"] * SLOWER
    assert all(each.message.startswith(("ttft: ", "tpot: ")) for each in ended), ended
