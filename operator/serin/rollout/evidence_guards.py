"""Guards about what was measured: readings, missing requests, the verdict. Their order is in `guards`.

A person who commands promote takes over the responsibility, so most of these guards do not hold a forced trial.
"""

from __future__ import annotations

from datetime import timedelta

from serin.analysis.arrivals_proof import arrivals_unproven
from serin.analysis.verdict import Verdict, against_more_weight
from serin.rollout.candidate import Candidate
from serin.rollout.finding import Finding, if_positive, rejection
from serin.rollout.ramp import needs_arrivals_proven
from serin.rollout.reasons import Reason

EXPECTED = 20.0
"""Canary requests that must have been expected, and not come, before Serin reports missing traffic."""


STAYS_TOO_OLD = timedelta(minutes=5)
"""Age of the newest counts from which not only time is missing."""
DROPPED = 0.5
"""Share of the stable's requests without epoch above which the gateway drops the header."""
ENOUGH = 20.0
"""Requests of the stable that such a share must be of."""


def verdict_is_fail(c: Candidate) -> Finding | None:
    """Rejects a canary that is worse than the stable."""
    return rejection(Reason.VERDICT_FAILED, c.judgement.message) if c.judgement.verdict is Verdict.FAIL else None


def canary_cannot_be_measured_yet(c: Candidate) -> Finding | None:
    """Keeps the first request from a canary while metrics or the stable's baseline are unavailable."""
    readings = c.snapshot.readings
    if c.trial.traffic_since is not None or c.trial.forced:
        return None
    if readings.error:
        return Finding(Reason.METRICS_UNAVAILABLE, readings.error)
    if readings.baseline is None:
        return Finding(Reason.AWAITING_BASELINE, Reason.AWAITING_BASELINE.explanation)
    return None


def gateway_drops_epoch(c: Candidate) -> Finding | None:
    """Keeps the first request from a canary while most of the stable's requests come without an epoch.

    They are never evidence, so the canary could not be measured.
    """
    baseline = c.snapshot.readings.baseline
    if c.trial.traffic_since is not None or c.trial.forced or baseline is None:
        return None
    if baseline.stable_requests < ENOUGH or baseline.without_epoch <= DROPPED:
        return None
    share = f"{100 * baseline.without_epoch:.0f}"
    return Finding(
        Reason.AWAITING_BASELINE,
        f"The gateway drops the header x-serin-epoch: {share} % of the stable's requests of the last five minutes came "
        "without it, and they are not counted. Let the gateway apply the route's header filters, and send clients "
        "through it.",
    )


def metrics_failed_beyond_blind_timeout(c: Candidate) -> Finding | None:
    """Holds a canary without weight because metrics were unavailable for longer than analysis.blindTimeout."""
    if not c.trial.blinded or c.trial.forced:
        return None
    old = "Prometheus answers, but has no newer sample; check its clock and its disk." if c.unwatched else ""
    message = f"{Reason.BLIND.explanation} {c.snapshot.readings.error or old}".strip()
    return Finding(Reason.BLIND, message)


def canary_requests_were_lost(c: Candidate) -> Finding | None:
    """Holds a canary without weight because its requests were lost beyond doubt, until a person decides.

    That is no verdict on the revision, so it is rejected only if rollout.onInconclusive asks for it.
    """
    if not c.trial.withdrawn_because or c.trial.forced:
        return None
    if c.snapshot.spec.rollout.on_inconclusive == "Rollback":
        return rejection(Reason.INCONCLUSIVE, f"Requests of the canary were lost. {c.trial.withdrawn_because}")
    resume, abort = (f"serin.dev/do={verb}@{c.record.revision}#<token>" for verb in ("resume", "abort"))
    decide = f"Correct the cause and annotate with {resume} to begin the ramp again, or with {abort}."
    message = f"{Reason.REQUESTS_LOST.explanation} {c.trial.withdrawn_because} {decide}"
    return Finding(Reason.REQUESTS_LOST, message, stalls=True)


def canary_requests_are_missing(c: Candidate) -> Finding | None:
    """Holds a canary some of whose requests did not arrive or have not ended: no metric has counted them."""
    if c.trial.forced or not c.metrics_answer:
        return None
    lost = c.missing
    return _hold_for_evidence(c, Reason.REQUESTS_MISSING, f"{lost} {c.judgement.message}") if lost else None


def canary_gets_far_more_than_its_weight(c: Candidate) -> Finding | None:
    """Holds a canary that gets more than twice the requests of its weight: the next step would reach too many users."""
    if c.trial.forced or c.trial.in_holdback or (arrivals := c.over_exposed) is None:
        return None
    cause = "a few keys of spec.routing.sticky" if c.shared else "the gateway, or clients that stay at one backend,"
    message = (
        f"{Reason.SHARE_ABOVE_WEIGHT.explanation} {100 * arrivals.share:.3g} % of "
        f"{arrivals.canary + arrivals.stable} requests reached it, and its weight was {100 * arrivals.weight:.3g} %, "
        f"because {cause} send them there. Abort it if that is too many, or choose a key that more clients differ in."
    )
    return _hold_for_evidence(c, Reason.SHARE_ABOVE_WEIGHT, f"{message} {c.judgement.message}")


def arrivals_are_unproven(c: Candidate) -> Finding | None:
    """Holds the canary at the last weight that shows arrivals until few of its requests are proven to be lost.

    Pods that both sides share choose the revision themselves, so no request is lost after the choice.
    """
    if c.trial.forced or c.trial.in_holdback or c.shared or not needs_arrivals_proven(c.trial):
        return None
    unproven = arrivals_unproven(c.state)
    return _hold_for_evidence(c, Reason.AWAITING_EVIDENCE, unproven) if unproven else None


def metrics_are_unavailable(c: Candidate) -> Finding | None:
    """Holds the canary while the metric source does not answer."""
    error = c.snapshot.readings.error
    return _hold_for_evidence(c, Reason.METRICS_UNAVAILABLE, error) if error and _needs_data(c) else None


def expected_requests_did_not_come(c: Candidate) -> Finding | None:
    """Holds the canary when it should have got requests by its weight and none was counted."""
    absent = no_traffic(c) if _needs_data(c) else None
    return _hold_for_evidence(c, Reason.NO_TRAFFIC, with_counts(absent, c)) if absent else None


def newest_sample_is_too_old(c: Candidate) -> Finding | None:
    """Holds the canary until the step itself was measured.

    As long as only time is missing, the deadline has no say; it has, if the samples stay too old.
    """
    if not _needs_data(c) or _is_measured(c):
        return None
    if c.state is not None and c.stale and c.snapshot.now - c.state.until > STAYS_TOO_OLD:
        seconds = round((c.snapshot.now - c.state.until).total_seconds())
        message = (
            f"The newest counts are {seconds} s old although Prometheus answers; check its clock, and how late its "
            f"samples can be queried. {c.judgement.message}"
        )
        return _hold_for_evidence(c, Reason.AWAITING_EVIDENCE, message)
    return Finding(Reason.AWAITING_EVIDENCE, f"Waiting for a current sample of the canary. {c.judgement.message}")


def step_has_no_request(c: Candidate) -> Finding | None:
    """Holds the canary until a request was counted in this step: earlier requests say nothing about it."""
    if not _needs_data(c) or _has_own_requests(c):
        return None
    message = (
        "No request of the canary has been counted in this step; check that requests arrive and that its pods are "
        "scraped."
    )
    return _hold_for_evidence(c, Reason.NO_TRAFFIC, with_counts(message, c))


def counts_speak_against_canary(c: Candidate) -> Finding | None:
    """Holds the canary at its weight while a Required comparison speaks against it, however little.

    Not in a holdback: the stable gets so little traffic then that a small excess could stay for good.
    """
    if c.trial.forced or c.trial.in_holdback:
        return None
    against = c.held_for_requests(small=not c.proves_arrivals) or against_more_weight(c.state)
    return _hold_for_evidence(c, Reason.AWAITING_EVIDENCE, against) if against else None


def required_metrics_are_unproven(c: Candidate) -> Finding | None:
    """Holds the canary before its promotion until every Required metric is proven no worse.

    The end of a holdback needs no second proof, unless a limit is exceeded: the stable gets so little traffic then
    that the evidence weakens however good the canary is.
    """
    if c.trial.forced or not c.before_promotion or c.judgement.verdict is Verdict.PASS:
        return None
    if c.trial.in_holdback and not c.beyond_limit:
        return None
    return _hold_for_evidence(c, Reason.AWAITING_EVIDENCE, c.judgement.message)


def no_traffic(c: Candidate) -> str | None:
    """The sentence that requests which the canary should have got did not come; None where they do."""
    state = c.state
    if state is None or state.expected_without_sample < EXPECTED or state.silent_for < c.scraped_after:
        return None
    expected = f"{state.expected_without_sample:.0f}"
    if state.canary_arrivals:
        return (
            f"{state.canary_arrivals} requests have arrived at the canary, and of the last {expected} that should have "
            "ended none has; check its pods for requests that hang, and their logs."
        )
    if state.arrivals:
        return (
            f"About {expected} requests should have reached the canary, and none has arrived at its pods; check the "
            "route, and that its pods are scraped."
        )
    return (
        f"About {expected} requests should have reached the canary, but none has been counted; check the route, and "
        "that its pods are scraped."
    )


def with_counts(sentence: str, c: Candidate) -> str:
    """The sentence and the judgement; only the sentence if the judgement has no request of the canary to count."""
    counted = any(metric.canary and metric.canary.requests for metric in c.judgement.metrics)
    return f"{sentence} {c.judgement.message}" if counted else sentence


def _needs_data(c: Candidate) -> bool:
    """Whether the step must be measured; a pause step brings no weight of its own."""
    return not c.trial.forced and not c.at_pause


def _is_measured(c: Candidate) -> bool:
    """Whether the samples are recent and cover enough of the current step to say something about it."""
    if c.state is None or c.stale or c.young:
        return False
    covered = c.state.until - max(c.trial.entered_at(), c.state.since)
    # A moment without a scrape says nothing about traffic.
    return covered >= (timedelta() if _has_own_requests(c) else c.scraped_after)


def _has_own_requests(c: Candidate) -> bool:
    """Whether a request was counted in the current step; between the last step and the promotion none is needed."""
    return (c.is_last and not c.trial.in_holdback) or c.counted > c.trial.counted


def _hold_for_evidence(c: Candidate, reason: Reason, message: str) -> Finding:
    """Holds the canary because evidence is missing; at rollout.deadline, rollout.onInconclusive decides."""
    if not c.overdue:
        left = c.snapshot.spec.rollout.deadline - c.trial.exposed(c.snapshot.now)
        # Over before its end only in a holdback. Unavailable metrics are the business of blindTimeout.
        stalls = left <= timedelta() and reason is not Reason.METRICS_UNAVAILABLE
        due_in = if_positive(left) if c.trial.exposed_since else None
        return Finding(reason, message, stalls=stalls, due_in=due_in)
    message = f"{Reason.INCONCLUSIVE.explanation} {message}"
    if c.metrics_answer and c.snapshot.spec.rollout.on_inconclusive == "Rollback":
        return rejection(Reason.INCONCLUSIVE, message)
    promote, abort = (f"serin.dev/do={verb}@{c.record.revision}#<token>" for verb in ("promote", "abort"))
    decide = f"To decide, annotate with {promote} or {abort}, or send the canary more traffic."
    return Finding(Reason.INCONCLUSIVE, f"{message} {decide}", stalls=True)
