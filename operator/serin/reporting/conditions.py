"""The nine conditions of an LLMDeployment, computed from a decision.

One function per condition returns its status, reason and message. All types are present from the first write on.
`lastTransitionTime` changes only if the status of the condition does. Called by `serin.reporting.status`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from serin.api.status import Condition
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason, read_reason
from serin.rollout.record import Record
from serin.rollout.route import is_settled, lasting_refusal
from serin.rollout.snapshot import Fact, Snapshot, ready_of
from serin.rollout.switching import switch_of

TYPES = (
    "Available",
    "Ready",
    "Reconciling",
    "Stalled",
    "Accepted",
    "CapacityAvailable",
    "RouteProgrammed",
    "MetricsAvailable",
    "SplitInForce",
)
_ACCEPTED_BUT = frozenset({Reason.PROMPT_SOURCE_MISSING, Reason.PROMPT_CONTENT_CHANGED, Reason.RECORD_UNREADABLE})
"""Reasons with which a spec is accepted nevertheless."""

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class _Answer:
    status: Status
    reason: Reason
    message: str


def conditions(
    snapshot: Snapshot, decision: Decision, generation: int, before: Sequence[Condition]
) -> tuple[Condition, ...]:
    """All conditions, in the order of TYPES.

    Args:
        snapshot: the input of the decision.
        decision: what was decided.
        generation: of the LLMDeployment.
        before: the conditions so far, for their transition times.
    """
    old = {condition.type: condition for condition in before}
    available = _available(snapshot, decision, old.get("Available"))
    answers = (
        available,
        _ready(snapshot, decision, available),
        _reconciling(snapshot, decision, available),
        _stalled(snapshot, decision),
        _accepted(snapshot, decision),
        _capacity(decision),
        _route(snapshot),
        _metrics(snapshot, decision),
        _split(snapshot, decision),
    )
    return tuple(
        _condition(type_, answer, snapshot.now, generation, old.get(type_))
        for type_, answer in zip(TYPES, answers, strict=True)
    )


def _condition(type_: str, answer: _Answer, now: datetime, generation: int, before: Condition | None) -> Condition:
    since = before.last_transition_time if before and before.status == answer.status else now
    return Condition(
        type=type_,
        status=answer.status,
        observed_generation=generation,
        last_transition_time=since,
        reason=answer.reason,
        message=answer.message,
    )


def _available(snapshot: Snapshot, decision: Decision, before: Condition | None) -> _Answer:
    stable = decision.stable
    if not (snapshot.pods_are_known and snapshot.split_is_known) or (
        stable is None and (snapshot.unread or snapshot.unreadable_records)
    ):
        # Nothing was read that speaks against what the status says.
        said = _Answer(before.status, read_reason(before.reason), before.message) if before else None
        return said or _Answer("Unknown", Reason.READ_FAILED, decision.message)
    if stable is None:
        return _Answer("False", decision.reason, decision.message)
    engine = snapshot.engines.get(stable.engine_revision)
    if engine is None or (engine.ready == 0 and snapshot.spec.replicas > 0):
        message = f"No pod of the stable, revision {stable.revision}, is Ready; see its pods and their logs."
        return _Answer("False", Reason.STABLE_UNAVAILABLE, message)
    if not snapshot.route.weights.get(stable.revision) or not snapshot.route.accepted:
        return _without_weight(snapshot, stable)
    first = stable.promotion == 1 and len(snapshot.route.weights) == 1 and (before is None or before.status != "True")
    if first and not is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds):
        # A gateway accepts a route before it serves it, and nothing was served before: `kubectl wait` must not return.
        message = "The gateway has accepted the first route; it may need a few seconds to serve it."
        served_soon = _Answer("False", Reason.ROUTE_PENDING, message)
        return served_soon if snapshot.route.programmed else _with_status("False", _route(snapshot))
    pods = ready_of(engine.ready, snapshot.spec.replicas)
    return _Answer("True", Reason.SERVING, f"The stable, revision {stable.revision}, serves. {pods}.")


def _without_weight(snapshot: Snapshot, stable: Record) -> _Answer:
    """Available while the stable gets no requests: a new stable that had no weight may be entering the route."""
    for record in snapshot.records if snapshot.route.accepted else ():
        engine = snapshot.engines.get(record.engine_revision)
        if record.promotion is not None and engine and engine.ready and snapshot.route.weights.get(record.revision):
            return _Answer(
                "True",
                Reason.SERVING,
                f"Revision {record.revision} serves until the gateway sends requests to the stable, revision "
                f"{stable.revision}.",
            )
    return _with_status("False", _route(snapshot))


def _ready(snapshot: Snapshot, decision: Decision, available: _Answer) -> _Answer:
    if snapshot.unread and decision.reason is Reason.READ_FAILED:
        return _Answer("False", decision.reason, decision.message)
    if available.status != "True":
        return _Answer("False", available.reason, available.message)
    if refusal := lasting_refusal(snapshot):
        return _Answer("False", Reason.ROUTE_REFUSED, refusal)
    withdrawn = decision.phase in {Phase.ROLLED_BACK, Phase.ROLLING_BACK}
    rolled_back = withdrawn and decision.target is not None and decision.target.rejection is not None
    if rolled_back:
        return _Answer("False", Reason.ROLLED_BACK, decision.message)
    if decision.phase is Phase.BLOCKED:
        return _Answer("False", decision.reason, decision.message)
    return available


def _reconciling(snapshot: Snapshot, decision: Decision, available: _Answer) -> _Answer:
    if refusal := lasting_refusal(snapshot):
        return _Answer("False", Reason.ROUTE_REFUSED, refusal)
    settled = decision.phase in {Phase.STABLE, Phase.ROLLED_BACK, Phase.BLOCKED}
    retried = decision.phase is Phase.BLOCKED and decision.stalled is None
    if not settled or retried:
        return _Answer("True", decision.reason, decision.message)
    if decision.phase is Phase.STABLE and decision.reason is not Reason.SERVING:
        return _Answer("True", decision.reason, decision.message)
    if decision.phase is Phase.STABLE and not snapshot.route.programmed:
        return _with_status("True", _route(snapshot))
    if decision.phase is Phase.STABLE and available.reason is Reason.ROUTE_PENDING:
        return _with_status("True", available)
    return _Answer("False", decision.reason, decision.message)


def _stalled(snapshot: Snapshot, decision: Decision) -> _Answer:
    if decision.stalled is None and (refusal := lasting_refusal(snapshot)):
        return _Answer("True", Reason.ROUTE_REFUSED, refusal)
    if decision.stalled is None:
        return _Answer("False", decision.reason, decision.message)
    return _Answer("True", decision.stalled, decision.message)


def _accepted(snapshot: Snapshot, decision: Decision) -> _Answer:
    if snapshot.target is None and snapshot.unread and snapshot.spec_error is None:
        return _Answer("Unknown", Reason.READ_FAILED, decision.message)
    if snapshot.target is None:
        return _Answer("False", snapshot.spec_reason, snapshot.spec_error or snapshot.spec_reason.explanation)
    if refusal := lasting_refusal(snapshot):
        return _Answer("False", Reason.ROUTE_REFUSED, refusal)
    if snapshot.spec_reason in _ACCEPTED_BUT:
        return _Answer("True", snapshot.spec_reason, snapshot.spec_error or snapshot.spec_reason.explanation)
    resolved = decision.target.resolved if decision.target else None
    if resolved and resolved.prompt_name and not resolved.serves_prompts:
        return _Answer("True", Reason.PROMPT_NOT_SERVED, Reason.PROMPT_NOT_SERVED.explanation)
    return _Answer("True", Reason.ACCEPTED, Reason.ACCEPTED.explanation)


def _capacity(decision: Decision) -> _Answer:
    if decision.capacity:
        message = f"Pods do not start for lack of capacity: {decision.capacity}"
        return _Answer("False", Reason.WAITING_FOR_CAPACITY, message)
    return _Answer("True", Reason.CAPACITY_AVAILABLE, Reason.CAPACITY_AVAILABLE.explanation)


def _route(snapshot: Snapshot) -> _Answer:
    route = snapshot.route
    if Fact.ROUTE in snapshot.unread:
        return _Answer("Unknown", Reason.READ_FAILED, snapshot.unread[Fact.ROUTE])
    if not route.exists:
        return _Answer("Unknown", Reason.NO_ROUTE, Reason.NO_ROUTE.explanation)
    if refusal := lasting_refusal(snapshot):
        return _Answer("False", Reason.ROUTE_REFUSED, refusal)
    if not route.programmed:
        return _Answer("False", Reason.ROUTE_PENDING, Reason.ROUTE_PENDING.explanation)
    return _Answer("True", Reason.ROUTE_PROGRAMMED, Reason.ROUTE_PROGRAMMED.explanation)


def _metrics(snapshot: Snapshot, decision: Decision) -> _Answer:
    if decision.canary is None:
        return _Answer("Unknown", Reason.NO_CANARY, Reason.NO_CANARY.explanation)
    if snapshot.readings.error:
        return _Answer("False", Reason.METRICS_UNAVAILABLE, snapshot.readings.error)
    if decision.trial_state is None or decision.trial_state.until <= decision.trial_state.since:
        message = "Nothing has been counted for this canary yet; counting starts when it gets traffic."
        return _Answer("Unknown", Reason.AWAITING_EVIDENCE, message)
    requests = {"canary": decision.trial_state.canary_requests, "stable": decision.trial_state.stable_requests}
    silent = [side for side, number in requests.items() if not number]
    if silent:
        message = (
            f"Prometheus answers, but no request of the {' or the '.join(silent)} has been counted yet; check that "
            "requests arrive and that the pods are scraped."
        )
        return _Answer("Unknown", Reason.AWAITING_EVIDENCE, message)
    return _Answer("True", Reason.METRICS_AVAILABLE, Reason.METRICS_AVAILABLE.explanation)


def _split(snapshot: Snapshot, decision: Decision) -> _Answer:
    """Whether the pods use their current split documents; asked only while a trial or a leaving revision needs it."""
    engines = decision.wanted.documents_of if decision.wanted else ()
    switches = {engine: switch_of(snapshot, engine) for engine in engines}
    if not switches:
        return _Answer("Unknown", Reason.SPLIT_NOT_WATCHED, Reason.SPLIT_NOT_WATCHED.explanation)
    if refusing := [pod for switch in switches.values() for pod in switch.refusing]:
        others = f" and {len(refusing) - 1} more" if len(refusing) > 1 else ""
        message = f"{Reason.SPLIT_REFUSED.explanation} It is pod {refusing[0]}{others}; the pod's log says why."
        return _Answer("False", Reason.SPLIT_REFUSED, message)
    late = {engine: switch for engine, switch in switches.items() if not switch.done}
    if not late:
        return _Answer("True", Reason.SPLIT_IN_FORCE, Reason.SPLIT_IN_FORCE.explanation)
    message = " ".join(f"Engine {engine}: {switch.sentence}" for engine, switch in late.items())
    behind = any(switch.behind for switch in late.values())
    return _Answer("False" if behind else "Unknown", Reason.SPLIT_PENDING, message)


def _with_status(status: Status, answer: _Answer) -> _Answer:
    return replace(answer, status=status)
