"""Canaries on a real vLLM whose requests never become an answer: none is promoted, each loses its traffic in minutes.

One hangs three of ten requests while the clients wait for ten minutes, one answers 404 to everything, and one resets
half of its connections. `sitecustomize.py` puts the fault into vLLM's own process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster, Object, load_manifest, temporary_namespace
from examples.demo.follow import Follower
from examples.demo.place import ROOT, Place
from examples.demo.say import Teller
from examples.light.story import host
from examples.load import Load

EXAMPLE = ROOT / "examples" / "04-judged-by-latency" / "01-install.yaml"
FAULTS = Path(__file__).parent / "sitecustomize.py"
NAME = "triage"
RPS = 6.0
LOADING = 420.0
"""Seconds that a model may take to load beside another one."""
WARM_UP = 60
"""Requests before the first canary."""
CLIENTS_WAIT = 600.0
"""Seconds: the default of the OpenAI clients."""
READ, LAG, SCRAPE = 1.0, 4.0, 5.0
"""Seconds: `prometheus.interval` and `evidenceLag` of the operator in the sandbox, and its scrape interval."""
STRATUM, SILENT, GRACE, ANSWERED = 60.0, 60.0, 15.0, 5.0
"""Seconds: of a stratum of excluded answers; of silence (30, or 60 if the stable is slow while a model loads); until
strata of silent requests close; and within which 99 % of the stable's answers end."""
SLACK = 40.0
"""Seconds for the writes, the gateway and the watch on a machine on which a model server has just loaded its model."""
PER_REQUEST = 2 / RPS
"""Seconds per canary request: it has half of the traffic."""
OFF_WITHIN = {
    "missing": 2 * STRATUM + 2 * READ + LAG + SLACK,
    "reset": ANSWERED + SCRAPE + 90 * PER_REQUEST + LAG + SLACK,
    "hang": SILENT + GRACE + 60 * PER_REQUEST + LAG + SLACK,
}
"""Seconds from a canary's first weight until it has none: the formulas of docs/concepts/verdict.md, "How soon a canary
without answers is off", and slack."""


def variant(cluster: Cluster, fault: str) -> Object:
    """The example's first manifest, with a fault in the engine."""
    manifest = load_manifest(EXAMPLE)
    spec = manifest["spec"]
    spec["routing"]["gateway"]["hostnames"] = [host(cluster)]
    spec["analysis"]["metrics"] = [{"name": "errors", "preset": "ErrorRate", "tolerance": {"absolute": 0.05}}]
    spec["rollout"]["drainTimeout"] = "5s"
    pod = spec["podTemplate"]["spec"]
    (engine,) = pod["containers"]
    engine["env"] = [{"name": "PYTHONPATH", "value": "/faults"}, {"name": "FAULT", "value": fault}]
    engine["volumeMounts"].append({"name": "faults", "mountPath": "/faults", "readOnly": True})
    pod["volumes"].append({"name": "faults", "configMap": {"name": "faults"}})
    return manifest


@dataclass(frozen=True)
class Serving:
    """A stable that serves, and the clients that use it."""

    cluster: Cluster
    follower: Follower
    load: Load

    def off_after(self, fault: str) -> tuple[float, Object]:
        """Apply a faulty canary; return the seconds for which it had weight, and the state in which it has none."""
        stable = seen.side(self.cluster.get(f"llmdeployment/{NAME}"), "stable")["revision"]
        began = time.time()
        self.cluster.apply(variant(self.cluster, fault))

        def promoted(state: Object) -> bool:
            return seen.side(state, "stable").get("revision") not in {stable, None}

        def weighs(state: Object) -> bool:
            return seen.side(state, "canary") != {} and seen.status(state).get("weight") not in {None, "0%"}

        self.follower.wait_for("the canary has weight", weighs, LOADING, never=promoted, since=began)
        first = next(at for at, state in self.follower.states if at >= began and weighs(state))
        limit = OFF_WITHIN[fault]
        off = self.follower.wait_for("it has none", lambda s: not weighs(s), limit, never=promoted, since=first)
        return next(at for at, state in self.follower.states if at > first and not weighs(state)) - first, off


@pytest.fixture(scope="module")
def serving(place: Place) -> Iterator[Serving]:
    """A real vLLM without a fault, and six requests per second that wait as long as clients do; one for all faults."""
    prepare.engines(Teller())
    with temporary_namespace(place.environment, "faults") as cluster, Follower(cluster, NAME) as follower:
        cluster.kubectl("create", "configmap", "faults", f"--from-file={FAULTS}")
        load = Load(
            place.gateway_url, NAME, rps=RPS, seconds=1800, timeout=CLIENTS_WAIT, host=host(cluster), concurrency=1000
        )
        try:
            cluster.apply(variant(cluster, "none"))
            follower.wait_for("it serves", seen.is_settled, LOADING)
            load.start()
            assert load.wait_for(lambda outcomes: len(outcomes) >= WARM_UP, 2 * WARM_UP)
            yield Serving(cluster, follower, load)
        finally:
            # The pods first: they end the requests that hang.
            cluster.kubectl("delete", "llmdeployments", "--all", "--wait", timeout=60)
            load.stop()


@pytest.mark.parametrize("fault", OFF_WITHIN)
def test_canary_whose_requests_get_no_answer_loses_its_weight(serving: Serving, fault: str) -> None:
    seconds, off = serving.off_after(fault)
    print(f"faults: {fault} off after {seconds:.0f} s: {seen.status(off).get('message')}")

    assert seen.status(off).get("rejected"), seen.status(off).get("message")
    assert [outcome for outcome in serving.load.outcomes() if outcome.status == 500] == []
