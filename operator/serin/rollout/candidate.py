"""The canary on trial, with all facts that the guards ask about.

Built by `serin.rollout.canary` on every reconcile. What a fact means for the rollout is in `serin.rollout.guards`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from serin.analysis.missing import Arrivals, lost_beyond_doubt, missing, requests_held_for, unfinished
from serin.analysis.realised_share import far_above_weight
from serin.analysis.trial_state import TrialState
from serin.analysis.update import is_young
from serin.analysis.verdict import Judgement
from serin.api.check import CheckKind
from serin.api.names import FULL_WEIGHT
from serin.rollout.ramp import can_compare_arrivals, pods_at_equal_load, pods_for, weight_at
from serin.rollout.record import Record
from serin.rollout.route import is_settled
from serin.rollout.snapshot import EngineView, Fact, Snapshot
from serin.rollout.switching import is_new_to_pods
from serin.rollout.trial import Trial

SCRAPES = 3
"""After this many scrape intervals every pod has been scraped at least once."""

_LONGER = timedelta(milliseconds=1)
"""By how much more than blindTimeout the newest counts must be old."""


@dataclass(frozen=True)
class Candidate:
    """A canary on trial: its records, its trial and what was counted so far."""

    snapshot: Snapshot
    stable: Record
    record: Record
    trial: Trial
    judgement: Judgement
    state: TrialState | None = None
    """What was counted so far; None before the first request."""

    # Pods

    @property
    def engine(self) -> EngineView:
        """The canary's pods; empty before its Deployment exists."""
        engine_revision = self.record.engine_revision
        return self.snapshot.engines.get(engine_revision) or EngineView(engine_revision, replicas=0)

    @property
    def shared(self) -> bool:
        """Whether canary and stable have the same pods, which split the traffic themselves."""
        return self.record.engine_revision == self.stable.engine_revision

    @property
    def _route_is_settled(self) -> bool:
        return is_settled(self.snapshot.route, self.snapshot.now, self.snapshot.policy.settle_seconds)

    @property
    def takes_over_pods(self) -> bool:
        """Whether the gateway may still serve these pods with the weight of another canary that had them before."""
        return self.trial.traffic_since is None and not self._route_is_settled

    @property
    def pods_needed(self) -> int:
        """Ready pods of its own that the current step needs, or full traffic when all steps are done."""
        return pods_for(self.snapshot.spec.replicas, FULL_WEIGHT if self.is_last else self.weight)

    @property
    def pods_wanted(self) -> int:
        """Pods that the canary is scaled to: `pods_needed`, and as many as give both sides about the same load."""
        replicas = self.snapshot.spec.replicas
        return max(self.pods_needed, replicas if self.is_last else pods_at_equal_load(replicas, self.weight))

    def carries(self, weight: int) -> bool:
        """Whether the canary has the Ready pods that a weight needs; shared pods carry both revisions at any weight.

        Pods that were not read count as Ready, because a failed read must not take the weight of a good canary.
        """
        if self.shared or not self.snapshot.pods_are_known:
            return True
        return self.engine.ready >= pods_for(self.snapshot.spec.replicas, weight)

    @property
    def weight_of_ready_pods(self) -> int:
        """The highest weight that the canary's Ready pods can carry."""
        if self.shared or not self.snapshot.pods_are_known:
            return FULL_WEIGHT
        return min(FULL_WEIGHT, self.engine.ready * FULL_WEIGHT // max(1, self.snapshot.spec.replicas))

    @property
    def progress_left(self) -> timedelta:
        """Time until the progress deadline; it counts from the step, or from the moment a pod became unready, if later.

        A pod that does not exist yet (an autoscaler asks for more, one was evicted, a quota was raised) misses no
        deadline.
        """
        deadline, engine = self.snapshot.spec.rollout.progress_deadline, self.engine
        since = engine.not_ready_since(self.snapshot.now, deadline)
        if since is None and engine.replica_failure is None:
            return deadline
        start = max(self.trial.entered_at(), since or self.trial.entered_at())
        return deadline - ((self.trial.frozen_at or self.snapshot.now) - start)

    @property
    def was_ready(self) -> bool:
        """Whether a pod of the canary is Ready or was in this attempt: the revision can serve, whatever fails now."""
        return self.trial.was_ready or self.trial.traffic_since is not None or self.engine.ready > 0

    # Step and route

    @property
    def weight(self) -> int:
        """The weight that the current step gives."""
        return weight_at(self.trial)

    @property
    def is_last(self) -> bool:
        """Whether all steps are done and only the holdback and the promotion are left."""
        return self.trial.is_past_ramp

    @property
    def before_promotion(self) -> bool:
        """Whether the promotion, or its holdback, follows the current step."""
        return self.trial.step >= len(self.trial.steps) - 1

    @property
    def at_pause(self) -> bool:
        """Whether the current step is a pause."""
        return not self.is_last and self.trial.steps[self.trial.step].weight is None

    @property
    def weight_on_route(self) -> int:
        """The weight that the route gives the canary now."""
        return self.snapshot.route.weights.get(self.record.revision, 0)

    @property
    def in_route(self) -> bool:
        """Whether the gateway serves a route that names the canary and its pods know it, so that it may get weight."""
        known = self.weight_on_route > 0 or not is_new_to_pods(self.snapshot, self.record)
        return self._route_is_settled and known and self.record.revision in self.snapshot.route.weights

    @property
    def in_force(self) -> bool:
        """Whether the gateway serves the step's weight."""
        return self.in_route and self.weight_on_route == self.weight

    @property
    def overdue(self) -> bool:
        """Whether the canary has had traffic until rollout.deadline without proof; a holdback has no deadline."""
        exposed = self.trial.exposed(self.snapshot.now)
        return exposed >= self.snapshot.spec.rollout.deadline and not self.trial.in_holdback

    # Metrics

    @property
    def counted(self) -> int:
        """Requests of the canary that were counted since it got traffic."""
        return self.state.canary_requests if self.state else 0

    @property
    def measured(self) -> bool:
        """Whether the model server counts in the pods of both sides."""
        return self.stable.resolved.measures and self.record.resolved.measures

    @property
    def counted_by_load(self) -> bool:
        """Whether the pods of both sides can count latencies by load."""
        return self.stable.resolved.counts_by_load and self.record.resolved.counts_by_load

    @property
    def unjudged(self) -> frozenset[str]:
        """Names of the checks that one side cannot make: its pods are too old, or its prompt has no outputSchema."""
        sides = (self.stable.resolved, self.record.resolved)
        checks = {m.name: m.check for m in self.snapshot.spec.analysis.compared if m.check}
        if not self.counted_by_load:
            return frozenset(checks)
        if all(side.output_schema is not None for side in sides):
            return frozenset()
        return frozenset(name for name, check in checks.items() if check.kind is CheckKind.SCHEMA)

    @property
    def metrics_answer(self) -> bool:
        """Whether the metric source answers; `stale` says whether the answer is old."""
        return self.snapshot.readings.error is None

    @property
    def stale(self) -> bool:
        """Whether the newest sample is older than usual, for example because no operator ran."""
        policy = self.snapshot.policy
        usual = timedelta(seconds=policy.lag_seconds + SCRAPES * policy.slice_seconds) + self.snapshot.readings.late
        return self.state is not None and self.snapshot.now - self.state.until > usual

    @property
    def young(self) -> bool:
        """Whether the weight is so new that slow answers under it are not there yet: nothing is judged by it."""
        state = self.state
        return state is not None and state.newest is not None and is_young(state, state.newest, state.until)

    @property
    def blind_in(self) -> timedelta | None:
        """Time until the canary loses its weight unless newer counts come; None before its first weight."""
        seen = self.state.until if self.state else self.snapshot.unread_since if self._state_is_unread else None
        return seen + self.snapshot.spec.analysis.blind_timeout + _LONGER - self.snapshot.now if seen else None

    @property
    def unwatched(self) -> bool:
        """Whether no newer counts come: a source that was not asked yet may still have them."""
        return not self.metrics_answer or self.snapshot.readings.nothing_new or self._state_is_unread

    @property
    def blind_too_long(self) -> bool:
        """Whether nothing was counted for longer than analysis.blindTimeout, whatever the reason."""
        left = self.blind_in
        return self.unwatched and left is not None and left <= timedelta()

    @property
    def _state_is_unread(self) -> bool:
        return Fact.STATE in self.snapshot.unread

    @property
    def loses_requests(self) -> bool:
        """Whether requests of the canary are lost beyond doubt, so that it loses its weight at once."""
        if self.state is None or self.state.sticky or self.trial.forced or not self.metrics_answer or self.shared:
            return False
        return lost_beyond_doubt(self.state) is not None

    @property
    def missing(self) -> str | None:
        """The sentence that requests of the canary are missing beyond doubt.

        None is lost on the way to pods that choose the revision themselves: a pod counts a request as it chooses.
        """
        return unfinished(self.state) if self.shared else missing(self.state, small=not self.proves_arrivals)

    def held_for_requests(self, *, small: bool) -> str | None:
        """Why requests that are missing allow the canary no more weight; None if they do. `small`: as in `missing`."""
        return unfinished(self.state) if self.shared else requests_held_for(self.state, small=small)

    @property
    def keeps_clients(self) -> bool:
        """Whether a client's requests stay at one side, so that a few clients can make most of what one side counts."""
        routing = self.snapshot.spec.routing
        return routing.sticky is not None if self.shared else routing.gateway.session_persistence

    @property
    def over_exposed(self) -> Arrivals | None:
        """The arrivals if the canary's share of them is above twice its weight beyond doubt; else None."""
        return far_above_weight(self.state)

    @property
    def proves_arrivals(self) -> bool:
        """Whether its ramp has a weight at which the arrivals can be compared with it."""
        return can_compare_arrivals(self.trial)

    @property
    def beyond_limit(self) -> bool:
        """Whether a Required limit is exceeded, by both sides or by the canary; then Serin does not promote."""
        if self.state is None:
            return False
        required = [metric.tests for metric in self.state.metrics if metric.measurement.required]
        return any(tests.shared or tests.exceeded for tests in required)

    @property
    def scraped_after(self) -> timedelta:
        """After this time every pod was scraped, and series without epoch count again."""
        blank = self.state.blank_seconds if self.state and not self.measured else 0.0
        return timedelta(seconds=SCRAPES * self.snapshot.policy.slice_seconds + blank)
