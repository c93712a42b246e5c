"""Guards about the spec, the route and the clocks of the ramp. Their order is in `serin.rollout.guards`."""

from __future__ import annotations

from datetime import timedelta

from serin.analysis.verdict import Verdict
from serin.api.duration import format_duration
from serin.rollout.candidate import Candidate
from serin.rollout.evidence_guards import no_traffic, with_counts
from serin.rollout.finding import Finding
from serin.rollout.minimal import sentence
from serin.rollout.reasons import Reason
from serin.rollout.route import lasting_refusal

_IN_THE_PODS = "The pods get the canary's weight with their split document; the route stays as it is."


def spec_is_paused(c: Candidate) -> Finding | None:
    """Holds ramp and promotion while `spec.paused` is true."""
    return Finding(Reason.PAUSED, Reason.PAUSED.explanation) if c.snapshot.spec.paused else None


def something_was_not_read(c: Candidate) -> Finding | None:
    """Holds the canary while a read of the API server fails: what is not known speaks for no more traffic."""
    return Finding(Reason.READ_FAILED, sentence(c.snapshot)) if c.snapshot.unread else None


def gateway_refuses_route(c: Candidate) -> Finding | None:
    """Holds the canary until the gateway accepts the route; right after a change it may not know a new Service yet."""
    if refused := lasting_refusal(c.snapshot):
        return Finding(Reason.ROUTE_REFUSED, refused)
    return Finding(Reason.CANARY_ENTERING, Reason.CANARY_ENTERING.explanation) if c.snapshot.route.refused else None


def gateway_does_not_serve_weight_yet(c: Candidate) -> Finding | None:
    """Holds the canary until the gateway serves the step's weight."""
    if c.is_last or c.in_force:
        return None
    settling = timedelta(seconds=c.snapshot.policy.settle_seconds + 1)
    message = _IN_THE_PODS if c.shared else Reason.CANARY_ENTERING.explanation
    return Finding(Reason.CANARY_ENTERING, message, due_in=settling)


def pause_step_has_not_ended(c: Candidate) -> Finding | None:
    """Holds the canary at a pause step for its time, or until a person commands resume."""
    if not c.at_pause:
        return None
    hold = c.trial.steps[c.trial.step].hold
    how = f"annotate with serin.dev/do=resume@{c.record.revision}#<token> to continue"
    if hold is None:
        return Finding(Reason.PAUSED_BY_STEP, f"The ramp waits for manual approval; {how}.")
    left = hold - c.trial.held(c.snapshot.now)
    if left <= timedelta():
        return None
    message = f"The ramp pauses for {format_duration(hold)} and then continues; {how} at once."
    return Finding(Reason.PAUSED_BY_STEP, message, due_in=left)


def weight_was_not_held_long_enough(c: Candidate) -> Finding | None:
    """Holds the canary for the time of its step or holdback; an adaptive step has no such time."""
    held = c.trial.holdback if c.trial.in_holdback else None if c.is_last else c.trial.steps[c.trial.step]
    if held is None or held.weight is None or held.adaptive or (c.trial.in_holdback and c.trial.forced):
        return None
    left = (held.hold or timedelta()) - c.trial.held(c.snapshot.now)
    if left <= timedelta():
        return None
    if missing := no_traffic(c):
        return Finding(Reason.NO_TRAFFIC, with_counts(missing, c), due_in=left)
    if c.trial.in_holdback:
        message = f"{Reason.HOLDBACK.explanation} {c.judgement.message}"
        return Finding(Reason.HOLDBACK, message, due_in=left)
    return Finding(Reason.CANARY_RUNNING, c.judgement.message, due_in=left)


def minimum_bake_has_not_passed(c: Candidate) -> Finding | None:
    """Holds a canary with a Pass until rollout.minimumBake is over: some regressions appear late."""
    if c.trial.forced or c.trial.in_holdback or not c.before_promotion:
        return None
    left = c.snapshot.spec.rollout.minimum_bake - c.trial.exposed(c.snapshot.now)
    if left <= timedelta() or c.judgement.verdict is not Verdict.PASS:
        return None
    return Finding(Reason.BAKING, f"{Reason.BAKING.explanation} {c.judgement.message}", due_in=left)
