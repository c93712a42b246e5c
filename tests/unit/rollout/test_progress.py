"""No ramp gets stuck: in a world that follows each decision, a good canary is promoted and a bad one is removed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.analysis.counts import Baseline, InFlight, Interval, MetricReadings
from serin.analysis.presets import DEFAULT_SERIES, arrivals
from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.decision import Decision
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.record import Record
from serin.rollout.snapshot import EngineView, PodView, Snapshot
from tests.unit.rollout.cases import (
    ENGINE,
    HOUR,
    MINUTE,
    STABLE,
    A,
    B,
    make_record,
    make_route,
    make_spec,
    serving,
    steps,
)
from tests.unit.rollout.worlds import REQUESTS

FULL = 10_000
MOST_TICKS = 400
PER_TICK = 200
"""Requests that each side finishes between two looks; more if they are far apart."""
STARTED = arrivals(DEFAULT_SERIES, measured=True)


@dataclass
class Obedient:
    """Pods are Ready, the gateway serves and traffic flows by the next tick; time passes as the decision asks."""

    snapshot: Snapshot
    bad: float = 0.0
    rps: float = 10.0
    arrive: int = FULL
    """Requests that arrive at both sides between two looks."""
    phases: list[Phase] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def tick(self, command: str | None = None) -> Decision:
        decision = decide(replace(self.snapshot, command=parse_command(command)))
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
        # New evidence wakes it long before a deadline does.
        wait = timedelta(seconds=4) if decision.due_in is None else min(decision.due_in, HOUR)
        now = before.now + wait + timedelta(seconds=1)
        return replace(
            before,
            now=now,
            target=records.get(before.target.revision) if before.target else None,
            records=tuple(sorted(records.values(), key=lambda r: r.number)),
            engines={e: _engine(e, n) for e, n in wanted.items()},
            route=make_route(
                decision.weights, before.now if changed else before.route.changed_at, epoch=decision.epoch
            ),
            saved_state=decision.trial_state or before.saved_state,
            readings=self._evidence(decision, now),
        )

    def _evidence(self, decision: Decision, now: datetime) -> MetricReadings:
        wanted = decision.wanted
        if wanted is None:
            return MetricReadings()
        idle = {e: InFlight(0, now) for e in wanted.draining}
        if wanted.read_until is None:
            return MetricReadings(baseline=Baseline(now, self.rps) if wanted.baseline_of else None, in_flight=idle)
        tally, epoch, ok, wrong = REQUESTS, decision.epoch, "ok", "server_error"
        if wanted.requests != REQUESTS:
            assert wanted.requests is not None
            tally, epoch, ok, wrong = wanted.requests, None, "200", "500"
        requests = PER_TICK if now - wanted.read_until < HOUR else 10 * PER_TICK
        bad = int(requests * self.bad)
        answered = {(A, ok): requests, (B, ok): requests - bad, (B, wrong): bad}
        grown = {(r, epoch, outcome): n for (r, outcome), n in answered.items() if n and decision.weights.get(r)}
        counts = {tally: grown}
        if epoch is not None and STARTED is not None:  # as many arrive as the weights say
            counts[STARTED] = {
                (r, epoch, ""): weight * self.arrive // FULL for r, weight in decision.weights.items() if weight
            }
        # As the collector does: a long time is cut, and not all of it lies near a change of weight.
        cut = max(wanted.read_until, min(now, wanted.read_until + 5 * MINUTE))
        parts = (Interval(wanted.read_until, cut), Interval(cut, now, counts))
        return MetricReadings(
            intervals=parts if cut < now else (Interval(wanted.read_until, now, counts),), in_flight=idle
        )

    def run(self, phase: Phase) -> None:
        for _ in range(MOST_TICKS):
            if self.tick().phase is phase:
                return
        raise AssertionError(f"stuck in {self.phases[-1]} after {MOST_TICKS} ticks")


def _engine(engine: str, replicas: int) -> EngineView:
    return EngineView(engine, replicas, tuple(PodView(f"p{n}", ready=True) for n in range(replicas)))


def canary(*, measured: bool = True, **spec: Any) -> Obedient:
    new: Record = make_record(B, recorded=False, **({} if measured else {"pod_template": {}}))
    made = make_spec(**spec)
    return Obedient(serving(target=new, spec=made, engines={ENGINE[A]: _engine(ENGINE[A], made.replicas)}))


@st.composite
def ramps(draw: st.DrawFn) -> dict[str, Any]:
    weights = sorted(draw(st.sets(st.integers(1, 9_999), min_size=1, max_size=5)))
    # blindTimeout, 10 minutes, wakes a held canary, so each of up to five days would take 144 ticks.
    holds = st.sampled_from(["0s", "1s", "10m", "4h"])
    written: list[dict[str, Any]] = []
    for weight in weights:
        written.append({"weight": weight / 100, "hold": draw(holds)})
        if draw(st.booleans()):
            written.append({"pause": {"for": draw(holds)}})
    return steps(*written) | draw(LIMITS)


LIMITS = st.fixed_dictionaries(
    {
        "minimumBake": st.sampled_from(["0s", "10m"]),
        "onInconclusive": st.sampled_from(["Pause", "Promote", "Rollback"]),
    },
    optional={"holdback": st.fixed_dictionaries({"weight": st.sampled_from([0.01, 2, 50]), "for": st.just("1h")})},
)
adaptive = st.builds(
    lambda budget, most: {"ramp": {"adaptive": {"blastBudget": budget, "maxWeight": most}}, "minimumBake": "0s"},
    st.sampled_from([0.1, 2, 100]),
    st.sampled_from([0.1, 5, 25, 99.99]),
)


@settings(max_examples=60)
@given(ramps(), st.integers(0, 40), st.booleans())
def test_good_canary_is_promoted_with_any_ramp_and_size(
    rollout: dict[str, Any],
    replicas: int,
    measured: bool,  # noqa: FBT001
) -> None:
    world = canary(rollout=rollout, replicas=replicas, measured=measured)
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}
    assert set(world.snapshot.engines) == {ENGINE[B]}
    if "holdback" not in rollout:
        assert world.weights == sorted(world.weights), "the weight fell on the way"
    else:
        assert FULL - round(rollout["holdback"]["weight"] * 100) in world.weights, "the holdback was left out"
    pinned = [round(step["weight"] * 100) for step in rollout["ramp"]["steps"] if "weight" in step]
    assert set(pinned) <= set(world.weights), "a step was left out"
    assert decide(world.snapshot).records == ()


@settings(max_examples=40)
@given(ramps(), st.integers(0, 40), st.booleans())
def test_bad_canary_never_exceeds_its_first_held_weight(
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
    written = rollout["ramp"]["steps"]
    # A step without hold ends with its first requests, before anything is judged by them.
    reached = written[: 2 if written[0]["hold"] == "0s" else 1]
    assert max(world.weights) <= max(round(step.get("weight", 0) * 100) for step in reached)
    assert world.snapshot.route.weights == {A: 10_000}
    assert set(world.snapshot.engines) == {ENGINE[A]}
    world.run(Phase.ROLLED_BACK)
    assert world.weights[-1] == 0


@settings(max_examples=25)
@given(adaptive, st.sampled_from([0.0, 0.5, 20.0, 2_000.0]), st.sampled_from([1, 3, 40]))
def test_adaptive_ramp_promotes_good_canary_within_bounds(rollout: dict[str, Any], rps: float, replicas: int) -> None:
    world = canary(rollout=rollout, replicas=replicas)
    world.rps = rps
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}
    most = round(rollout["ramp"]["adaptive"]["maxWeight"] * 100)
    on_the_way = [weight for weight in world.weights if 0 < weight < FULL]
    assert on_the_way
    assert max(on_the_way) <= most
    assert on_the_way == sorted(on_the_way), "the weight fell although nothing was bad"


@settings(max_examples=25)
@given(adaptive, st.sampled_from([0.5, 20.0, 2_000.0]), st.sampled_from([0.2, 1.0]))
def test_adaptive_ramp_withdraws_bad_canary(rollout: dict[str, Any], rps: float, bad: float) -> None:
    world = canary(rollout=rollout)
    world.rps, world.bad = rps, bad
    world.run(Phase.ROLLED_BACK)
    world.run(Phase.ROLLED_BACK)
    assert world.weights[-1] == 0
    assert world.snapshot.route.weights == {A: 10_000}


def test_lost_trial_state_delays_canary_but_does_not_stop_it() -> None:
    for moment in range(1, 14):
        world = canary()
        for _ in range(moment):
            world.tick()
        world.snapshot = replace(world.snapshot, saved_state=None)
        world.run(Phase.STABLE)
        assert world.snapshot.route.weights == {B: 10_000}


@pytest.mark.parametrize("verb", ["promote", "skip", "abort"])
def test_command_at_any_moment_ends_in_final_phase(verb: str) -> None:
    for moment in range(1, 14):
        world = canary()
        for _ in range(moment):
            world.tick()
        world.tick(f"{verb}@{B}#1")
        promoted = next(r for r in world.snapshot.records if r.revision == B).promotion
        world.run(Phase.ROLLED_BACK if verb == "abort" and not promoted else Phase.STABLE)
        assert len(world.snapshot.route.weights) == 1


def test_ramp_that_ends_in_a_broken_percent_is_proven_at_the_whole_one_before() -> None:
    """Arrivals are not compared at 99.5 %, so no further request would bring the proof there."""
    world = canary(rollout=steps({"weight": 6, "hold": "0s"}, {"weight": 99.5, "hold": "0s"}))
    world.arrive = 3_000
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}
    assert Phase.PAUSED not in world.phases


def test_indefinite_pause_ends_only_by_command() -> None:
    world = canary(rollout=steps({"weight": 5}, {"pause": {}}, {"weight": 50}))
    world.run(Phase.PAUSED)
    for _ in range(20):
        world.snapshot = replace(world.snapshot, now=world.snapshot.now + 60 * MINUTE)
        assert world.tick().phase is Phase.PAUSED
    assert world.weights[-1] == 500
    world.tick(f"resume@{B}#1")
    world.run(Phase.STABLE)
    assert world.snapshot.route.weights == {B: 10_000}


def test_changing_spec_back_and_forth_ends_at_last_spec() -> None:
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
