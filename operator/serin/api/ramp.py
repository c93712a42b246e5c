"""How a change is tried: the ramp of a canary and the limits of its patience.

Ramp and holdback are pinned when a canary starts (`serin.rollout.trial`), so changing them changes no running trial;
deadlines and time-outs take effect at once.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from serin.api.base import ApiModel
from serin.api.duration import Duration, PositiveDuration
from serin.api.rule import Rule


class Pause(ApiModel):
    """Stop here: for a time, or until a person says resume."""

    for_: Annotated[Duration | None, Field(alias="for")] = None
    """How long; until a person says resume when absent."""


def _two_decimals(weight: float) -> bool:
    # The same arithmetic as in CEL: exactly the doubles that two decimals are read as.
    return 0 < weight < 100 and int(weight * 100 + 0.5) / 100 == weight


Weight = Annotated[
    float,
    Rule(
        cel="self > 0.0 && self < 100.0 && double(int(self * 100.0 + 0.5)) / 100.0 == self",
        message="Write a percentage above 0 and below 100 with at most two decimals; "
        "after the last step the canary is promoted without a step of its own.",
        holds=_two_decimals,
    ),
]


class RampStep(ApiModel):
    """Either a weight with its hold, or a pause."""

    RULES = (
        Rule(
            cel="has(self.weight) != has(self.pause)",
            message="Give a step either weight or pause; write two steps for both.",
            holds=lambda step: (step.weight is None) != (step.pause is None),
        ),
        Rule(
            cel="!has(self.hold) || !has(self.pause)",
            message="Move hold to a step with a weight; a pause says how long with pause.for.",
            holds=lambda step: step.hold is None or step.pause is None,
        ),
    )

    weight: Weight | None = None
    """Percent of requests that the canary gets, two decimals."""
    hold: Duration | None = None
    """How long the weight is held at least; 10m when absent."""
    pause: Pause | None = None
    """Stop here; `{}` waits until a person says resume."""


DEFAULT_HOLD = timedelta(minutes=10)
DEFAULT_STEPS = tuple(RampStep(weight=weight, hold=DEFAULT_HOLD) for weight in (5, 25, 50))


def _grows(steps: tuple[RampStep, ...]) -> bool:
    weights = [step.weight for step in steps if step.weight is not None]
    return all(before < after for before, after in pairwise(weights))


Steps = Annotated[
    tuple[RampStep, ...],
    Field(min_length=1, max_length=32),
    Rule(
        cel="has(self[0].weight)",
        message="Begin with a weight; before the first one there is nothing to pause.",
        holds=lambda steps: steps[0].weight is not None,
    ),
    Rule(
        cel="self.filter(s, has(s.weight)).map(s, s.weight).isSorted() && self.filter(s, has(s.weight)).all(s, "
        "self.exists_one(t, has(t.weight) && t.weight == s.weight))",
        message="Order the weights so that each is above the one before.",
        holds=_grows,
    ),
]


class Adaptive(ApiModel):
    """The weight follows the evidence: small while little is known, larger with every request that speaks for it."""

    blast_budget: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """Bad answers beyond the stable's own that one scrape interval may be expected to cost."""
    max_weight: Weight = 25.0
    """Percent of requests that the canary gets at most before its promotion; above 50 evidence comes slower again."""


class Ramp(ApiModel):
    """How the weight grows."""

    RULES = (
        Rule(
            cel="!has(self.steps) || !has(self.adaptive)",
            message="Choose either steps or adaptive; remove the other.",
            holds=lambda ramp: ramp.steps is None or ramp.adaptive is None,
        ),
    )

    steps: Steps | None = None
    """Weights, each held for a time, and pauses, in order; then the canary is promoted. 5, 25 and 50 percent, each
    held 10m, when neither steps nor adaptive is given."""
    adaptive: Adaptive | None = None
    """A weight that follows the evidence instead of steps."""


class OnInconclusive(StrEnum):
    """What becomes of a canary that is neither proven nor worse when the deadline comes."""

    PAUSE = "Pause"
    """It keeps its weight, and a person is asked; proof or a Fail that comes later still counts."""
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class Holdback(ApiModel):
    """The old stable keeps a little traffic after the canary has passed, so that a late regression is still seen."""

    weight: Weight = 2.0
    """Percent of requests that the old stable keeps."""
    for_: Annotated[PositiveDuration, Field(alias="for")] = timedelta(hours=1)
    """How long; its pods stay as they are meanwhile."""


class Rollout(ApiModel):
    """How a change is tried."""

    ramp: Ramp = Ramp()
    """How the weight of a canary grows; pinned when a canary starts."""
    minimum_bake: Duration = timedelta(minutes=10)
    """How long a canary has traffic at least before it is promoted; stands still while it is paused."""
    deadline: PositiveDuration = timedelta(hours=24)
    """How long a canary has traffic at most without being proven; stands still while it is paused."""
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    """What becomes of it at the deadline."""
    holdback: Holdback | None = None
    """What the old stable keeps after the canary has passed; nothing when absent. Pinned when a canary starts."""
    progress_deadline: PositiveDuration = timedelta(minutes=30)
    """Until the canary is Ready; loading weights is not failure."""
    drain_timeout: Duration = timedelta(minutes=10)
    """How long answers in flight may take after their pods left the route."""
