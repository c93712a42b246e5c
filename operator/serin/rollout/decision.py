"""What `decide` returns: the wanted world, where the rollout stands, and why.

Read by the planner (children, route), by reporting and by telemetry. It names children by revision and holds no
manifest. Weights are parts of 10,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from serin.analysis.counts import Wanted
from serin.analysis.trial_state import TrialState
from serin.analysis.verdict import Judgement
from serin.rollout.commands import CommandResult
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record


@dataclass(frozen=True)
class Decision:
    """One decision; equal snapshots give equal decisions."""

    phase: Phase
    reason: Reason
    message: str
    stable: Record | None = None
    canary: Record | None = None
    """The revision on trial; None before and after."""
    target: Record | None = None
    """The spec's revision as it is to be stored."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """The next split by revision; empty: no route yet."""
    engines: Mapping[str, int] = field(default_factory=dict)
    """Replicas by engine revision, including those that drain."""
    retired: frozenset[str] = frozenset()
    """Engine revisions whose Deployment and PodDisruptionBudget are deleted now."""
    evicted: str | None = None
    """A pod that is evicted now, because it does not switch to the split of a rollback."""
    records: tuple[Record, ...] = ()
    """Records that differ from what is stored; they are written before the route and the pods."""
    forgotten: frozenset[str] = frozenset()
    """Revisions whose records are pruned."""
    epoch: int = 0
    """The epoch that requests get from now on; every split has its own."""
    sequence: int | None = None
    """The number of the new split; None: the split stays as it is."""
    trial_state: TrialState | None = None
    """The trial state to save; None: the saved one stays as it is."""
    judgement: Judgement | None = None
    stalled: Reason | None = None
    """Set where a person or the world must act."""
    capacity: str | None = None
    """The scheduler's sentence while pods wait for a node."""
    wanted: Wanted | None = None
    """What the collector reads from now on; None: nothing."""
    command: CommandResult | None = None
    due_in: timedelta | None = None
    """When to reconcile again even if nothing happens."""
