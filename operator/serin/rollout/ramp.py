"""The ramp: pinned steps from the spec, the weight that is due now, and the pods that a weight needs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from serin.analysis.counts import Names
from serin.analysis.missing import compares_arrivals
from serin.analysis.trial_state import TrialState
from serin.analysis.verdict import ramp_comparisons, ramp_tests
from serin.api.llmdeployment import DEFAULT_HOLD
from serin.api.names import FULL_WEIGHT
from serin.evidence.ramp import AdaptiveRamp, default_budget, limit
from serin.rollout.snapshot import Policy
from serin.rollout.trial import Budget, Step, Trial

if TYPE_CHECKING:
    from serin.api.llmdeployment import Holdback, Ramp

SMALLEST = 20
"""The least weight of an adaptive ramp: 0.2 %."""
MAX_WEIGHT, LATER_WEIGHT = 2_500, 5_000
"""The highest weight of an adaptive ramp, and the highest once all evidence favours the canary, if none is written."""
PERCENT = FULL_WEIGHT // 100
WHOLE_FROM = 5 * PERCENT
"""From this weight on an adaptive ramp gives whole percents: requests that are lost can then be proven to be few."""
RATE_AFTER = timedelta(minutes=1)
"""Where the stable had no traffic before the rollout, its rate is taken from the trial itself after this time."""


def pin(ramp: Ramp) -> tuple[Step, ...]:
    """The steps that a trial pins: weights in parts of 10,000, with default holds filled in.

    Args:
        ramp: the ramp in use (`LLMDeploymentSpec.ramp`); one without steps is adaptive.
    """
    if not ramp.steps:
        return (Step(weight=0, adaptive=True),)
    return tuple(
        Step(weight=None, hold=step.pause.for_)
        if step.pause is not None
        else Step(weight=round((step.weight or 0) * 100), hold=DEFAULT_HOLD if step.hold is None else step.hold)
        for step in ramp.steps
    )


def pin_budget(ramp: Ramp) -> Budget | None:
    """What an adaptive ramp may cost; None for fixed steps."""
    if ramp.steps:
        return None
    blast, most = (ramp.adaptive.blast_budget, ramp.adaptive.max_weight) if ramp.adaptive else (None, None)
    return Budget(blast, MAX_WEIGHT, LATER_WEIGHT) if most is None else Budget(blast, round(most * 100))


def pin_holdback(holdback: Holdback | None) -> Step | None:
    """The canary's weight and time between its Pass and its promotion."""
    return Step(FULL_WEIGHT - round(holdback.weight * 100), holdback.for_) if holdback else None


def weight_at(trial: Trial) -> int:
    """The weight of the current step; for a pause, that of the step before (0 at the start).

    Past the last step it is the last weight: the promotion takes the rest in one move. The holdback has its own.
    """
    if trial.blinded or trial.withdrawn_because:
        return 0
    if trial.in_holdback and trial.holdback and trial.holdback.weight is not None:
        return trial.holdback.weight
    weights = [
        trial.weight if step.adaptive else step.weight
        for step in trial.steps[: trial.step + 1]
        if step.weight is not None
    ]
    return weights[-1] if weights else 0


def highest_weight(trial: Trial) -> int:
    """The highest weight that the ramp can give before the promotion."""
    if trial.budget:
        return trial.budget.later_weight or trial.budget.max_weight
    return max(step.weight for step in trial.steps if step.weight is not None)


def can_compare_arrivals(trial: Trial) -> bool:
    """Whether the ramp has a weight at which the arrivals can be compared with it; see `compares_arrivals`."""
    if trial.budget is not None:
        return trial.budget.max_weight >= WHOLE_FROM
    return any(compares_arrivals(step.weight) for step in trial.steps if step.weight is not None)


def needs_arrivals_proven(trial: Trial) -> bool:
    """Whether the current weight is the ramp's last one at which arrivals are compared.

    The step is held there until they are proven: a weight after it can bring no more of the proof.
    """
    if trial.budget is not None:
        return can_compare_arrivals(trial)
    later = (step.weight for step in trial.steps[trial.step + 1 :] if step.weight is not None)
    return compares_arrivals(weight_at(trial)) and not any(map(compares_arrivals, later))


def first_weight(budget: Budget, requests_per_second: float, policy: Policy) -> int:
    """The weight that an adaptive ramp begins with, in parts of 10,000."""
    return _parts(_adaptive(budget, requests_per_second, policy, budget.max_weight / FULL_WEIGHT).first())


def with_adaptive_weight(trial: Trial, state: TrialState, policy: Policy, now: datetime) -> Trial:
    """The trial with the weight that an adaptive ramp gives by the counts so far; unchanged if no new stratum closed.

    Reads closed strata and the clock only, as the proof requires. The weight grows at the earliest one slice after the
    last change; for series without epoch, after the ignored time and two slices. The smallest weight over all Required
    ratio metrics counts. The highest weight depends on all Required comparisons (`serin.evidence.ramp.limit`).
    """
    closed = [leaf.test.closed for metric in ramp_tests(state) for leaf in metric.comparisons]
    closed_requests = sum(c.n1 for c in closed)
    if trial.budget is None or closed_requests <= trial.weight_based_on or not any(c.n0 for c in closed):
        return trial
    before, first = trial.weight / FULL_WEIGHT, trial.budget.max_weight
    limits = first / FULL_WEIGHT, (trial.budget.later_weight or first) / FULL_WEIGHT
    ramp = _adaptive(trial.budget, _rate(state), policy, limit(before, limits, ramp_comparisons(state)))
    weight = _parts(ramp.next(before, *closed))
    began = state.epochs[state.newest].began if state.newest is not None else state.since
    if weight == trial.weight or (weight > trial.weight and now - began < _hold(state, policy)):
        return trial
    return replace(trial, weight=weight, weight_based_on=closed_requests)


def _hold(state: TrialState, policy: Policy) -> timedelta:
    """The least time that a weight is held before it grows."""
    steering = [m.measurement for m in state.metrics if m.measurement.required and m.measurement.steers]
    blind = any(measurement.total.names is not Names.REVISION for measurement in steering)
    return timedelta(seconds=state.blank_seconds + 2 * policy.slice_seconds if blind else policy.slice_seconds)


def _rate(state: TrialState) -> float:
    """Requests per second of both sides."""
    elapsed = state.until - state.since
    counted = max((metric.tests.totals[0].requests for metric in state.metrics), default=0)
    # If traffic has grown since, the budget is spent faster.
    now = counted / elapsed.total_seconds() if elapsed >= RATE_AFTER else 0.0
    return max(state.requests_per_second, now)


def _adaptive(budget: Budget, rps: float, policy: Policy, largest: float) -> AdaptiveRamp:
    return AdaptiveRamp(
        rps=rps,
        dt=policy.slice_seconds,
        budget=default_budget(rps) if budget.blast is None else budget.blast,
        w_min=min(SMALLEST / FULL_WEIGHT, largest),
        w_max=largest,
    )


def _parts(weight: float) -> int:
    """The weight in parts of 10,000; from `WHOLE_FROM` on whole percents, to which gateways round."""
    parts = max(1, round(weight * FULL_WEIGHT))
    return parts if parts < WHOLE_FROM else parts // PERCENT * PERCENT


def pods_for(replicas: int, weight: int) -> int:
    """Pods that must be Ready before a revision carries `weight` of 10,000: its share of the replicas, at least one.

    `pods_for(3, 2500)` is 1, `pods_for(3, 5000)` is 2, `pods_for(0, 500)` is 1.
    """
    return max(1, -(-replicas * weight // FULL_WEIGHT))


def pods_at_equal_load(replicas: int, weight: int) -> int:
    """Pods that give a revision about the same load per pod as the stable, which keeps all of its `replicas`.

    The whole number nearest to `replicas` times the ratio of the weights, measured by the ratio of the loads; at least
    `pods_for`, and at most `replicas`, which a promotion needs anyway. `pods_at_equal_load(4, 5000)` is 4,
    `pods_at_equal_load(8, 2500)` is 3.
    """
    least = pods_for(replicas, weight)
    if weight >= FULL_WEIGHT or replicas <= least:
        return least
    equal = replicas * weight / (FULL_WEIGHT - weight)
    below = max(least, min(replicas, int(equal)))
    above = min(replicas, below + 1)
    return above if above * below < equal * equal else below
