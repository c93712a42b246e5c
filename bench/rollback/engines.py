"""Canaries with pods of their own that fail 90 % of their requests, at a fixed weight and on the adaptive ramp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.rollback.page import LIMIT, RATE, RUNS, SCRAPE, row, table
from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.demo.say import Teller
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

TITLE = "Engines"
FAILS = {"error-rate": "0.9"}
FIXED = "fixed at 25 %"
RAMPS: Mapping[str, Mapping[str, Any]] = {
    FIXED: {"steps": [{"weight": 25, "hold": "10m"}]},
    "adaptive": {"adaptive": {}},
}
_WARM_UP = 60
_INTRO = f"""\
{RUNS} runs each. The canary fails 90 % of its requests. Seconds are the client's: from the first bad answer of the
canary to the last request that was sent to it. The limit at a fixed weight is three scrape intervals plus two seconds:
{LIMIT:g} s.
"""


@dataclass(frozen=True)
class Run:
    """One rollback as clients saw it."""

    seconds: float
    bad: int
    reached: int


def measure(place: Place, cluster: Cluster, tell: Teller) -> tuple[str, bool]:
    """Return the section of the page, and whether every rollback was within the limit."""
    with Follower(cluster, NAME) as follower, Traffic(place, cluster, RATE) as traffic:
        story = Story(cluster, follower)
        story.install()
        # The adaptive ramp begins from the request rate before the rollout.
        traffic.wait_for(int(RATE * _WARM_UP), PATIENCE)
        runs = {
            name: [_run(story, traffic, f"{name.split()[0]}-{n}", ramp, tell) for n in range(RUNS)]
            for name, ramp in RAMPS.items()
        }
    rows = [row(name, [run.seconds for run in of], [run.bad for run in of]) for name, of in runs.items()]
    lines = [
        _INTRO,
        *table(("ramp", "seconds", "bad answers"), rows),
        "",
        "Each run, in order:",
        "",
        *(f"- {name}: " + ", ".join(f"{r.seconds:.1f} s ({r.bad})" for r in of) for name, of in runs.items()),
    ]
    worst = max(run.seconds for run in runs[FIXED])
    tell.say(f"the longest at a fixed weight: {worst:.1f} s of {LIMIT:g} s, with a scrape every {SCRAPE:g} s")
    return "\n".join(lines), worst <= LIMIT


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
