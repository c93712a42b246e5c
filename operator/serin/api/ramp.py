"""`spec.rollout`: the ramp of a canary, the holdback and the deadlines.

A trial uses the ramp and holdback that the spec had when the trial started (`serin.rollout.trial`). Changed deadlines
and timeouts take effect immediately.
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
    """A stop of the ramp: for a duration, or until the command `resume`."""

    for_: Annotated[Duration | None, Field(alias="for")] = None
    """Duration of the pause. Default: until the command `resume`."""


def _two_decimals(weight: float) -> bool:
    # The same arithmetic as in CEL; true for exactly the doubles that a number with two decimals parses to.
    return 0 < weight < 100 and int(weight * 100 + 0.5) / 100 == weight


Weight = Annotated[
    float,
    Rule(
        cel="self > 0.0 && self < 100.0 && double(int(self * 100.0 + 0.5)) / 100.0 == self",
        message="Write a percentage above 0 and below 100 with at most two decimals; "
        "a step of 100 is not needed, because the canary is promoted after the last step.",
        holds=_two_decimals,
    ),
]


class RampStep(ApiModel):
    """A weight with its hold, or a pause."""

    RULES = (
        Rule(
            cel="has(self.weight) != has(self.pause)",
            message="Set either weight or pause in a step; for both, write two steps.",
            holds=lambda step: (step.weight is None) != (step.pause is None),
        ),
        Rule(
            cel="!has(self.hold) || !has(self.pause)",
            message="Move hold to a step with weight; the duration of a pause is pause.for.",
            holds=lambda step: step.hold is None or step.pause is None,
        ),
    )

    weight: Weight | None = None
    """Percent of requests that the canary gets, with at most two decimals."""
    hold: Duration | None = None
    """Minimum time at this weight. Default: 10m."""
    pause: Pause | None = None
    """Stop of the ramp; `{}` waits until the command `resume`."""


DEFAULT_HOLD = timedelta(minutes=10)
DEFAULT_STEPS = tuple(RampStep(weight=weight, hold=DEFAULT_HOLD) for weight in (5, 25, 50))
"""For an analysis whose Required metrics cannot drive an adaptive ramp."""


def _weights_increase(steps: tuple[RampStep, ...]) -> bool:
    weights = [step.weight for step in steps if step.weight is not None]
    return all(before < after for before, after in pairwise(weights))


Steps = Annotated[
    tuple[RampStep, ...],
    Field(min_length=1, max_length=32),
    Rule(
        cel="has(self[0].weight)",
        message="Begin with a step that sets weight; a ramp cannot begin with a pause.",
        holds=lambda steps: steps[0].weight is not None,
    ),
    Rule(
        cel="self.filter(s, has(s.weight)).map(s, s.weight).isSorted() && self.filter(s, has(s.weight)).all(s, "
        "self.exists_one(t, has(t.weight) && t.weight == s.weight))",
        message="Order the steps so that each weight is higher than the one before.",
        holds=_weights_increase,
    ),
]


class Adaptive(ApiModel):
    """A weight that follows the evidence: it starts small and grows while the canary shows to be no worse."""

    blast_budget: Annotated[float | None, Field(gt=0, le=1000)] = None
    """Expected number of bad answers, beyond those of the stable, that the canary may cost per scrape interval.
    Default: 2; below 2 requests per second 1."""
    max_weight: Weight | None = None
    """Highest percent of requests that the canary gets before its promotion. Above 50, the stable gets so little
    traffic that the evidence grows more slowly. Default: 25, and 50 as soon as every Required metric favours the
    canary."""


class Ramp(ApiModel):
    """How the weight of a canary grows."""

    RULES = (
        Rule(
            cel="!has(self.steps) || !has(self.adaptive)",
            message="Set either steps or adaptive; remove the other.",
            holds=lambda ramp: ramp.steps is None or ramp.adaptive is None,
        ),
    )

    steps: Steps | None = None
    """Fixed weights and pauses, in order; after the last step the canary is promoted as soon as it is proven no worse.
    Default: none, the ramp is adaptive. Only if neither ErrorRate nor a ratio is Required: 5, 25 and 50 percent, each
    held for 10m."""
    adaptive: Adaptive | None = None
    """A weight that follows the evidence, instead of fixed steps. This is the default; `{}` is the same."""


class OnInconclusive(StrEnum):
    """What happens at the deadline to a canary without a proof."""

    PAUSE = "Pause"
    """The canary keeps its weight and waits for a person; a later Pass or Fail still counts."""
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class Holdback(ApiModel):
    """A share of traffic for the old stable after the canary has passed, to detect a late regression."""

    weight: Weight = 2.0
    """Percent of requests that the old stable keeps, with at most two decimals."""
    for_: Annotated[PositiveDuration, Field(alias="for")] = timedelta(hours=1)
    """Duration of the holdback; the pods of the old stable stay unchanged during it."""


class Rollout(ApiModel):
    """How a change is rolled out."""

    ramp: Ramp = Ramp()
    """How the weight of a canary grows. A change takes effect with the next trial."""
    minimum_bake: Duration = timedelta(minutes=10)
    """Minimum time with traffic before a canary is promoted. The clock stops while the rollout is paused."""
    deadline: PositiveDuration = timedelta(hours=24)
    """Maximum time with traffic without a proof; then onInconclusive applies. The clock stops while the rollout is
    paused."""
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    """What happens at the deadline to a canary without a proof: `Pause` keeps its weight and waits for
    a person, `Promote` promotes it, `Rollback` rolls it back."""
    holdback: Holdback | None = None
    """Traffic that the old stable keeps after the canary has passed. Default: none. A change takes effect with the next
    trial."""
    progress_deadline: PositiveDuration = timedelta(minutes=30)
    """Maximum time for a pod of the canary to become Ready, including the time to load weights; then the canary is
    rolled back. A canary that waits for a node is not rolled back."""
    drain_timeout: Duration = timedelta(minutes=10)
    """Maximum time for answers in flight after their pods have left the route."""
