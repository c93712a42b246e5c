"""The counts of a trial on a real cluster equal those in Prometheus, and the adaptive weight follows the evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster, Object
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic
from tests.e2e.counters import finished, finished_rate

RATE = 200.0
LIVES = 3
"""How many leaders are killed in one trial."""
FAILS_AT_TIMES = {"error-rate": "0.004"}
ADAPTIVE = {"adaptive": {"blastBudget": 2, "maxWeight": 25}}


def state(cluster: Cluster) -> Object:
    """Return the trial state that the operator persisted."""
    kept = cluster.get(f"configmap/{NAME}-serin-evidence")
    return dict(json.loads(kept["data"]["state.json"]))


def errors(story: Story) -> tuple[int, int, int, int]:
    """Return requests and bad ones of canary and stable, as the status shows them."""
    (metric,) = (m for m in seen.status(story.latest)["metrics"] if m["name"] == "errors")
    canary, stable = metric["canary"], metric["stable"]
    return canary["requests"], canary["bad"], stable["requests"], stable["bad"]


def eventually(is_so: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def kill_the_leader(place: Place) -> None:
    """Kill the pod that holds the Lease, without a graceful end, and wait for another leader."""
    system = Cluster(place.environment, prepare.SYSTEM_NAMESPACE)
    holder = system.get("lease/serin")["spec"]["holderIdentity"]
    system.kubectl("delete", f"pod/{holder}", "--grace-period=0", "--force", timeout=60)
    assert eventually(lambda: system.get("lease/serin")["spec"]["holderIdentity"] not in {holder, ""}, 60)


def test_killed_operators_lose_no_request_and_count_none_twice(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        # Both sides fail alike, so that no verdict ends the trial, however long a takeover is.
        stable = seen.side(story.install(args=FAILS_AT_TIMES), "stable")["revision"]
        steps = [{"weight": 10, "hold": "1s"}, {"weight": 40, "hold": "1s"}, {"pause": {}}]
        with Traffic(place, cluster, RATE) as traffic:
            canary = seen.side(story.change("1", steps=steps, args=FAILS_AT_TIMES), "canary")["revision"]
            story.at_weight(canary, "40%")
            for _ in range(LIVES):
                traffic.wait_for(600, PATIENCE)
                kill_the_leader(place)
            traffic.wait_for(600, PATIENCE)
        # No request is sent any more: the counts become final.
        epochs = set(state(cluster)["epochs"])

        def counted_all() -> bool:
            held = (*finished(place, cluster, canary, epochs), *finished(place, cluster, stable, epochs))
            return errors(story) == held and held[0] > 0

        agree = eventually(counted_all, 60)
        held = (*finished(place, cluster, canary, epochs), *finished(place, cluster, stable, epochs))
        assert agree, f"status {errors(story)}, Prometheus {held}"
        assert held[0] > 600
        assert not seen.status(story.latest).get("rejected")
        # The gateway keeps the weight and the pods are alike: no caveat says otherwise.
        kept = state(cluster)
        assert sum(kept["arrived"]) > 600
        assert kept["noise"][0]["halves"]
    told = {caveat for _, s in follower.states for caveat in seen.side(s, "canary").get("caveats", ())}
    assert [caveat for caveat in told if "reached the canary" in caveat or "own pods differ" in caveat] == []


def test_adaptive_weight_promotes_the_good_and_limits_bad_answers(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        story.install()
        with Traffic(place, cluster, RATE) as traffic:
            # Until the request rate is known: two scrapes, and readings end one scrape before now.
            assert eventually(lambda: finished_rate(place, cluster) > 0, PATIENCE)
            traffic.wait_for(int(RATE * 15), PATIENCE)
            good = seen.side(story.change("good", ramp=ADAPTIVE), "canary")["revision"]
            story.promoted(good, within=2 * PATIENCE)
            bad = seen.side(story.change("bad", ramp=ADAPTIVE, args={"error-rate": "0.5"}), "canary")["revision"]
            story.rolled_back(bad)
    weights = [
        float(seen.status(s)["weight"].rstrip("%"))
        for _, s in follower.states
        if seen.side(s, "canary").get("revision") == good and seen.status(s).get("weight")
    ]
    # The first weight depends on the traffic of the minutes before, and the last one on how soon the proof is complete;
    # the limit holds always.
    assert max(weights) <= ADAPTIVE["adaptive"]["maxWeight"]
    assert len(set(weights)) > 2, "the weight rose in one step"
    bad_answers = [f for f in traffic.failures if f.revision == bad]
    assert [f for f in traffic.failures if f.revision != bad] == []
    assert 0 < len(bad_answers) < RATE, "as many bad answers as a second of all traffic"
