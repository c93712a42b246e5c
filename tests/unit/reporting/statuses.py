"""Statuses of the snapshots in `tests.unit.rollout.cases`, for the tests of the modules that make up a status."""

from __future__ import annotations

from serin.api.status import LLMDeploymentStatus
from serin.evidence.slices import Counts
from serin.reporting.conditions import TYPES
from serin.reporting.status import status
from serin.rollout.decide import decide
from serin.rollout.snapshot import NO_ROUTE, Snapshot
from tests.unit.rollout.cases import (
    REJECTION,
    STABLE,
    A,
    B,
    by_name,
    make_engine,
    make_pods,
    make_record,
    serving,
)

NO_STATUS = LLMDeploymentStatus()
NOTHING_COUNTED = {A: Counts(0, 0), B: Counts(0, 0)}
INSTALLING = serving(
    target=make_record(A), records=(make_record(A),), route=NO_ROUTE, engines=by_name(make_engine(A, *make_pods(0, 3)))
)
REJECTED = make_record(B, rejection=REJECTION)
ROLLED_BACK = serving(target=REJECTED, records=(STABLE, REJECTED))


def status_of(snapshot: Snapshot, before: LLMDeploymentStatus = NO_STATUS) -> LLMDeploymentStatus:
    """The status after the decision on a snapshot."""
    return status("triage", 7, snapshot, decide(snapshot), before)


def statuses(seen: LLMDeploymentStatus) -> tuple[str, ...]:
    """The status of Available, Ready, Reconciling and Stalled."""
    return tuple({c.type: c.status for c in seen.conditions}[type_] for type_ in TYPES[:4])


def reason_of(seen: LLMDeploymentStatus, type_: str) -> str:
    """The reason of one condition."""
    return next(c.reason for c in seen.conditions if c.type == type_)
