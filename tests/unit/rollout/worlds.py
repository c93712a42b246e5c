"""Random snapshots, for properties that hold in every world: likely ones and ones that should never be.

Small pools make coincidences likely: three revisions, one of which may share the pods of another, and few times.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from serin.analysis.counts import EPOCHS, Baseline, InFlight, Interval, MetricReadings, ShownDocument, Tally
from serin.analysis.trial_state import Epoch, TrialState, name_of
from serin.evidence.slices import Counts, RequestsBySide
from serin.rollout.commands import parse_command
from serin.rollout.ramp import pin, pin_budget, pin_holdback
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import NO_ROUTE, EngineView, PodView, RouteView, Snapshot, SplitView
from serin.rollout.trial import Trial
from tests.unit.rollout.cases import (
    AGAINST,
    BAD,
    DOUBTFUL,
    ENGINE,
    FEW,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    NOTHING,
    REJECTION,
    STABLE,
    A,
    B,
    C,
    make_evidence,
    make_record,
    make_spec,
    steps,
)

SPECS = tuple(
    make_spec(replicas=replicas, paused=paused, rollout=rollout, revisionHistoryLimit=limit)
    for replicas, paused, rollout, limit in (
        (3, False, {}, 10),
        (3, True, {}, 10),
        (0, False, steps({"weight": 1, "hold": "0s"}), 1),
        (30, False, steps({"weight": 5, "hold": "1m"}, {"pause": {}}, {"weight": 99.99}), 1),
        (
            1,
            False,
            steps({"weight": 50}, {"pause": {"for": "5m"}}) | {"drainTimeout": "0s", "progressDeadline": "1s"},
            2,
        ),
        (3, False, {"ramp": {"adaptive": {}}, "holdback": {"weight": 2, "for": "1h"}}, 10),
        (3, True, {"ramp": {"adaptive": {"maxWeight": 60}}, "deadline": "1h", "onInconclusive": "Rollback"}, 10),
        (2, False, steps({"weight": 40}) | {"deadline": "30m", "onInconclusive": "Promote", "minimumBake": "0s"}, 10),
    )
)
moments: st.SearchStrategy[datetime] = st.sampled_from(
    [NOON + age for age in (-48 * HOUR, -HOUR, -5 * MINUTE, -timedelta(seconds=3), timedelta(), MINUTE, 3 * HOUR)]
)
"""Some of them lie ahead: clocks of several machines never agree."""
pods = st.builds(
    PodView,
    name=st.sampled_from(["p1", "p2", "p3"]),
    ready=st.booleans(),
    not_ready_since=st.none() | moments,
    unschedulable=st.none() | st.just("no node"),
    crash=st.none() | st.none() | st.just("OOMKilled"),
    waiting=st.none() | st.just("ImagePullBackOff"),
    deleting=st.booleans(),
    exits=st.integers(0, 4),
    assigned=st.booleans(),
    log=st.sampled_from([(), ("ValueError: no",)]),
)
trials = st.builds(
    Trial,
    attempt=st.integers(1, 3),
    against=st.sampled_from([A, B, C]),
    steps=st.sampled_from([pin(spec.ramp) for spec in SPECS]),
    started_at=moments,
    step=st.integers(0, 4),
    step_entered_at=st.none() | moments,
    held_before=st.timedeltas(timedelta(), HOUR),
    clock_started_at=st.none() | moments,
    traffic_since=st.none() | moments,
    exits_before=st.sampled_from([{}, {"p1": 2}]),
    counted=st.sampled_from([0, 0, 10, 10_000]),
    budget=st.none() | st.sampled_from([pin_budget(spec.ramp) for spec in SPECS]),
    weight=st.sampled_from([0, 20, 2_500]),
    holdback=st.none() | st.sampled_from([pin_holdback(spec.rollout.holdback) for spec in SPECS]),
    in_holdback=st.booleans(),
    blinded=st.booleans(),
    was_ready=st.booleans(),
    exposed_before=st.timedeltas(timedelta(), 30 * HOUR),
    exposed_since=st.none() | moments,
)
epochs = st.dictionaries(
    st.integers(0, EPOCHS - 1), st.builds(Epoch, moments, st.sampled_from([0, 500, 5_000])), max_size=EPOCHS
)
shown = st.dictionaries(
    st.sampled_from(["p1", "p2", "p3"]),
    st.builds(
        ShownDocument, st.frozensets(st.sampled_from(["new", "old"]), min_size=1), moments, refused=st.booleans()
    ),
)
"""What the pods of an engine show of their documents."""
splits = st.dictionaries(
    st.sampled_from(sorted(ENGINE.values())),
    st.builds(
        SplitView,
        st.just("new"),
        st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=2, unique=True).map(tuple),
        st.none() | moments,
    ),
    max_size=2,
)
REQUESTS = Tally("serin_requests_total", by="outcome")
sides = st.sampled_from([RequestsBySide(*each) for each in ((0, 0), (3, 90), (0, 9_000), (400, 200), (9_000, 9_000))])
"""Requests of canary and stable."""
COUNTED = tuple(map(make_evidence, (NOTHING, FEW, GOOD, DOUBTFUL, AGAINST, BAD, {A: Counts(0, 0), B: Counts(50, 1)})))


@st.composite
def records(draw: st.DrawFn) -> tuple[Record, ...]:
    known = draw(st.lists(st.sampled_from([A, B, C]), unique=True))
    return tuple(draw(record(revision)) for revision in sorted(known))


@st.composite
def record(draw: st.DrawFn, revision: str) -> Record:
    return make_record(
        revision,
        engine_revision=draw(st.sampled_from([ENGINE[revision], ENGINE[revision], ENGINE[A]])),
        promotion=draw(st.none() | st.integers(1, 3)),
        rejection=draw(st.none() | st.none() | st.just(REJECTION)),
        trial=draw(st.none() | trials),
        handled=draw(st.just(()) | st.just(("1",))),
    )


@st.composite
def routes(draw: st.DrawFn) -> RouteView:
    names = draw(st.lists(st.sampled_from([A, B, C, "dddddddddd"]), min_size=1, max_size=4, unique=True))
    cuts = sorted(draw(st.lists(st.sampled_from([0, 1, 500, 5_000, 9_500, 10_000]), min_size=3, max_size=3)))
    edges = [0, *cuts[: len(names) - 1], 10_000]
    return RouteView(
        weights={name: edges[i + 1] - edges[i] for i, name in enumerate(names)},
        programmed=draw(st.booleans()),
        refused=draw(st.none() | st.none() | st.just("No such Gateway.")),
        changed_at=draw(st.none() | moments),
        epoch=draw(st.none() | st.integers(0, EPOCHS - 1)),
    )


@st.composite
def saved_states(draw: st.DrawFn, revision: str = B, attempt: int | None = None) -> TrialState:
    """Trial states that have counted much, little or nothing, in epochs that are known or not."""
    return replace(
        draw(st.sampled_from(COUNTED)),
        trial=name_of(revision, draw(st.integers(1, 3)) if attempt is None else attempt),
        until=draw(moments),
        epochs=draw(epochs),
        expected_without_sample=draw(st.sampled_from([0.0, 5.0, 30.0])),
        requests_per_second=draw(st.sampled_from([0.0, 0.5, 200.0])),
        arrived=draw(sides),
        arrived_before=draw(st.dictionaries(st.integers(0, EPOCHS - 1), sides, max_size=4)),
        in_progress=draw(st.dictionaries(st.integers(0, EPOCHS - 1), sides, max_size=4)),
        crowded_since=draw(st.none() | moments),
    )


@st.composite
def growths(draw: st.DrawFn, begin: datetime) -> tuple[Interval, ...]:
    """Up to three intervals that follow each other; the counters of anybody may have grown."""
    point = st.tuples(
        st.sampled_from([A, B, C]), st.none() | st.integers(0, 3), st.sampled_from(["ok", "server_error", "excluded"])
    )
    found: list[Interval] = []
    for _ in range(draw(st.integers(0, 3))):
        grown = draw(st.dictionaries(point, st.integers(1, 300), max_size=4))
        found.append(Interval(begin, begin + timedelta(seconds=15), {REQUESTS: grown} if grown else {}))
        begin = found[-1].end
    return tuple(found)


@st.composite
def readings(draw: st.DrawFn, saved: TrialState | None = None) -> MetricReadings:
    flights = st.builds(InFlight, st.sampled_from([0.0, 3.0]), moments)
    return MetricReadings(
        error=draw(st.none() | st.none() | st.just("Prometheus is down; start it.")),
        intervals=draw(growths(saved.until if saved else draw(moments))),
        baseline=draw(st.none() | st.builds(Baseline, moments, st.sampled_from([0.0, 3.0, 300.0]))),
        in_flight=draw(st.dictionaries(st.sampled_from(sorted(ENGINE.values())), flights)),
        documents=draw(st.dictionaries(st.sampled_from(sorted(ENGINE.values())), shown, max_size=2)),
        in_progress=draw(st.dictionaries(st.sampled_from([A, B, C]), st.sampled_from([0.0, 3.0]), max_size=2)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A world; its parts need not fit together, as after a crash, a restore or a manual edit."""
    known = draw(records())
    blocked = draw(st.integers(0, 9)) == 0
    new = make_record(draw(st.sampled_from([A, B, C])), recorded=False)
    target = next((r for r in known if r.revision == new.revision), new)
    facts: dict[str, Any] = (
        {"spec_error": "It cannot be; change it.", "spec_reason": Reason.INVALID_SPEC} if blocked else {}
    )
    engines = draw(st.lists(st.sampled_from(sorted(ENGINE.values())), unique=True))
    saved = draw(st.none() | saved_states(draw(st.sampled_from([A, B, C]))))
    return Snapshot(
        now=NOON,
        spec=draw(st.sampled_from(SPECS)),
        target=None if blocked else target,
        records=known,
        engines={
            e: EngineView(
                e,
                replicas=draw(st.integers(0, 5)),
                pods=tuple(draw(st.lists(pods, max_size=4))),
                replica_failure=draw(st.none() | st.none() | st.just("exceeded quota")),
            )
            for e in engines
        },
        route=draw(routes() | routes() | st.just(NO_ROUTE)),
        splits=draw(splits),
        readings=draw(readings(saved)),
        saved_state=saved,
        command=draw(
            st.none()
            | st.builds("{}@{}#{}".format, st.sampled_from(VERBS), st.sampled_from([A, B, C]), st.integers(1, 2)).map(
                parse_command
            )
        ),
        **facts,
    )


@st.composite
def canaries(draw: st.DrawFn) -> Snapshot:
    """`B` is on trial against `A`, which serves; everything else may be as it wants."""
    spec = draw(st.sampled_from(SPECS))
    ramp = pin(spec.ramp)
    weight = draw(st.sampled_from([0, 500, 5_000, 9_999]))
    trial = draw(trials)
    budget, holdback = pin_budget(spec.ramp), pin_holdback(spec.rollout.holdback)
    step = min(trial.step, len(ramp))
    trial = replace(
        trial,
        against=A,
        steps=ramp,
        step=step,
        traffic_since=NOON - HOUR,
        budget=budget,
        holdback=holdback,
        in_holdback=trial.in_holdback and holdback is not None and step == len(ramp),
    )
    snapshot = draw(snapshots())
    saved = draw(saved_states(attempt=trial.attempt))
    return replace(
        snapshot,
        spec=spec,
        target=(canary := make_record(B, trial=trial)),
        records=(STABLE, canary),
        saved_state=saved,
        readings=draw(readings(saved)),
        route=replace(snapshot.route, weights={A: 10_000 - weight, B: weight}, exists=True),
        command=draw(
            st.none() | st.sampled_from([f"promote@{B}#1", f"skip@{B}#1", f"resume@{B}#1"]).map(parse_command)
        ),
        spec_error=None,
        spec_reason=Reason.ACCEPTED,
    )


VERBS = ("promote", "abort", "resume", "skip", "retry", "destroy")
