"""The limitations of a running trial's comparison, as sentences for `status.canary.caveats`.

A caveat decides nothing; it tells readers of the verdict what the counts cannot show, and what to change. Called by
`serin.reporting.status`. Pure.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from serin.analysis import companions
from serin.analysis.measurement import How
from serin.analysis.missing import off_weight
from serin.analysis.proof_time import about, proof_time
from serin.analysis.verdict import Verdict
from serin.api.duration import format_duration
from serin.rollout.ramp import can_compare_arrivals, highest_weight

if TYPE_CHECKING:
    from serin.rollout.decision import Decision
    from serin.rollout.record import Record
    from serin.rollout.snapshot import Snapshot

ONE_POD = (
    "With one canary pod, an effect of the revision cannot be told apart from an effect of its node. Raise replicas or "
    "weight."
)
NOT_RANDOM = (
    "spec.routing matches headers or query parameters. If they decide which requests reach the canary, the verdict "
    "compares groups of users instead of revisions; let only the weight decide."
)
NO_EPOCH = (
    "The pods of one side have no middleware, so the gateway counts errors and vLLM counts latencies. Requests that "
    "end shortly after a change of weight are not counted, and requests that do not reach the canary are not seen."
)
MIXED_TOOLS = (
    "The two prompts have different tools, and each request gets one of them at random, so an agent may meet both in "
    "one conversation. Set spec.routing.sticky."
)
NO_WHOLE_STEP = (
    "No weight of the ramp is a whole percent of 5 or more, and gateways round the others, so it is not proven that "
    "the canary's requests arrive. Add such a step."
)
_ABSENT_BECAUSE = {
    "overdue": "Its pods may be new or have an older model server.",
    companions.GATEWAY: "Prometheus may have no series of the gateway.",
}
"""Causes by comparison."""

LONG = timedelta(hours=1)
"""A proof that takes longer is announced at the start."""
WELL_BEGUN = 100
"""Requests of the canary that end the announcement: from here on the metrics say how many more are needed."""


def caveats(snapshot: Snapshot, decision: Decision, canary: Record) -> tuple[str, ...]:
    """The caveats of this trial."""
    engine = snapshot.engines.get(canary.engine_revision)
    gateway = snapshot.spec.routing.gateway
    shared = decision.stable is not None and decision.stable.engine_revision == canary.engine_revision
    applies = {
        ONE_POD: engine is not None and engine.ready == 1 and not shared,
        NOT_RANDOM: any(match.keys() & {"headers", "queryParams"} for match in gateway.matches),
        MIXED_TOOLS: shared and snapshot.spec.routing.sticky is None and _have_other_tools(decision, canary),
        NO_EPOCH: not (canary.resolved.measures and decision.stable is not None and decision.stable.resolved.measures),
    }
    state, trial = decision.trial_state, canary.trial
    counted = state is not None and state.arrivals is not None
    applies[NO_WHOLE_STEP] = counted and trial is not None and not shared and not can_compare_arrivals(trial)
    left_out = snapshot.readings.left_out
    found = (
        *(sentence for sentence, holds in applies.items() if holds),
        _low_traffic(snapshot, decision, canary),
        _without_samples(decision),
        left_out and f"An Advisory metric could not be read; the verdict does not depend on it. {left_out}",
        *snapshot.readings.warnings,
        _ignores_load(decision),
        _demoted(snapshot, decision),
        _unjudged(snapshot, decision),
        _not_compared(decision, shared=shared),
        _noisy(decision),
        None if shared else _off_weight(decision),
    )
    return tuple(filter(None, found))


def _have_other_tools(decision: Decision, canary: Record) -> bool:
    """Whether the prompts of stable and canary have different tools."""
    stable = decision.stable.resolved.prompt_content if decision.stable else None
    return ((stable or {}).get("tools") or []) != ((canary.resolved.prompt_content or {}).get("tools") or [])


def _low_traffic(snapshot: Snapshot, decision: Decision, canary: Record) -> str | None:
    """How long a proof takes, at the start of a trial with little traffic; later its metrics say what is missing."""
    state, trial = decision.trial_state, canary.trial
    if state is None or trial is None or trial.in_holdback or state.canary_requests >= WELL_BEGUN:
        return None
    time = proof_time(state, highest_weight(trial))
    if time is None or time.seconds < LONG.total_seconds():
        return None
    assumed = " (assumed)" if time.assumed else ""
    deadline = snapshot.spec.rollout.deadline
    over = (
        f" That is longer than rollout.deadline, {format_duration(deadline)}."
        if time.seconds > deadline.total_seconds()
        else ""
    )
    return (
        f"There is little traffic, {time.requests_per_second:.2g} requests per second. If {100 * time.bad_rate:.2g} % "
        f"of the answers are bad on both sides{assumed}, a proof takes about {time.canary_requests} requests of the "
        f"canary, about {about(time.seconds)}.{over} More traffic or a wider tolerance shortens it."
    )


def _without_samples(decision: Decision) -> str | None:
    """That Required metrics have no samples although others have: their selectors may be misspelt."""
    metrics = decision.judgement.metrics if decision.judgement else ()
    if not any(metric.canary and metric.canary.requests for metric in metrics):
        return None
    silent = [m.name for m in metrics if m.required and m.verdict is Verdict.NOT_APPLICABLE]
    if not silent:
        return None
    ignored = (
        "These metrics are ignored; check their selectors"
        if len(silent) > 1
        else "This metric is ignored; check its selector"
    )
    return f"No samples on either side: {', '.join(silent)}. {ignored}."


def _ignores_load(decision: Decision) -> str | None:
    """That Required latencies are compared although the load per pod may differ, and in which metrics."""
    metrics = decision.trial_state.metrics if decision.trial_state else ()
    names = [m.measurement.name for m in metrics if m.measurement.required and m.measurement.ignores_load]
    if not names:
        return None
    return (
        f"Compared whatever the load was: {', '.join(names)}. A pod with more requests is slower, whatever its "
        "revision, so check that canary and stable get about the same number of requests per pod. Latencies of the "
        "model server are compared at equal load."
    )


def _demoted(snapshot: Snapshot, decision: Decision) -> str | None:
    """That Required latencies decide nothing in this trial, because old pods cannot count them by load."""
    metrics = decision.trial_state.metrics if decision.trial_state else ()
    asked = {metric.name for metric in snapshot.spec.analysis.compared if metric.required}
    demoted = [m.measurement for m in metrics if m.measurement.demoted and m.measurement.name in asked]
    names = [measurement.name for measurement in demoted if measurement.how is not How.CHECK]
    if not names:
        return None
    return (
        f"Only reported in this trial: {', '.join(names)}. The pods of one side were started by an earlier version of "
        "Serin and cannot count latencies by load, so nothing is decided by them."
    )


def _unjudged(snapshot: Snapshot, decision: Decision) -> str | None:
    """That Required checks decide nothing in this trial, because one side cannot make them."""
    metrics = decision.trial_state.metrics if decision.trial_state else ()
    asked = {metric.name for metric in snapshot.spec.analysis.compared if metric.required}
    demoted = [m.measurement for m in metrics if m.measurement.demoted and m.measurement.how is How.CHECK]
    names = [measurement.name for measurement in demoted if measurement.name in asked]
    if not names:
        return None
    return (
        f"Only reported in this trial: {', '.join(names)}. The pods of one side cannot make such a check: they were "
        "started by an earlier version of Serin, or the PromptVersion has no outputSchema for a check of kind Schema."
    )


def _not_compared(decision: Decision, *, shared: bool) -> str | None:
    """Which of the built-in comparisons are not made in a trial that the model server measures.

    On shared pods the gateway has one backend for both sides, so it cannot compare them, and fails both alike.
    """
    state = decision.trial_state
    if state is None or state.arrivals is None:
        return None
    made = [metric.measurement for metric in state.metrics]
    absent = [name for name in companions.absent(made) if not (shared and name == companions.GATEWAY)]
    if not absent:
        return None
    return (
        f"Not compared, because the stable had no such series when the trial began: {', '.join(absent)}. "
        f"{' '.join(_ABSENT_BECAUSE[name] for name in absent if name in _ABSENT_BECAUSE)}".strip()
    )


def _noisy(decision: Decision) -> str | None:
    """That the stable's own pods differ, and in which metrics."""
    noisy = [metric.name for metric in decision.judgement.metrics if metric.noisy] if decision.judgement else []
    if not noisy:
        return None
    return (
        f"The stable's own pods differ by more than chance: {', '.join(noisy)}. A difference from the canary may have "
        "the same cause, so no proof is possible; find the pod that stands out."
    )


def _off_weight(decision: Decision) -> str | None:
    """That the canary's share of the requests is not its weight; None without strong evidence of that."""
    arrivals = off_weight(decision.trial_state)
    if arrivals is None:
        return None
    short, other = ("canary", "stable") if arrivals.share < arrivals.weight else ("stable", "canary")
    return (
        f"{100 * arrivals.share:.3g} % of {arrivals.canary + arrivals.stable} requests reached the canary, but its "
        f"weight was {100 * arrivals.weight:.3g} %. Requests to the {short} are lost or retried at the {other}, or the "
        "gateway does not apply the weight; check the gateway's errors and retries."
    )
