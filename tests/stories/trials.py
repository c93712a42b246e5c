"""One rollout from requests to verdict: the world of `fakes.traffic`, and the operator's own code on its clock.

The collector reads, the reconciler decides and is checked; `test_two_hundred.py` plays many. Nothing is faked between
the answers of Prometheus and the route.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fakes.operator_in_memory import spec
from fakes.reading_operator import ReadingOperator
from fakes.traffic import Busy, Load
from fakes.world import NAME, NAMESPACE, Behaviour
from serin.analysis.trial_state import TrialState
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION
from serin.evidence.slices import Totals
from serin.manifests.controller_revision import read_record
from serin.manifests.evidence_map import name_of, read_evidence
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason

TICK_SECONDS = 15.0
WARM_UP_SECONDS = 300.0
RESTARTS = 0.02
"""How often the operator dies between two ticks, and starts again without memory."""


@dataclass
class Trial:
    """How a rollout went."""

    outcome: Phase | None
    """RolledBack, Stable for a promotion, None where time ran out."""
    seconds: float
    state: TrialState
    counted: Totals
    """Of the errors: what the evidence knows."""
    held: Totals
    """What the counters hold."""
    hidden: Totals
    """What of that no counter can tell."""
    world: Busy
    astray: bool
    """Whether it was ever warned that requests do not reach the side that the weight promises."""
    missing: bool
    """Whether the canary was ever held because its requests were missing."""


async def play(load: Load, seed: int, *, minutes: float = 60.0, **changes: Mapping[str, Any]) -> Trial:
    """Install, warm up, change the model, and wait for what becomes of the canary."""
    world = Busy(load, seed)
    world.behaviours |= {"good": Behaviour(load_seconds=0.0), "other": Behaviour(load_seconds=20.0)}
    operator = ReadingOperator(world, world.now)
    world.user_applies(spec("good", **changes))
    for _ in range(4):
        await operator.live(5.0)
    await operator.live(WARM_UP_SECONDS)
    world.user_applies(spec("other", **changes))
    operator.woken = True
    began = world.now
    canary, astray, missing = "", False, False
    outcome: Phase | None = None
    while outcome is None and world.now - began < timedelta(minutes=minutes):
        if world.random.random() < RESTARTS:
            operator = ReadingOperator(world, world.now)
        await operator.live(TICK_SECONDS)
        reported = world.status().get("canary", {})
        canary = canary or reported.get("revision", "")
        astray |= any("are lost or retried at" in caveat for caveat in reported.get("caveats", ()))
        missing |= any(c["reason"] == Reason.REQUESTS_MISSING for c in world.status()["conditions"])
        outcome = _outcome(world, canary)
    state = read_evidence(world.cluster.find(CONFIG_MAP, NAMESPACE, name_of(NAME)))
    assert state is not None, world.status()
    held, hidden = world.held(state, canary)
    took = (world.now - began).total_seconds()
    return Trial(outcome, took, state, state.metrics[0].tests.totals[0], held, hidden, world, astray, missing)


def _outcome(world: Busy, canary: str) -> Phase | None:
    phase = world.status()["phase"]
    if phase == Phase.PROMOTING and world.weights().get(canary) == 10_000:
        return Phase.STABLE
    if phase not in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return None
    record = world.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{canary}")
    assert record
    rejection = read_record(record).rejection
    assert rejection
    assert rejection.reason == Reason.VERDICT_FAILED, rejection
    return Phase.ROLLED_BACK
