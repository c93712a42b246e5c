"""Canaries of prompts that spoil 90 % of their answers, in the pods of the stable; every status code is 200."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.rollback.page import LIMIT, RATE, RUNS, row, table
from examples.demo import conditions as seen
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.demo.say import Teller
from examples.light.prompts import CHECKED, name_of, prompt_version
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

TITLE = "Prompts"
WRONG = 0.9
STABLE = "1.0.0"
SOON = 5.0
"""Seconds from the change to the canary's first answer, at most."""
STEPS = [{"weight": 25, "hold": "10m"}]
_INTRO = f"""\
The canary is a prompt that makes {WRONG:.0%} of its answers fail the check `Schema`; every status code is 200. Two pods
serve both prompts; its weight is 25 %. Seconds are the client's: from the moment at which a watch shows the applied
change to the first answer of the canary (limit {SOON:g} s), and from the first bad answer to the last (limit three
scrape intervals plus two seconds: {LIMIT:g} s).
"""


@dataclass(frozen=True)
class Run:
    """One rollback as clients saw it."""

    first_answer: float
    """Seconds from the change to the first answer of the canary."""
    seconds: float
    """From the first bad answer to the last."""
    bad: int
    reached: int


def measure(place: Place, cluster: Cluster, tell: Teller) -> tuple[str, bool]:
    """Return the section of the page, and whether all runs were within both limits."""
    cluster.apply(prompt_version(STABLE))
    with Follower(cluster, NAME) as follower, Traffic(place, cluster, RATE) as traffic:
        story = Story(cluster, follower)
        story.install(prompt=name_of(STABLE), metrics=CHECKED, replicas=2)
        traffic.wait_for(int(RATE * 10), PATIENCE)
        runs = [_run(story, traffic, f"2.0.{n}", tell) for n in range(RUNS)]
    figures = [r.first_answer for r in runs], [r.seconds for r in runs]
    slowest, longest = (max(column) for column in figures)
    tell.say(f"the latest first answer: {slowest:.1f} s of {SOON:g} s; the longest: {longest:.1f} s of {LIMIT:g} s")
    failed = f"Failed requests: {len(traffic.failures)} of {traffic.ended}."
    return section(runs, failed), slowest <= SOON and longest <= LIMIT and not traffic.failures


def section(runs: Sequence[Run], failed: str) -> str:
    """The section of the page; `failed` is a sentence about failed requests."""
    columns = ("runs", "seconds to the first answer", "seconds from first to last bad answer", "bad answers")
    figures = [r.first_answer for r in runs], [r.seconds for r in runs], [r.bad for r in runs]
    lines = [
        _INTRO,
        *table(columns, [row(str(len(runs)), *figures)]),
        "",
        failed,
        "",
        "Each run, in order: " + ", ".join(f"{r.first_answer:.1f} s, {r.seconds:.1f} s ({r.bad})" for r in runs) + ".",
    ]
    return "\n".join(lines)


def _run(story: Story, traffic: Traffic, version: str, tell: Teller) -> Run:
    story.cluster.apply(prompt_version(version, wrong=WRONG))
    trial = story.change("0", prompt=name_of(version), metrics=CHECKED, replicas=2, steps=STEPS)
    canary = seen.side(trial, "canary")["revision"]
    story.rolled_back(canary)
    traffic.wait_for(int(RATE * 2), PATIENCE)
    bad, generation = traffic.wrong[canary], trial["metadata"]["generation"]
    changed_at = next(at for at, s in story.follower.states if s["metadata"]["generation"] == generation)
    applied = traffic.elapsed - (time.time() - changed_at)
    run = Run(traffic.first_answered[canary] - applied, bad[-1] - bad[0], len(bad), traffic.answered[canary])
    tell.say(
        f"{version}: first answer after {run.first_answer:.1f} s, bad for {run.seconds:.1f} s, "
        f"{run.bad} bad of {run.reached} at the canary"
    )
    story.install(prompt=name_of(STABLE), metrics=CHECKED, replicas=2)
    return run
