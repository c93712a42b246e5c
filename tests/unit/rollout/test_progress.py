"""No ramp gets stuck: in a world that does as it is told a good canary is promoted, and a bad one is gone in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.record import Record
from serin.rollout.snapshot import Counts, EngineView, Evidence, InFlight, PodView, Snapshot
from tests.unit.rollout.cases import ENGINE, MINUTE, STABLE, A, B, make_record, make_route, make_spec, serving, steps

MOST_TICKS = 400


@dataclass
class Obedient:
    """Pods are Ready, the gateway serves and traffic flows by the next tick; time passes as the decision asks."""

    snapshot: Snapshot
    bad: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def tick(self, command: str | None = None) -> Decision:
        decision = decide(replace(self.snapshot, command=command))
        if self.phases and self.phases[-1] is not decision.phase:
            assert decision.phase in TRANSITIONS[self.phases[-1]], f"{self.phases[-1]} -> {decision.phase}"
        self.phases.append(decision.phase)
        self.weights.append(decision.weights.get(B, 0))
        self.snapshot = self._obey(decision)
        return decision

    def _obey(self, decision: Decision) -> Snapshot:
        before = self.snapshot
        records = {r.revision: r for r in before.records} | {r.revision: r for r in decision.records}
        wanted = {e: n for e, n in decision.engines.items() if e not in decision.retired}
        changed = decision.weights != before.route.weights
        now = before.now + (timedelta(seconds=4) if decision.due_in is None else decision.due_in) + timedelta(seconds=1)
        return replace(
            before,
            now=now,
            target=records.get(before.target.revision) if before.target else None,
            records=tuple(sorted(records.values(), key=lambda r: r.number)),
            engines={e: _engine(e, n) for e, n in wanted.items()},
            route=make_route(decision.weights, before.now if changed else before.route.changed_at),
            evidence=self._evidence(decision, now),
        )

    def _evidence(self, decision: Decision, now: Any) -> Evidence:
        window = decision.window
        if window is None:
            return Evidence()
        requests = 100 * len(self.weights)
        counts: Mapping[str, Counts] = {A: Counts(requests, 0), B: Counts(requests, int(requests * self.bad))}
        idle = {e: InFlight(0, now) for e in window.engine_revisions}
        return Evidence(at=now, since=window.since, counts=counts if window.since else {}, in_flight=idle)

    def run(self, phase: Phase) -> None:
        for _ in range(MOST_TICKS):
            if self.tick().phase is phase:
                return
        raise AssertionError(f"stuck in {self.phases[-1]} after {MOST_TICKS} ticks")


def _engine(engine: str, replicas: int) -> EngineView:
    return EngineView(engine, replicas, tuple(PodView(f"p{n}", ready=True) for n in range(replicas)))


def canary(**spec: Any) -> Obedient:
    new: Record = make_record(B, recorded=False)
    made = make_spec(**spec)
    return Obedient(serving(target=new, spec=made, engines={ENGINE[A]: _engine(ENGINE[A], made.replicas)}))


@st.composite
def ramps(draw: st.DrawFn) -> dict[str, Any]:
    weights = sorted(draw(st.sets(st.integers(1, 9_999), min_size=1, max_size=5)))
    holds = st.sampled_from(["0s", "1s", "10m", "24h"])
    written: list[dict[str, Any]] = []
    for weight in weights:
        written.append({"weight": weight / 100, "hold": draw(holds)})
        if draw(st.booleans()):
            written.append({"pause": {"for": draw(holds)}})
    return steps(*written)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(ramps(), st.integers(0, 40))
def test_a_good_canary_is_promoted_whatever_the_ramp_and_the_size(rollout: dict[str, Any], replicas: int) -> None:
    world = canary(rollout=rollout, replicas=replicas)
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}
    assert set(world.snapshot.engines) == {ENGINE[B]}
    assert world.weights == sorted(world.weights), "the weight fell on the way"
    pinned = [round(step["weight"] * 100) for step in rollout["ramp"]["steps"] if "weight" in step]
    assert set(pinned) <= set(world.weights), "a step was left out"
    assert decide(world.snapshot).records == ()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(ramps(), st.integers(0, 40), st.booleans())
def test_a_bad_canary_never_gets_beyond_its_first_weight(
    rollout: dict[str, Any],
    replicas: int,
    paused: bool,  # noqa: FBT001
) -> None:
    world = canary(rollout=rollout, replicas=replicas)
    world.bad = 0.9
    if paused:
        world.tick()
        world.snapshot = replace(world.snapshot, spec=world.snapshot.spec.model_copy(update={"paused": True}))
        for _ in range(5):
            world.tick()
        world.snapshot = replace(world.snapshot, spec=world.snapshot.spec.model_copy(update={"paused": False}))
    world.run(Phase.ROLLED_BACK)
    assert max(world.weights) <= round(rollout["ramp"]["steps"][0]["weight"] * 100)
    assert world.snapshot.route.weights == {A: 10_000}
    assert set(world.snapshot.engines) == {ENGINE[A]}
    world.run(Phase.ROLLED_BACK)
    assert world.weights[-1] == 0


@pytest.mark.parametrize("verb", ["promote", "skip", "abort"])
def test_a_command_at_any_moment_ends_well(verb: str) -> None:
    for moment in range(1, 14):
        world = canary()
        for _ in range(moment):
            world.tick()
        world.tick(f"{verb}@{B}#1")
        promoted = next(r for r in world.snapshot.records if r.revision == B).promotion
        world.run(Phase.ROLLED_BACK if verb == "abort" and not promoted else Phase.STABLE)
        assert len(world.snapshot.route.weights) == 1


def test_a_pause_for_a_person_waits_for_a_person_only() -> None:
    world = canary(rollout=steps({"weight": 5}, {"pause": {}}, {"weight": 50}))
    world.run(Phase.PAUSED)
    for _ in range(20):
        world.snapshot = replace(world.snapshot, now=world.snapshot.now + 60 * MINUTE)
        assert world.tick().phase is Phase.PAUSED
    world.tick(f"resume@{B}#1")
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}


def test_going_back_and_forth_ends_where_the_spec_ends() -> None:
    world = canary()
    for _ in range(6):
        world.tick()
    world.snapshot = replace(world.snapshot, target=STABLE)
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {A: 10_000}
    back = next(r for r in world.snapshot.records if r.revision == B)
    assert back.trial is None
    world.snapshot = replace(world.snapshot, target=back)
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}
