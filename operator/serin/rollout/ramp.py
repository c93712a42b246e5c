"""The ramp: from what the user wrote to pinned steps, and what a weight needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serin.api.llmdeployment import DEFAULT_HOLD
from serin.rollout.snapshot import FULL_WEIGHT
from serin.rollout.trial import Step, Trial

if TYPE_CHECKING:
    from serin.api.llmdeployment import Ramp


def pin(ramp: Ramp) -> tuple[Step, ...]:
    """The steps as a trial keeps them: weights in parts of 10,000, every hold written out."""
    return tuple(
        Step(weight=None, hold=step.pause.for_)
        if step.pause is not None
        else Step(weight=round((step.weight or 0) * 100), hold=DEFAULT_HOLD if step.hold is None else step.hold)
        for step in ramp.steps
    )


def weight_at(trial: Trial) -> int:
    """The weight that the current step holds: its own, or for a pause that of the step before (0 at the start).

    Past the last step it is the last weight: promotion takes the rest in one move.
    """
    weights = [step.weight for step in trial.steps[: trial.step + 1] if step.weight is not None]
    return weights[-1] if weights else 0


def pods_for(replicas: int, weight: int) -> int:
    """Pods that must be Ready before a revision carries `weight` of 10,000: its share of the replicas, at least one.

    `pods_for(3, 2500)` is 1, `pods_for(3, 5000)` is 2, `pods_for(0, 500)` is 1.
    """
    return max(1, -(-replicas * weight // FULL_WEIGHT))
