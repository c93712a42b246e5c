"""Snapshots that the tests of the core start from: a stable `A` and a canary `B` at noon, three replicas, three steps.

`canary_at` is a canary in the middle of its ramp with everything in order; tests replace the one thing they are about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from serin.analysis.counts import Baseline, MetricReadings
from serin.analysis.presets import Series, measurements
from serin.analysis.trial_state import Epoch, MetricState, TrialState, name_of
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import CONTAINER, MIDDLEWARE_ARG
from serin.evidence.slices import Counts, Totals
from serin.rollout.decision import Decision
from serin.rollout.ramp import pin, pin_budget, pin_holdback
from serin.rollout.record import Record, Rejection, Resolved
from serin.rollout.snapshot import EngineView, PodView, RouteView, Snapshot
from serin.rollout.trial import Trial

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SETTLED = NOON - MINUTE
"""When the route was changed last, long enough ago to be believed."""
UNSETTLED = NOON - timedelta(seconds=1)

A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"
ENGINE = {A: "a1a1a1a1a1", B: "b1b1b1b1b1", C: "c1c1c1c1c1"}

NOTHING = {A: Counts(0, 0), B: Counts(0, 0)}
GOOD = {A: Counts(10_000, 10), B: Counts(1_500, 1)}
BAD = {A: Counts(10_000, 10), B: Counts(1_000, 200)}
FEW = {A: Counts(200, 0), B: Counts(10, 0)}
DOUBTFUL = {A: Counts(10_000, 10), B: Counts(1_000, 3)}
"""Neither proven nor against the canary: more requests would decide."""
AGAINST = {A: Counts(10_000, 10), B: Counts(1_000, 5)}
"""Against the canary, but not enough for a Fail: its weight does not grow."""


STEPS: dict[str, Any] = {"steps": [{"weight": weight, "hold": "10m"} for weight in (5, 25, 50)]}
"""The ramp of a spec for which a test writes none: most tests are about steps."""


def make_spec(**changes: Any) -> LLMDeploymentSpec:
    base: dict[str, Any] = {
        "model": {"name": "triage", "source": "file:///models/triage"},
        "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
        "replicas": 3,
    }
    changes["rollout"] = {"ramp": STEPS} | changes.get("rollout", {})
    return LLMDeploymentSpec.model_validate(base | changes)


def steps(*written: Mapping[str, Any]) -> dict[str, Any]:
    """The `rollout` of a spec with these steps."""
    return {"ramp": {"steps": list(written)}}


MEASURING = {"spec": {"containers": [{"name": CONTAINER, "args": [MIDDLEWARE_ARG]}]}}
"""A pod template with the middleware; `pod_template={}` has none."""


def make_record(revision: str = A, **changes: Any) -> Record:
    """A record with these facts, of itself or of what was resolved."""
    resolved: dict[str, Any] = {
        "revision": revision,
        "engine_revision": ENGINE.get(revision, revision),
        "model_name": "triage",
        "model_source": "file:///models/triage",
        "image": "vllm:test",
        "pod_template": MEASURING,
    }
    own = {f.name for f in fields(Record)}
    resolved |= {name: value for name, value in changes.items() if name not in own}
    facts: dict[str, Any] = {"number": "abcdefgh".index(revision[0]) + 1}
    facts |= {name: value for name, value in changes.items() if name in own}
    return Record(resolved=Resolved(**resolved), **facts)


STABLE = make_record(A, promotion=1)
REJECTION = Rejection("VerdictFailed", "200 bad of 1000.", NOON - HOUR)


def make_trial(**changes: Any) -> Trial:
    base: dict[str, Any] = {
        "attempt": 1,
        "against": A,
        "steps": pin(make_spec().ramp),
        "started_at": NOON - HOUR,
    }
    return Trial(**(base | changes))


def make_pods(ready: int, loading: int = 0, since: datetime = NOON - MINUTE, **facts: Any) -> tuple[PodView, ...]:
    """Ready pods, then pods that are not Ready since a moment; further facts go to the latter."""
    return (
        *(PodView(f"ready-{number}", ready=True) for number in range(ready)),
        *(PodView(f"loading-{number}", ready=False, not_ready_since=since, **facts) for number in range(loading)),
    )


def make_engine(revision: str, *pods: PodView, replicas: int | None = None, **facts: Any) -> EngineView:
    return EngineView(ENGINE[revision], len(pods) if replicas is None else replicas, pods, **facts)


def by_name(*engines: EngineView) -> dict[str, EngineView]:
    return {engine.engine_revision: engine for engine in engines}


def make_route(weights: Mapping[str, int], changed_at: datetime | None = SETTLED, **facts: Any) -> RouteView:
    return RouteView(weights, **({"programmed": True, "accepted": True, "changed_at": changed_at, "epoch": 1} | facts))


def serving(**changes: Any) -> Snapshot:
    """The stable serves alone and is what the spec asks for."""
    base: dict[str, Any] = {
        "now": NOON,
        "spec": make_spec(),
        "target": STABLE,
        "records": (STABLE,),
        "engines": by_name(make_engine(A, *make_pods(3))),
        "route": make_route({A: 10_000}),
    }
    return Snapshot(**(base | changes))


def canary_at(
    step: int = 0,
    *,
    held: timedelta = timedelta(),
    counts: Mapping[str, Counts] | None = None,
    trial: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Snapshot:
    """The canary holds the weight of a step for a while, its pods are Ready, its evidence is what `counts` says."""
    spec = changes.get("spec") or make_spec()
    ramp, budget = pin(spec.ramp), pin_budget(spec.ramp)
    weight = [s.weight for s in ramp[: step + 1] if s.weight is not None][-1] or dict(trial or {}).get("weight", 0)
    begun = NOON - HOUR
    state: dict[str, Any] = {
        "step": step,
        "steps": ramp,
        "budget": budget,
        "step_entered_at": NOON - held,
        "clock_started_at": NOON - held,
        "traffic_since": begun,
        "exposed_since": begun,
    }
    canary = make_record(B, **({"trial": make_trial(**(state | dict(trial or {})))} | dict(record or {})))
    needed = -(-spec.replicas * weight // 10_000)
    base: dict[str, Any] = {
        "target": canary,
        "records": (STABLE, canary),
        "engines": by_name(make_engine(A, *make_pods(3)), make_engine(B, *make_pods(max(1, needed)))),
        "route": make_route({A: 10_000 - weight, B: weight}),
        "saved_state": make_evidence(GOOD if counts is None else counts),
        "readings": MetricReadings(baseline=Baseline(NOON - HOUR, 10.0)),
    }
    return serving(**(base | changes))


def make_evidence(counts: Mapping[str, Counts] = GOOD, *, attempt: int = 1, **changes: Any) -> TrialState:
    """A trial state that has counted errors in three slices of a settled epoch, up to now."""
    pinned = measurements(make_spec().analysis, Series(), Baseline(NOON, 4.0), measured=True)
    errors, *others = map(MetricState.begin, pinned)
    tests = errors.tests
    for part in range(3):
        n1, x1, n0, x0 = (
            total * (part + 1) // 3 - total * part // 3
            for side in (B, A)
            for total in (counts[side].requests, counts[side].bad)
        )
        tests = tests.add([Totals(n1, x1, n0, x0)], t=100.0 * part, epoch=1, settled=True)
    facts: dict[str, Any] = {
        "trial": name_of(B, attempt),
        "since": NOON - HOUR,
        "until": NOON,
        "metrics": (replace(errors, tests=tests.nothing_ended(())), *others),
        "epochs": {1: Epoch(NOON - HOUR, 500)},
        "requests_per_second": 10.0,
        "settle_seconds": 30.0,
        "blank_seconds": 5.0,
    }
    return TrialState(**(facts | changes))


def weight_of(decision: Decision, revision: str) -> int:
    return decision.weights.get(revision, 0)


HELD = 11 * MINUTE
PAUSES = steps({"weight": 5}, {"pause": {}}, {"weight": 50})
BLIND = MetricReadings(error="Prometheus is down.")
HOLDBACK = {"holdback": {"weight": 2, "for": "1h"}}
TIMED = steps({"weight": 5}, {"pause": {"for": "1h"}}, {"weight": 50})


def canary_pods(*pods: PodView, **facts: Any) -> dict[str, EngineView]:
    return by_name(make_engine(A, *make_pods(3)), make_engine(B, *pods, **facts))


def trial_of(decision: Decision) -> Trial:
    assert decision.canary is not None
    assert decision.canary.trial is not None
    return decision.canary.trial


def read_until(moment: datetime) -> TrialState:
    """Good so far, but Prometheus was read up to this moment only."""
    return make_evidence(GOOD, until=moment)


def overdue(policy: str) -> dict[str, Any]:
    """The `rollout` of a spec whose deadline is over after an hour with traffic."""
    return {"deadline": "1h", "minimumBake": "0s", "onInconclusive": policy}


def passed(**changes: Any) -> Snapshot:
    """All steps are done, the proof is there, the pods as well; what is left is the holdback."""
    base: dict[str, Any] = {"spec": make_spec(rollout=HOLDBACK), "engines": canary_pods(*make_pods(3))}
    trial = {"step": 3, "holdback": pin_holdback(make_spec(rollout=HOLDBACK).rollout.holdback)}
    return canary_at(2, **(base | {"trial": trial | changes.pop("trial", {})} | changes))


def in_holdback(**changes: Any) -> Snapshot:
    return passed(**({"trial": {"in_holdback": True}, "route": make_route({A: 200, B: 9_800})} | changes))
