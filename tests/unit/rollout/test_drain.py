"""Pods leave the route first, then drain, then go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from serin.analysis.counts import Baseline, InFlight, MetricReadings
from serin.rollout.decide import decide
from serin.rollout.drain import is_drained
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import NO_ROUTE, RouteView, Snapshot
from tests.unit.rollout.cases import (
    ENGINE,
    MINUTE,
    NOON,
    REJECTION,
    STABLE,
    UNSETTLED,
    A,
    B,
    C,
    by_name,
    make_engine,
    make_pods,
    make_record,
    make_route,
    make_trial,
    serving,
    weight_of,
)

REJECTED = make_record(B, rejection=REJECTION)


def leaving(in_flight: InFlight | None = None, route: RouteView | None = None, ready: int = 1) -> Snapshot:
    """A rejected canary out of the route for a minute; the drain timeout is ten."""
    return serving(
        target=REJECTED,
        records=(STABLE, REJECTED),
        engines=by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(ready, 1 - ready))),
        route=route or make_route({A: 10_000}),
        readings=MetricReadings(in_flight={ENGINE[B]: in_flight} if in_flight else {}),
    )


def idle(at: datetime = NOON) -> InFlight:
    return InFlight(0, at)


@pytest.mark.parametrize(
    ("snapshot", "settled", "drained"),
    [
        pytest.param(leaving(idle()), True, True, id="idle"),
        pytest.param(leaving(InFlight(0.5, NOON)), True, False, id="busy"),
        pytest.param(leaving(), True, False, id="nothing measured"),
        pytest.param(leaving(idle(NOON - 2 * MINUTE)), True, False, id="measured before it left the route"),
        pytest.param(leaving(idle(NOON - MINUTE)), True, False, id="measured before the change was settled"),
        pytest.param(leaving(idle()), False, False, id="the gateway may still send requests"),
        pytest.param(leaving(idle(), make_route({A: 10_000, B: 0})), True, False, id="still in the route at 0"),
        pytest.param(leaving(idle(), make_route({A: 9_500, B: 500})), True, False, id="still gets traffic"),
        pytest.param(leaving(idle(), make_route({A: 10_000, C: 0})), True, False, id="a backend without a record"),
        pytest.param(leaving(idle(), make_route({A: 10_000}, None)), True, False, id="a route never changed by us"),
        pytest.param(leaving(ready=0), True, True, id="no pod is Ready"),
        pytest.param(leaving(ready=0), False, False, id="no pod is Ready, the gateway not settled"),
        pytest.param(
            leaving(InFlight(9, NOON), make_route({A: 10_000}, NOON - timedelta(minutes=10, seconds=3))), True, True,
            id="busy beyond the drain timeout",
        ),
        pytest.param(
            leaving(InFlight(9, NOON), make_route({A: 10_000}, NOON - timedelta(minutes=10, seconds=2))), True, False,
            id="busy just within the drain timeout",
        ),
        pytest.param(leaving(route=NO_ROUTE), True, True, id="no route at all"),
    ],
)  # fmt: skip
def test_pods_are_drained_when_out_of_route_and_idle(
    snapshot: Snapshot,
    *,
    settled: bool,
    drained: bool,
) -> None:
    assert is_drained(snapshot, ENGINE[B], settled=settled) is drained


def test_rejected_canary_leaves_route_then_drains_then_is_deleted() -> None:
    serves = leaving(route=make_route({A: 9_500, B: 500}, UNSETTLED))
    at_zero = decide(serves)
    assert (at_zero.phase, at_zero.weights) == (Phase.ROLLING_BACK, {A: 10_000, B: 0})
    pending = decide(leaving(idle(), make_route({A: 10_000, B: 0}, UNSETTLED)))
    assert pending.weights == {A: 10_000, B: 0}
    out = decide(leaving(idle(), make_route({A: 10_000, B: 0})))
    assert (out.phase, out.weights, out.retired) == (Phase.ROLLING_BACK, {A: 10_000}, frozenset())
    busy = decide(leaving(InFlight(2, NOON)))
    assert (busy.phase, busy.retired) == (Phase.ROLLING_BACK, frozenset())
    assert busy.engines[ENGINE[B]] == 1, "a pod that drains is not scaled"
    assert busy.wanted is not None
    assert busy.wanted.draining == (ENGINE[B],)
    assert busy.due_in is not None
    gone = decide(leaving(idle()))
    assert (gone.phase, gone.reason, gone.retired) == (Phase.ROLLED_BACK, Reason.ROLLED_BACK, frozenset({ENGINE[B]}))
    assert gone.wanted is None


def test_phase_is_promoting_for_old_stable_rolling_back_for_canary() -> None:
    new = make_record(B, promotion=2)
    engines = by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(3)))
    promoted = serving(target=new, records=(STABLE, new), engines=engines, route=make_route({B: 10_000, A: 0}))
    assert (decide(promoted).phase, decide(promoted).reason) == (Phase.PROMOTING, Reason.PROMOTING)
    given_up = make_record(B, trial=make_trial())
    back = serving(records=(STABLE, given_up), engines=engines, route=make_route({A: 9_500, B: 500}))
    decision = decide(back)
    assert (decision.phase, decision.reason) == (Phase.ROLLING_BACK, Reason.WITHDRAWING)
    assert weight_of(decision, B) == 0
    assert decision.records == (replace(given_up, trial=None),)


def test_shared_pods_stay_while_one_revision_is_in_route() -> None:
    sibling = make_record(C, engine_revision=ENGINE[B])
    snapshot = leaving(idle(), make_route({A: 10_000, C: 0}))
    snapshot = replace(snapshot, records=(*snapshot.records, sibling))
    assert not is_drained(snapshot, ENGINE[B], settled=True)


def test_new_canary_replaces_old_one() -> None:
    old, new = make_record(B, trial=make_trial()), make_record(C, recorded=False)
    engines = by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(1)), make_engine(C, *make_pods(1)))
    route, readings = make_route({A: 9_500, B: 500}), MetricReadings(baseline=Baseline(NOON, 10.0))
    decision = decide(serving(target=new, records=(STABLE, old), engines=engines, route=route, readings=readings))
    assert decision.weights == {A: 10_000, B: 0, C: 0}
    assert decision.retired == frozenset()
    assert decision.canary is not None
    assert (decision.canary.revision, decision.canary.trial and decision.canary.trial.against) == (C, A)
