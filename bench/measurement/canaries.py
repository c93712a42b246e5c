"""Canaries that lose, exclude or hang requests, and identical ones: whole rollouts. Called by `main` and `servers`.

Single requests, counters, scrapes, the collector, the reconciler and the route; nothing between them is faked
(`fakes.traffic`, `fakes.reading_operator`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fakes.operator_in_memory import spec
from fakes.prometheus import FakePrometheus
from fakes.reading_operator import ReadingOperator
from fakes.traffic import SILENT, Busy, GatewayCounters, Load, Process, stalls
from fakes.world import Behaviour

READ_SECONDS = 5.0
WARM_UP_SECONDS = 300.0
LONGEST_MINUTES = 60.0
Serve = Callable[[Callable[[], int]], FakePrometheus]
"""Makes a Prometheus from a clock in milliseconds since 1970."""
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
    """How it should end."""
    wrong_at_most: float = 0.0
    """Share of the runs that may end otherwise, by chance."""

    def misjudged(self, ended: Sequence[Ended]) -> bool:
        """Whether more runs ended otherwise than chance explains (3 standard errors)."""
        wrong, n, p = sum(each.how not in self.right for each in ended), len(ended), self.wrong_at_most
        return wrong > p * n + 3 * math.sqrt(p * (1 - p) * n)


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
                # At exactly the tolerated loss the proof of arrivals errs in one of twenty trials.
                wrong_at_most=0.05 if share <= 0.1 else 0.0,
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


async def play(case: Case, ramp: str, seed: int, serve: Serve | None = None) -> Ended:
    """One rollout, until the canary has no weight any more or is promoted.

    Args:
        case: the traffic.
        ramp: a name in `RAMPS`.
        seed: of the traffic.
        serve: makes the Prometheus that the operator reads; None: one that shows what happened at once.
    """
    world = Busy(case.load, seed)
    if serve is not None:
        world.prometheus = serve(lambda: round(world.now.timestamp() * 1000))
        world.gateway = GatewayCounters(world.prometheus)
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
