"""What may stop a canary: `GUARDS` is the list of the product's rules, in order.

Called by `serin.rollout.canary`. A guard checks the canary on trial and returns a finding or None; the first
finding decides. A finding rejects the canary for good, or holds it where it is. The guards themselves are in
`pod_guards`, `ramp_guards` and `evidence_guards`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from serin.rollout.candidate import Candidate
from serin.rollout.evidence_guards import (
    arrivals_are_unproven,
    canary_cannot_be_measured_yet,
    canary_gets_far_more_than_its_weight,
    canary_requests_are_missing,
    canary_requests_were_lost,
    counts_speak_against_canary,
    expected_requests_did_not_come,
    gateway_drops_epoch,
    metrics_are_unavailable,
    metrics_failed_beyond_blind_timeout,
    newest_sample_is_too_old,
    required_metrics_are_unproven,
    step_has_no_request,
    verdict_is_fail,
)
from serin.rollout.finding import Finding
from serin.rollout.pod_guards import canary_pod_crashed, too_few_pods_are_ready
from serin.rollout.ramp_guards import (
    gateway_does_not_serve_weight_yet,
    gateway_refuses_route,
    minimum_bake_has_not_passed,
    pause_step_has_not_ended,
    something_was_not_read,
    spec_is_paused,
    weight_was_not_held_long_enough,
)
from serin.rollout.reasons import Reason

Guard = Callable[[Candidate], Finding | None]

_OF_OWN_PODS: frozenset[Guard] = frozenset({canary_pod_crashed, too_few_pods_are_ready})
"""Guards that blame the canary for its pods: not asked where the stable has the same ones."""

GUARDS: tuple[Guard, ...] = (
    # A bad canary is rejected, whatever else holds it.
    canary_pod_crashed,
    verdict_is_fail,
    # Those below would judge what is not known.
    something_was_not_read,
    # Before more traffic: pods, permission, metrics, route.
    too_few_pods_are_ready,
    spec_is_paused,
    canary_cannot_be_measured_yet,
    gateway_drops_epoch,
    metrics_failed_beyond_blind_timeout,
    canary_requests_were_lost,
    gateway_refuses_route,
    gateway_does_not_serve_weight_yet,
    # Before the end of a step: its time and its own data.
    pause_step_has_not_ended,
    canary_requests_are_missing,
    canary_gets_far_more_than_its_weight,
    weight_was_not_held_long_enough,
    metrics_are_unavailable,
    expected_requests_did_not_come,
    newest_sample_is_too_old,
    step_has_no_request,
    counts_speak_against_canary,
    # Before the promotion: proof and time with traffic.
    required_metrics_are_unproven,
    arrivals_are_unproven,
    minimum_bake_has_not_passed,
)

_NEVER_PROMOTED_WITH: tuple[Guard, ...] = (
    metrics_are_unavailable,
    expected_requests_did_not_come,
    newest_sample_is_too_old,
    step_has_no_request,
    canary_requests_are_missing,
    canary_gets_far_more_than_its_weight,
    counts_speak_against_canary,
)
"""What the deadline does not promote a canary with: without current data of its own, with requests missing, with far
too many requests, or with counts against it."""


def first_finding(c: Candidate) -> Finding | None:
    """The finding of the first guard that has one."""
    return next((finding for guard in _guards_for(c) if (finding := guard(c))), None)


def _guards_for(c: Candidate) -> Iterator[Guard]:
    """The guards of the canary: a pod that it shares with the stable blames neither revision."""
    return (guard for guard in GUARDS if not c.shared or guard not in _OF_OWN_PODS)


def deadline_promotes(c: Candidate, finding: Finding | None) -> bool:
    """Whether rollout.deadline promotes the canary without proof, as rollout.onInconclusive asks.

    Only if nothing but the proof is missing: steps, holds and pauses come first.
    """
    if c.snapshot.spec.rollout.on_inconclusive != "Promote" or c.counted == 0 or c.beyond_limit:
        return False
    if finding is None or finding.reason is not Reason.INCONCLUSIVE or not c.before_promotion:
        return False
    return all(guard(c) is None for guard in _NEVER_PROMOTED_WITH)


def clock_due(c: Candidate) -> timedelta | None:
    """Time until the clock alone changes what some guard says, whichever finding decides now; None: it never does.

    A finding states when it ends itself, and it hides the guards after it: a pause for a person hides the end of
    blindTimeout. So these times count under every finding.
    """
    rollout, times = c.snapshot.spec.rollout, []
    if not c.trial.blinded and (blind_in := c.blind_in) is not None:
        times.append(blind_in)
    if c.trial.exposed_since:
        exposed = c.trial.exposed(c.snapshot.now)
        times.append(rollout.minimum_bake - exposed)
        if not c.trial.in_holdback:
            times.append(rollout.deadline - exposed)
    return min((time for time in times if time > timedelta()), default=None)
