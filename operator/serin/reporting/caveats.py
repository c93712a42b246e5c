"""What the comparison of a running trial cannot see, as sentences for the status. Pure; judges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serin.analysis.missing import off_weight
from serin.analysis.verdict import Verdict

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
    if left_out := snapshot.readings.left_out:
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
    """That the share of the requests that reach the canary is not its weight; None while it may well be."""
    arrivals = off_weight(decision.trial_state)
    if arrivals is None:
        return None
    few, many = ("canary", "stable") if arrivals.share < arrivals.weight else ("stable", "canary")
    return (
        f"Of {arrivals.canary + arrivals.stable} requests {100 * arrivals.share:.3g} % "
        f"reached the canary, whose weight was {100 * arrivals.weight:.3g} %: some are lost on the way to the {few} or "
        f"tried again at the {many}, or the gateway does not keep the weight; look at the gateway's errors and retries."
    )
