"""What one branch of `decide` wants in the end, and why.

Made by `serin.rollout.steady` and `serin.rollout.canary`. `serin.rollout.decide` makes the decision of it: the next
safe split, what drains, what is written, and the phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from serin.analysis.trial_state import TrialState
from serin.analysis.verdict import Judgement
from serin.rollout.reasons import Reason
from serin.rollout.record import Record


class Situation(Enum):
    """Which branch of `decide` made the outcome."""

    BLOCKED = auto()
    """The spec cannot be carried out."""
    INSTALLING = auto()
    """There is no stable yet."""
    SETTLED = auto()
    """The stable is what the spec asks for."""
    REJECTED = auto()
    """The spec asks for a rejected revision; the stable serves."""
    ON_TRIAL = auto()
    """A canary is compared with the stable, or is about to be."""


@dataclass(frozen=True)
class Outcome:
    """The world that is wanted in the end; weights are parts of 10,000."""

    situation: Situation
    reason: Reason
    message: str
    stable: Record | None = None
    canary: Record | None = None
    """The revision on trial; None before and after."""
    target: Record | None = None
    """The spec's revision as it is to be stored."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """By revision; empty: no route, or one that must not be changed."""
    engines: Mapping[str, int] = field(default_factory=dict)
    """Replicas by engine revision; any other engine that runs is drained and deleted."""
    judgement: Judgement | None = None
    trial_state: TrialState | None = None
    """What the trial has counted; None: the stored state stays as it is."""
    had_traffic: bool = False
    """Whether the canary had traffic before this decision."""
    stalled: Reason | None = None
    """Set where a person or the world must act."""
    due_in: timedelta | None = None
    """When the clock alone may change the outcome."""
