"""The status of an LLMDeployment, computed from a decision. Users read it; no decision does.

Conditions are in `serin.reporting.conditions`, caveats in `serin.reporting.caveats`. Four things are taken over from
the status before, because the cluster does not show them any more: transition times, whether the first route was
served already, the last counts and the last command. Called by the reconciler. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serin.api.names import LABEL_DEPLOYMENT
from serin.api.status import (
    CanaryStatus,
    HandledCommand,
    LLMDeploymentStatus,
    MetricCounts,
    MetricStatus,
    PromptStatus,
    RejectedStatus,
    StableStatus,
)
from serin.reporting.caveats import caveats
from serin.reporting.conditions import conditions

if TYPE_CHECKING:
    from serin.evidence.slices import Counts
    from serin.rollout.decision import Decision
    from serin.rollout.record import Record
    from serin.rollout.snapshot import Snapshot


def status(
    name: str, generation: int, snapshot: Snapshot, decision: Decision, before: LLMDeploymentStatus
) -> LLMDeploymentStatus:
    """The status after this decision; equal to `before` if nothing visible changed."""
    newest = decision.target or decision.stable
    canary = decision.canary
    return LLMDeploymentStatus(
        observed_generation=generation,
        phase=decision.phase,
        message=decision.message,
        conditions=conditions(snapshot, decision, generation, before.conditions),
        weight=_percent(snapshot.route.weights.get(canary.revision, 0)) if canary else None,
        step=_step(canary) if canary else None,
        model=newest.resolved.model_name if newest else snapshot.spec.model.name,
        prompt=newest.resolved.prompt_name if newest else None,
        verdict=decision.judgement.verdict if canary and decision.judgement else None,
        replicas=_replicas(snapshot) if snapshot.pods_are_known else before.replicas,
        ready_replicas=_ready(snapshot) if snapshot.pods_are_known else before.ready_replicas,
        selector=f"{LABEL_DEPLOYMENT}={name}",
        stable=StableStatus(**_side(snapshot, decision, decision.stable)) if decision.stable else None,
        canary=_canary(snapshot, decision, canary) if canary else None,
        metrics=_metrics(snapshot, decision, before),
        rejected=_rejected(decision.target),
        last_handled_command=_command(decision, before),
    )


def _replicas(snapshot: Snapshot) -> int:
    """Pods of all revisions; autoscalers read it."""
    return sum(len([pod for pod in engine.pods if not pod.deleting]) for engine in snapshot.engines.values())


def _ready(snapshot: Snapshot) -> int:
    return sum(engine.ready for engine in snapshot.engines.values())


def _side(snapshot: Snapshot, decision: Decision, record: Record) -> dict[str, object]:
    resolved = record.resolved
    engine = snapshot.engines.get(record.engine_revision)
    prompt = (
        PromptStatus(name=resolved.prompt_name, content_hash=resolved.prompt_hash) if resolved.prompt_name else None
    )
    return {
        "revision": record.revision,
        "engine_revision": record.engine_revision,
        "model": resolved.model_source,
        "prompt": prompt,
        "replicas": decision.engines.get(record.engine_revision),
        "ready_replicas": engine.ready if engine else 0,
        "weight": _percent(snapshot.route.weights.get(record.revision, 0)),
    }


def _canary(snapshot: Snapshot, decision: Decision, canary: Record) -> CanaryStatus:
    trial = canary.trial
    return CanaryStatus(
        **_side(snapshot, decision, canary),
        attempt=trial.attempt if trial else None,
        step=_step(canary),
        started_at=trial.started_at if trial else None,
        verdict=decision.judgement.message if decision.judgement else None,
        caveats=caveats(snapshot, decision, canary),
    )


def _step(canary: Record) -> str | None:
    """`1/3` for the first of three steps."""
    trial = canary.trial
    if trial and trial.in_holdback:
        return "holdback"
    if trial and trial.budget:
        return "adaptive"
    return f"{min(trial.step + 1, len(trial.steps))}/{len(trial.steps)}" if trial else None


def _metrics(snapshot: Snapshot, decision: Decision, before: LLMDeploymentStatus) -> tuple[MetricStatus, ...]:
    """The metrics of the verdict.

    Two cases take over the metrics of `before`: after a rollback those of the rejected canary, also if no status was
    written at the rollback itself, and while metrics are unavailable the last ones of the same trial (condition
    MetricsAvailable says that they are old).
    """
    judgement, canary, rejected = decision.judgement, decision.canary, _rejected(decision.target)
    if canary and canary.trial:
        trial_before = before.canary and (before.canary.revision, before.canary.attempt)
        take_over = bool(snapshot.readings.error) and trial_before == (canary.revision, canary.trial.attempt)
    else:
        last = before.canary.revision if before.canary else None
        take_over = rejected is not None and (
            _as_stored(rejected) == _as_stored(before.rejected) or (judgement is None and rejected.revision == last)
        )
    if take_over and before.metrics:
        return before.metrics
    if judgement is None:
        return ()
    return tuple(
        MetricStatus(
            name=metric.name,
            canary=_counts(metric.canary),
            stable=_counts(metric.stable),
            evidence=round(100 * metric.evidence) if metric.canary else None,
            verdict=metric.verdict,
            mode="Required" if metric.required else "Advisory",
            more_requests_needed=math.ceil(metric.needed) if 0 < metric.needed < math.inf else None,
            message=metric.message,
        )
        for metric in judgement.metrics
    )


def _counts(counts: Counts | None) -> MetricCounts | None:
    return MetricCounts(requests=counts.requests, bad=counts.bad) if counts else None


def _as_stored(rejected: RejectedStatus | None) -> dict[str, object] | None:
    """A rejection as the status stores it: its time has whole seconds, that of a record microseconds."""
    return rejected.model_dump(mode="json") if rejected else None


def _rejected(target: Record | None) -> RejectedStatus | None:
    if target is None or target.rejection is None:
        return None
    rejection = target.rejection
    return RejectedStatus(revision=target.revision, reason=rejection.reason, message=rejection.message, at=rejection.at)


def _command(decision: Decision, before: LLMDeploymentStatus) -> HandledCommand | None:
    result = decision.command
    if result is None:
        return before.last_handled_command
    return HandledCommand(command=result.command, by=result.by, outcome=result.reason, message=result.message)


def _percent(weight: int) -> str:
    """`500` of 10,000 is `5%`, `25` is `0.25%`."""
    return f"{weight / 100:.2f}".rstrip("0").rstrip(".") + "%"
