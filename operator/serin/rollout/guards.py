"""What may stop a canary, as an ordered tuple of small questions; reading `GUARDS` tells the product's rules.

Each takes the canary on trial and answers with a finding or None; the first finding decides. A finding either rejects
the canary for good or holds it where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from serin.analysis.missing import missing
from serin.analysis.trial_state import TrialState
from serin.analysis.update import is_young
from serin.analysis.verdict import Judgement, Verdict
from serin.api.names import FULL_WEIGHT
from serin.rollout.phases import Phase
from serin.rollout.ramp import pods_for, weight_at
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.route import is_settled
from serin.rollout.snapshot import EngineView, Snapshot
from serin.rollout.trial import Trial


@dataclass(frozen=True)
class Candidate:
    """A canary on trial, with all that the guards ask about."""

    snapshot: Snapshot
    stable: Record
    record: Record
    trial: Trial
    judgement: Judgement
    state: TrialState | None = None
    """What was counted so far; None before the first request."""

    @property
    def engine(self) -> EngineView:
        """The canary's pods; empty before its Deployment exists."""
        engine_revision = self.record.engine_revision
        return self.snapshot.engines.get(engine_revision) or EngineView(engine_revision, replicas=0)

    @property
    def weight(self) -> int:
        """The weight that the current step holds."""
        return weight_at(self.trial)

    @property
    def counted(self) -> int:
        """Requests of the canary that were counted since it got traffic."""
        return self.state.canary_requests if self.state else 0

    @property
    def measured(self) -> bool:
        """Whether the model server counts in the pods of both sides."""
        return self.stable.resolved.measures and self.record.resolved.measures

    @property
    def sees(self) -> bool:
        """Whether evidence is being read: the source answers. How old the answer is says `stale`."""
        return self.snapshot.readings.error is None

    @property
    def stale(self) -> bool:
        """Whether the newest evidence is older than it is when it is read as usual: nobody was there to read it."""
        policy = self.snapshot.policy
        usual = timedelta(seconds=policy.lag_seconds + SCRAPES * policy.slice_seconds)
        return self.state is not None and self.snapshot.now - self.state.until > usual

    @property
    def young(self) -> bool:
        """Whether the weight is so new that slow answers under it have not come: what came is not judged yet."""
        state = self.state
        return state is not None and state.newest is not None and is_young(state, state.newest, state.until)

    @property
    def blind_too_long(self) -> bool:
        """Whether the source has failed for longer than the canary may go unwatched."""
        left = self.blind_in
        return left is not None and left <= timedelta()

    @property
    def blind_in(self) -> timedelta | None:
        """Time until the canary loses its weight because the source fails; None while it answers."""
        if self.sees or self.state is None:
            return None
        return self.state.until + self.snapshot.spec.analysis.blind_timeout + _LONGER - self.snapshot.now

    @property
    def beyond_limit(self) -> bool:
        """Whether a Required limit is broken, by both sides or by the canary: nobody is promoted meanwhile."""
        if self.state is None:
            return False
        required = [metric.tests for metric in self.state.metrics if metric.measurement.required]
        return any(tests.shared or tests.exceeded for tests in required)

    @property
    def is_last(self) -> bool:
        """Whether all steps are done and only the promotion is left."""
        return self.trial.step >= len(self.trial.steps)

    @property
    def before_promotion(self) -> bool:
        """Whether what comes after the current step is the promotion, or its holdback."""
        return self.trial.step >= len(self.trial.steps) - 1

    @property
    def overdue(self) -> bool:
        """Whether the canary has had traffic for as long as it may without being proven; in its holdback it is."""
        exposed = self.trial.exposed(self.snapshot.now)
        return exposed >= self.snapshot.spec.rollout.deadline and not self.trial.in_holdback

    @property
    def pods_needed(self) -> int:
        """Ready pods before the canary may carry the current step, or everything when all steps are done."""
        return pods_for(self.snapshot.spec.replicas, FULL_WEIGHT if self.is_last else self.weight)

    @property
    def weight_on_route(self) -> int:
        """What the route gives the canary now."""
        return self.snapshot.route.weights.get(self.record.revision, 0)

    @property
    def in_route(self) -> bool:
        """Whether the gateway serves a route that names the canary, so that it may be given weight."""
        policy = self.snapshot.policy
        settled = is_settled(self.snapshot.route, self.snapshot.now, policy.settle_seconds)
        return settled and self.record.revision in self.snapshot.route.weights

    @property
    def in_force(self) -> bool:
        """Whether the gateway serves the step's weight."""
        return self.in_route and self.weight_on_route == self.weight


@dataclass(frozen=True)
class Finding:
    """Why the canary does not move on."""

    phase: Phase
    reason: Reason
    message: str
    rejects: bool = False
    stalls: bool = False
    due_in: timedelta | None = None


_LONGER = timedelta(milliseconds=1)
"""By how much more than blindTimeout the source must have failed."""
_WHOLE_SECOND = timedelta(seconds=1)
"""Kubernetes writes times in whole seconds, cut off."""

EXPECTED = 20.0
"""Canary requests that must have been expected, and not come, before that is called missing."""

SCRAPES = 3
"""Scrapes that must have passed without one."""

Guard = Callable[[Candidate], Finding | None]


def _reject(reason: Reason, message: str) -> Finding:
    return Finding(Phase.ROLLING_BACK, reason, message, rejects=True)


def crashed(c: Candidate) -> Finding | None:
    """A pod that crash-loops or ran out of memory needs no statistics."""
    for pod in c.engine.pods:
        # What a pod of an earlier attempt went through is not held against this one.
        earlier = pod.created_at is not None and pod.created_at < c.trial.started_at - _WHOLE_SECOND
        if pod.crash and not pod.deleting and not earlier:
            return _reject(Reason.CANARY_CRASHED, f"Pod {pod.name}: {pod.crash}.")
    return None


def failed(c: Candidate) -> Finding | None:
    """The verdict is Fail."""
    return _reject(Reason.VERDICT_FAILED, c.judgement.message) if c.judgement.verdict is Verdict.FAIL else None


def short_of_pods(c: Candidate) -> Finding | None:
    """Too few pods are Ready for the step: wait for nodes, for loading, or give up at the progress deadline."""
    if c.engine.ready >= c.pods_needed:
        return None
    ready = f"{c.engine.ready} of {c.pods_needed} pods Ready"
    left = _time_left(c)
    if no_node := no_node_for(c.engine):
        phase, message = Phase.PREPARING, f"{ready}; {no_node}"
        overdue = left <= timedelta() and not c.snapshot.spec.paused
        return Finding(phase, Reason.WAITING_FOR_CAPACITY, message, stalls=overdue, due_in=_future(left))
    if left <= timedelta() and not c.snapshot.spec.paused:
        waiting = next((f": {pod.waiting}" for pod in c.engine.pods if pod.waiting), "")
        deadline = c.snapshot.spec.rollout.progress_deadline
        return _reject(Reason.PROGRESS_DEADLINE_EXCEEDED, f"{ready} after {deadline}{waiting}.")
    if c.trial.traffic_since is None:
        reason = Reason.CANARY_LOADING
    else:
        reason = Reason.CANARY_SCALING if carries(c, c.weight_on_route) else Reason.CANARY_NOT_READY
    return Finding(Phase.PREPARING, reason, f"{reason.explanation} {ready}.", due_in=_future(left))


def paused(c: Candidate) -> Finding | None:
    """`spec.paused` freezes the ramp and the promotion."""
    return Finding(Phase.PAUSED, Reason.PAUSED, Reason.PAUSED.explanation) if c.snapshot.spec.paused else None


def blind_at_entry(c: Candidate) -> Finding | None:
    """Nobody gets traffic that could not be watched, nor before it is known what the stable shows without a canary."""
    evidence = c.snapshot.readings
    if c.trial.traffic_since is not None or c.trial.forced:
        return None
    if evidence.error:
        return Finding(Phase.PREPARING, Reason.METRICS_UNAVAILABLE, evidence.error)
    if evidence.baseline is None:
        return Finding(Phase.PREPARING, Reason.AWAITING_BASELINE, Reason.AWAITING_BASELINE.explanation)
    return None


def blinded(c: Candidate) -> Finding | None:
    """Nobody keeps traffic that has not been watched for too long."""
    if not c.trial.blinded or c.trial.forced:
        return None
    return Finding(
        Phase.PREPARING, Reason.BLIND, f"{Reason.BLIND.explanation} {c.snapshot.readings.error or ''}".strip()
    )


def route_refused(c: Candidate) -> Finding | None:
    """The gateway does not take the route: nothing moves until it does."""
    if refused := c.snapshot.route.refused:
        return Finding(Phase.PREPARING, Reason.ROUTE_REFUSED, refused)
    return None


def not_in_force(c: Candidate) -> Finding | None:
    """The step's weight is not served yet."""
    if c.is_last or c.in_force:
        return None
    settling = timedelta(seconds=c.snapshot.policy.settle_seconds + 1)
    phase = Phase.RAMPING if c.trial.traffic_since else Phase.PREPARING
    return Finding(phase, Reason.CANARY_ENTERING, Reason.CANARY_ENTERING.explanation, due_in=settling)


def pause_step(c: Candidate) -> Finding | None:
    """A pause step lasts its time, or until a person says resume."""
    if c.is_last or c.trial.steps[c.trial.step].weight is not None:
        return None
    hold = c.trial.steps[c.trial.step].hold
    if hold is None:
        how = f"serin.dev/do=resume@{c.record.revision}#<token>"
        return Finding(Phase.PAUSED, Reason.PAUSED_BY_STEP, f"Waits for a person: annotate with {how} to go on.")
    left = hold - c.trial.held(c.snapshot.now)
    if left <= timedelta():
        return None
    return Finding(Phase.PAUSED, Reason.PAUSED_BY_STEP, f"Pauses for {hold}.", due_in=left)


def requests_missing(c: Candidate) -> Finding | None:
    """Requests of the canary that did not arrive, or have not ended, beyond doubt: no metric has counted them.

    Then nothing that was counted proves the canary, nor gives it more weight. A person who says promote answers for it.
    """
    if c.trial.forced or not c.sees:
        return None
    told = missing(c.state)
    return _waits(c, Reason.REQUESTS_MISSING, f"{told} {c.judgement.message}") if told else None


def holding(c: Candidate) -> Finding | None:
    """A weight is held for its time, the holdback's as well as a step's; an adaptive one has none."""
    held = c.trial.holdback if c.trial.in_holdback else None if c.is_last else c.trial.steps[c.trial.step]
    if held is None or held.weight is None or held.adaptive or (c.trial.in_holdback and c.trial.forced):
        return None
    left = (held.hold or timedelta()) - c.trial.held(c.snapshot.now)
    if left <= timedelta():
        return None
    if missing := missing_traffic(c):
        return Finding(_phase(c), Reason.NO_TRAFFIC, f"{missing} {c.judgement.message}", due_in=left)
    if c.trial.in_holdback:
        told = f"{Reason.HOLDBACK.explanation} {c.judgement.message}"
        return Finding(_phase(c), Reason.HOLDBACK, told, due_in=left)
    return Finding(_phase(c), Reason.CANARY_RUNNING, c.judgement.message, due_in=left)


def _phase(c: Candidate) -> Phase:
    return Phase.PROMOTING if c.trial.in_holdback else Phase.RAMPING


def missing_traffic(c: Candidate) -> str | None:
    """That requests which the canary should have got did not come, as far as was read; None where they do."""
    state = c.state
    if state is None or state.expected_without_sample < EXPECTED or state.silent_for < _scraped_since(c):
        return None
    expected = f"{state.expected_without_sample:.0f}"
    return f"About {expected} requests should have reached the canary and none did; check the route."


def _scraped_since(c: Candidate) -> timedelta:
    """After so long every pod was scraped, and series that carry no epoch are believed again."""
    blank = c.state.blank_seconds if c.state and not c.measured else 0.0
    return timedelta(seconds=SCRAPES * c.snapshot.policy.slice_seconds + blank)


def silent(c: Candidate) -> Finding | None:
    """Traffic that should reach the canary does not, or nobody can see whether it does; then nothing moves.

    A pause step brings no weight of its own, so it needs no data. A person who says promote answers for it.
    """
    if c.trial.forced or (not c.is_last and c.trial.steps[c.trial.step].weight is None):
        return None
    if c.snapshot.readings.error:
        return _waits(c, Reason.METRICS_UNAVAILABLE, c.snapshot.readings.error)
    if missing := missing_traffic(c):
        return _waits(c, Reason.NO_TRAFFIC, f"{missing} {c.judgement.message}")
    # What was counted before says nothing about this step, and a moment without a scrape nothing about traffic.
    entered = max(c.trial.entered_at(), c.state.since) if c.state else c.snapshot.now
    counted = (c.is_last and not c.trial.in_holdback) or c.counted > c.trial.counted
    if (
        c.state is None
        or c.state.until < entered
        or c.stale
        or c.young
        or (not counted and c.state.until - entered < _scraped_since(c))
    ):
        # Nothing is missing but time, so the deadline has no say.
        return Finding(_phase(c), Reason.AWAITING_EVIDENCE, f"Waits for a sample. {c.judgement.message}")
    if not counted:
        message = f"No request has reached the canary in this step; check that traffic flows. {c.judgement.message}"
        return _waits(c, Reason.NO_TRAFFIC, message)
    return None


def baking(c: Candidate) -> Finding | None:
    """Nobody is promoted before its time, however good it looks; late regressions need it."""
    if c.trial.forced or c.trial.in_holdback or not c.before_promotion:
        return None
    left = c.snapshot.spec.rollout.minimum_bake - c.trial.exposed(c.snapshot.now)
    if left <= timedelta() or c.judgement.verdict is not Verdict.PASS:
        return None
    return Finding(Phase.RAMPING, Reason.BAKING, f"{Reason.BAKING.explanation} {c.judgement.message}", due_in=left)


def unproven(c: Candidate) -> Finding | None:
    """The end of the ramp needs the proof of every Required metric, at that very moment; beyond a limit nothing ends.

    The end of a holdback needs no second one: under the little that is left to the stable a proof wanes, however good
    the canary is.
    """
    if c.trial.forced or not c.before_promotion or c.judgement.verdict is Verdict.PASS:
        return None
    if c.trial.in_holdback and not c.beyond_limit:
        return None
    return _waits(c, Reason.AWAITING_EVIDENCE, c.judgement.message)


def _waits(c: Candidate, reason: Reason, message: str) -> Finding:
    """The canary is held for want of evidence; at the deadline that has a consequence."""
    if not c.overdue:
        left = c.snapshot.spec.rollout.deadline - c.trial.exposed(c.snapshot.now)
        # In a holdback alone: it has its own time. Whoever cannot see is a matter of blindTimeout.
        stalls = left <= timedelta() and reason is not Reason.METRICS_UNAVAILABLE
        due_in = _future(left) if c.trial.exposed_since else None
        return Finding(_phase(c), reason, message, stalls=stalls, due_in=due_in)
    told = f"{Reason.INCONCLUSIVE.explanation} {message}"
    if c.sees and c.snapshot.spec.rollout.on_inconclusive == "Rollback":
        return _reject(Reason.INCONCLUSIVE, told)
    return Finding(Phase.PAUSED, Reason.INCONCLUSIVE, told, stalls=True)


def at_deadline(c: Candidate, finding: Finding | None) -> bool:
    """Whether the deadline promotes the canary although it is not proven; never blind, nor while requests are missing.

    Only where nothing but the proof is missing: steps, holds and what a person is asked for come first all the same.
    """
    wanted = c.snapshot.spec.rollout.on_inconclusive == "Promote"
    inconclusive = finding is not None and finding.reason is Reason.INCONCLUSIVE
    inconclusive = inconclusive and silent(c) is None and requests_missing(c) is None
    return wanted and inconclusive and c.counted > 0 and not c.beyond_limit


GUARDS: tuple[Guard, ...] = (
    crashed,
    failed,
    short_of_pods,
    paused,
    blind_at_entry,
    blinded,
    route_refused,
    not_in_force,
    pause_step,
    requests_missing,
    holding,
    silent,
    unproven,
    baking,
)


def first_finding(candidate: Candidate) -> Finding | None:
    """The finding of the first guard that has one."""
    return next((finding for guard in GUARDS if (finding := guard(candidate))), None)


def clock_due(c: Candidate) -> timedelta | None:
    """Time until the clock alone changes what some guard says, whichever guard speaks now; None: it never does.

    A guard states when its own finding ends, and it hides the guards after it: a pause for a person hides that
    blindTimeout ends. So these times count under every finding.
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


def carries(c: Candidate, weight: int) -> bool:
    """Whether the canary has the Ready pods that a weight needs."""
    return c.engine.ready >= pods_for(c.snapshot.spec.replicas, weight)


def carried(c: Candidate) -> int:
    """The highest weight that the canary's Ready pods carry."""
    return min(FULL_WEIGHT, c.engine.ready * FULL_WEIGHT // max(1, c.snapshot.spec.replicas))


def no_node_for(engine: EngineView) -> str | None:
    """The sentence of the scheduler or of the quota that keeps pods away, or None."""
    pending = next((pod.unschedulable for pod in engine.pods if pod.unschedulable and not pod.deleting), None)
    return pending or engine.replica_failure


def _time_left(c: Candidate) -> timedelta:
    """Until the progress deadline, counted from the step or from the moment a pod stopped being Ready, if later.

    A pod that does not exist yet (an autoscaler wants more, one was evicted, a quota freed) has missed no deadline.
    """
    deadline = c.snapshot.spec.rollout.progress_deadline
    waiting_since = [pod.not_ready_since for pod in c.engine.pods if pod.not_ready_since and not pod.deleting]
    if not waiting_since and c.engine.replica_failure is None:
        return deadline
    start: datetime = max([c.trial.entered_at(), *([min(waiting_since)] if waiting_since else [])])
    return deadline - ((c.trial.frozen_at or c.snapshot.now) - start)


def _future(left: timedelta) -> timedelta | None:
    return left if left > timedelta() else None
