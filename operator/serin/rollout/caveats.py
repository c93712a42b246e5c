"""What the comparison of a running trial cannot see, as sentences for the status. Pure; judges nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serin.evidence.share import log_e
from serin.rollout.snapshot import FULL_WEIGHT
from serin.rollout.verdict import Verdict

if TYPE_CHECKING:
    from serin.rollout.decision import Decision
    from serin.rollout.record import Record
    from serin.rollout.snapshot import Snapshot

ONE_POD = "The canary has one pod, so its version cannot be told from its node; more replicas or weight bring a second."
NOT_RANDOM = (
    "spec.routing matches headers or query parameters: where those choose who reaches the canary, the comparison is "
    "between users, not between revisions."
)
NO_EPOCH = (
    "The pods of one side carry no middleware, so errors are read from the gateway and latencies from vLLM; what ends "
    "shortly after a change of weight is left out."
)

NOISY = (
    "The stable's own pods differ by more than chance, so a difference to the canary may be one between any two pods, "
    "and this proves no promotion:"
)
ASTRAY = math.log(1000)
"""ln of the evidence from which on requests are said to go astray."""
TOLERANCE = 0.05
"""By how much the odds of a request's way may differ from the weight's in the long run; retries, for example."""
UNSEEN_SCRAPES = 4.0
"""So many scrapes one side may be behind the other: a phase of one, the reading of one, and two that failed."""


def caveats(snapshot: Snapshot, decision: Decision, canary: Record) -> tuple[str, ...]:
    """The sentences that hold for this trial."""
    engine = snapshot.engines.get(canary.engine_revision)
    gateway = snapshot.spec.routing.gateway
    shared = decision.stable is not None and decision.stable.engine_revision == canary.engine_revision
    found = {
        ONE_POD: engine is not None and engine.ready == 1 and not shared,
        NOT_RANDOM: any(match.keys() & {"headers", "queryParams"} for match in gateway.matches),
        NO_EPOCH: not (canary.resolved.measures and decision.stable is not None and decision.stable.resolved.measures),
    }
    if unseen := _unseen(decision):
        found[f"Seen on neither side, so nothing is decided by it: {', '.join(unseen)}; check the selector."] = True
    if left_out := snapshot.evidence.left_out:
        found[f"Not read, though nothing is decided by it: {left_out}"] = True
    if noisy := [m.name for m in decision.judgement.metrics if m.noisy] if decision.judgement else []:
        found[f"{NOISY} {', '.join(noisy)}."] = True
    if astray := _astray(decision):
        found[astray] = True
    return tuple(sentence for sentence, holds in found.items() if holds)


def _unseen(decision: Decision) -> list[str]:
    """Required metrics of which nothing was counted although requests were: their selector may be misspelt."""
    metrics = decision.judgement.metrics if decision.judgement else ()
    if not any(metric.canary and metric.canary.requests for metric in metrics):
        return []
    return [m.name for m in metrics if m.required and m.verdict is Verdict.NOT_APPLICABLE]


def _astray(decision: Decision) -> str | None:
    """That the share of the requests that reach the canary is not its weight; None while it may well be.

    Looks at the newest epoch. The pods of both sides are not scraped at one moment, so one side may not know yet of
    those that came lately: that much is tolerated, and it is less the longer the epoch lasts.
    """
    state = decision.evidence
    told = state.epochs.get(state.newest) if state and state.newest is not None else None
    if state is None or told is None or not 0 < told.weight < FULL_WEIGHT:
        return None
    weight, (canary, stable) = told.weight / FULL_WEIGHT, state.arrived
    lately = sum(came for _, came in state.lately)
    before = canary + stable - lately
    scrapes = (state.until - told.began).total_seconds() / state.slice_seconds
    if before <= 0 or scrapes <= UNSEEN_SCRAPES:
        return None
    # By requests as well as by time: traffic may have come just now, and one side may not have shown its part of it.
    hidden = max(lately / before, UNSEEN_SCRAPES / (scrapes - UNSEEN_SCRAPES))
    if log_e(canary, stable, weight, TOLERANCE + hidden) < ASTRAY:
        return None
    share = canary / (canary + stable)
    few, many = ("canary", "stable") if share < weight else ("stable", "canary")
    return (
        f"Of {canary + stable} requests since the weight changed {100 * share:.3g} % reached the canary, whose weight "
        f"is {100 * weight:g} %: some are lost on the way to the {few} or tried again at the {many}, or the gateway "
        "does not keep the weight; look at the gateway's errors and retries."
    )
