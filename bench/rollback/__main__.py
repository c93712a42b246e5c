"""Ten canaries that fail 90 % of their requests, at a fixed weight and on the adaptive ramp: `make bench-rollback`.

The client measures from the first bad answer of the canary to the last request sent to it. Writes
`bench/rollback/results.md`, and ends with status 1 if a rollback at a fixed weight took longer than three scrape
intervals plus two seconds. Starts the sandbox if needed and leaves it running. Not here: simulated rollouts
(`bench.decision`).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.say import Teller
from examples.light.image import load_image
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

RUNS = 10
RATE = 80.0
"""Requests per second; a quarter of them is a hundred for each slice of five seconds."""
SCRAPE = 5.0
"""Seconds between two scrapes in the sandbox."""
LIMIT = 3 * SCRAPE + 2
FAILS = {"error-rate": "0.9"}
RAMPS: Mapping[str, Mapping[str, Any]] = {
    "fixed at 25 %": {"steps": [{"weight": 25, "hold": "10m"}]},
    "adaptive": {"adaptive": {}},
}
RESULTS = Path(__file__).with_name("results.md")
_WARM_UP = 60


@dataclass(frozen=True)
class Run:
    """One rollback as clients saw it."""

    seconds: float
    bad: int
    reached: int


def main() -> int:
    """Measure, write the page, and return 1 if a rollback took longer than the limit."""
    tell = Teller()
    place = prepare.sandbox(tell)
    prepare.operator(tell, place)
    load_image(tell, place)
    cluster = Cluster(place.environment, "bench-rollback")
    cluster.make_namespace()
    try:
        with Follower(cluster, NAME) as follower, Traffic(place, cluster, RATE) as traffic:
            story = Story(cluster, follower)
            story.install()
            # The adaptive ramp begins from the request rate before the rollout.
            traffic.wait_for(int(RATE * _WARM_UP), PATIENCE)
            runs = {
                name: [_run(story, traffic, f"{name.split()[0]}-{n}", ramp, tell) for n in range(RUNS)]
                for name, ramp in RAMPS.items()
            }
    finally:
        cluster.kubectl("delete", "llmdeployments", "--all", "--wait", timeout=60)
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
    RESULTS.write_text(_page(runs))
    worst = max(run.seconds for run in runs["fixed at 25 %"])
    print(RESULTS.read_text())
    print(f"the longest at a fixed weight: {worst:.1f} s of {LIMIT:g} s")
    return 0 if worst <= LIMIT else 1


def _run(story: Story, traffic: Traffic, variant: str, ramp: Mapping[str, Any], tell: Teller) -> Run:
    canary = seen.side(story.change(variant, ramp=ramp, args=FAILS), "canary")["revision"]
    story.rolled_back(canary)
    # By then, requests that were under way when the route changed have been answered.
    traffic.wait_for(int(RATE * 2), PATIENCE)
    failed = [failure for failure in traffic.failures if failure.revision == canary]
    first = min(failure.after for failure in failed)
    run = Run(traffic.last_sent[canary] - first, len(failed), len(failed) + traffic.answered[canary])
    tell.say(f"{variant}: {run.seconds:.1f} s, {run.bad} bad of {run.reached} at the canary")
    story.install()
    return run


def _page(runs: Mapping[str, Sequence[Run]]) -> str:
    intro = f"""\
Written by `make bench-rollback`: the sandbox's real Envoy and Prometheus, {RATE:g} requests/s, a scrape every
{SCRAPE:g} s, a canary that fails 90 % of its requests, {RUNS} runs each. Seconds are the client's: from the first bad
answer of the canary to the last request that was sent to it. The limit at a fixed weight is three scrape intervals plus
two seconds: {LIMIT:g} s.
"""
    lines = [
        "# How long a failing canary goes on getting requests",
        "",
        intro,
        "| ramp | seconds: least | median | most | bad answers: least | median | most |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of in runs.items():
        seconds, bad = [run.seconds for run in of], [run.bad for run in of]
        cells = [f"{f(seconds):.1f}" for f in (min, statistics.median, max)]
        cells += [f"{f(bad):g}" for f in (min, statistics.median, max)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Each run, in order:", ""]
    lines += [f"- {name}: " + ", ".join(f"{r.seconds:.1f} s ({r.bad})" for r in of) for name, of in runs.items()]
    where = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return "\n".join([*lines, "", f"At {where.stdout.strip() or 'an unknown commit'}.", ""])


if __name__ == "__main__":
    sys.exit(main())
