"""Plays canaries that lose, exclude or hang requests, and identical ones: `python -m bench.measurement`.

Single requests, counters, scrapes, the collector, the reconciler and the route; nothing between them is faked
(`fakes.traffic`, `fakes.reading_operator`). Prints a table in Markdown: what became of each canary, after how many
minutes of traffic, and how many of its requests were harmed. Ends with status 1 if a bad canary was promoted or kept
its weight, or if an identical one was not promoted. Not here: the test itself (`bench.decision`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from fakes.operator_in_memory import spec
from fakes.reading_operator import ReadingOperator
from fakes.traffic import SILENT, Busy, Load, Process, stalls
from fakes.world import Behaviour

READ_SECONDS = 5.0
WARM_UP_SECONDS = 300.0
LONGEST_MINUTES = 60.0
HELD, PROMOTED = frozenset({"off", "running"}), frozenset({"promoted"})
RAMPS: Mapping[str, Mapping[str, Any]] = {
    "steps": {"ramp": {"steps": [{"weight": w, "hold": "10m"} for w in (5, 25, 50)]}},
    "adaptive": {"ramp": {"adaptive": {}}},
}


@dataclass(frozen=True)
class Case:
    """A row: what happens to the canary's requests."""

    name: str
    load: Load
    right: frozenset[str] = frozenset({"off"})
    """How it may end."""


def cases(rps: float) -> tuple[Case, ...]:
    """The rows at so many requests per second."""
    load = Load(rps, restarts_per_hour=0.0)
    hung = replace(load, canary_durations=stalls(0.4, 300.0))
    return (
        *(
            Case(
                f"{share:.0%} lost before the pod",
                replace(load, lost_on_the_way=share),
                HELD if share <= 0.1 else frozenset({"off"}),
            )
            for share in _LOST
        ),
        *(
            Case(f"{share:.0%} answered 503 by the gateway", replace(load, lost_on_the_way=share, gateway=True))
            for share in _LOST
        ),
        *(
            Case(f"{share:.0%} excluded (404, 401, 429)", replace(load, excluded=(0.0, share)))
            for share in (0.1, 0.4, 1.0)
        ),
        Case("40% left by the client within 10 s", replace(load, left=(0.0, 0.4)), HELD),
        Case("40% stalled for 300 s", hung),
        *(
            Case(f"{share:.0%} hang for 600 s", replace(load, canary_durations=stalls(share, 600.0)))
            for share in (0.03, 0.1, 0.3)
        ),
        Case("identical", load, right=PROMOTED),
        Case("identical, with gateway series", replace(load, gateway=True), right=PROMOTED),
        Case(
            "identical, 10% excluded and 10% left on both",
            replace(load, excluded=(0.1, 0.1), left=(0.1, 0.1)),
            right=PROMOTED,
        ),
    )


_LOST = (0.1, 0.3, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Ended:
    """What became of a canary."""

    how: str
    """`off`, `promoted` or `running`."""
    minutes: float
    """From its first traffic."""
    harmed: int
    """Its requests that were lost, excluded, left, or silent for 60 s or longer."""
    said: str


async def play(case: Case, ramp: str, seed: int) -> Ended:
    """One rollout, until the canary has no weight any more or is promoted."""
    world = Busy(case.load, seed)
    world.behaviours |= {"good": Behaviour(load_seconds=0.0), "other": Behaviour(load_seconds=20.0)}
    operator = ReadingOperator(world, world.now)
    changes = {"rollout": RAMPS[ramp], "analysis": {}}
    world.user_applies(spec("good", **changes))
    for _ in range(4):
        await operator.live(READ_SECONDS)
    await operator.live(WARM_UP_SECONDS)
    world.user_applies(spec("other", **changes))
    operator.woken = True
    since, now, how = None, 0.0, "running"
    while how == "running" and now < 60 * LONGEST_MINUTES:
        await operator.live(READ_SECONDS)
        weights = {revision: weight for revision, weight in world.weights().items() if revision != world.first}
        weight = max(weights.values(), default=0)
        now += READ_SECONDS if since is not None else 0.0
        if since is None:
            since = 0.0 if weight else None
        elif weight == 10_000 or world.status()["phase"] == "Stable":
            how = "promoted"
        elif weight == 0:
            how = "off"
    said = next(c["message"] for c in world.status()["conditions"] if c["type"] == "Reconciling")
    return Ended(how, now / 60, _harmed(world), said)


def _harmed(world: Busy) -> int:
    def of(process: Process) -> int:
        silent = int(process.overdue[0, :, SILENT.index(60)].sum())
        return int(process.counts[:, 2:].sum()) + silent

    return world.lost + sum(of(process) for process in world.processes_ever if process.revision != world.first)


def run(rps: float, name: str, ramp: str, seed: int) -> Ended:
    """`play` in a process of its own, which finds the case by its name."""
    case = next(case for case in cases(rps) if case.name == name)
    return asyncio.run(play(case, ramp, seed))


def main() -> int:
    """Play all, print the table, and return 1 if a canary was misjudged."""
    parser = argparse.ArgumentParser(prog="python -m bench.measurement", description=__doc__)
    parser.add_argument("--rps", type=float, default=20.0, help="requests per second")
    parser.add_argument("--runs", type=int, default=1, help="runs of each bad canary")
    parser.add_argument("--identical", type=int, default=3, help="runs of each identical canary")
    parser.add_argument("--only", default="", help="only the rows whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--said", action="store_true", help="print what the status said at the end as well")
    args = parser.parse_args()
    rows = [case for case in cases(args.rps) if args.only in case.name]
    jobs = [
        (case, ramp, seed)
        for case in rows
        for ramp in RAMPS
        for seed in range(args.identical if case.right == PROMOTED else args.runs)
    ]
    print(f"{args.rps:g} requests/s; outcome, minutes of traffic (harmed requests of the canary)\n")
    print("| canary's requests | " + " | ".join(RAMPS) + " |\n|---|" + "---|" * len(RAMPS))
    misjudged = 0
    with ProcessPoolExecutor(args.jobs) as pool:
        playing = {
            (case.name, ramp, seed): pool.submit(run, args.rps, case.name, ramp, seed) for case, ramp, seed in jobs
        }
        for case in rows:
            cells: list[str] = []
            said: list[str] = []
            for ramp in RAMPS:
                ended = [each.result() for (name, its, _), each in playing.items() if (name, its) == (case.name, ramp)]
                misjudged += sum(each.how not in case.right for each in ended)
                cells.append("; ".join(f"{each.how} {each.minutes:.0f} min ({each.harmed})" for each in ended))
                said += [f"    {ramp}: {each.said}" for each in ended]
            print(f"| {case.name} | " + " | ".join(cells) + " |", *(said if args.said else ()), sep="\n", flush=True)
    print(f"\n{misjudged} of {len(jobs)} misjudged")
    return 1 if misjudged else 0


if __name__ == "__main__":
    sys.exit(main())
