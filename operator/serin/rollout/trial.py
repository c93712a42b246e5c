"""The running trial of a canary: pinned ramp, current step, and clocks that can be stopped.

Kept as JSON in an annotation of the canary's ControllerRevision, so that neither a lost status nor a crash forgets it.
The step's clock counts only while the step is in force, the exposure's while the canary has traffic; both are exact
whenever they are read. What was counted meanwhile is kept apart (`serin.analysis.trial_state`). Times are UTC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from serin.api.nesting import load_json
from serin.errors import RecordError


@dataclass(frozen=True)
class Step:
    """One step of a pinned ramp: a weight with its hold, or a pause (`weight` None)."""

    weight: int | None
    """Parts of 10,000; None for a pause, which keeps the weight of the step before."""
    hold: timedelta | None = None
    """How long; None is a pause that only a person ends."""
    adaptive: bool = False
    """The weight follows the evidence (`Trial.weight`) until the canary is proven; `weight` and `hold` mean nothing."""


@dataclass(frozen=True)
class Budget:
    """What an adaptive ramp may cost; pinned."""

    blast: float
    """Bad answers beyond the stable's own that a slice may be expected to cost."""
    max_weight: int
    """Parts of 10,000."""


@dataclass(frozen=True)
class Trial:
    """State of one attempt at promoting a revision."""

    attempt: int
    against: str
    """Revision of the stable that it is compared with."""
    steps: tuple[Step, ...]
    started_at: datetime
    step: int = 0
    """Index into `steps`; `len(steps)` means that all are done and promotion is due."""
    step_entered_at: datetime | None = None
    """When the step became the current one, traffic or not; None: at the start."""
    held_before: timedelta = timedelta()
    """Time in force until the clock last stopped."""
    clock_started_at: datetime | None = None
    """None while the clock stands still."""
    traffic_since: datetime | None = None
    """When the canary got its first weight above 0: the start of the evidence. None: not yet."""
    counted: int = 0
    """Finished requests of the canary when the step was entered: a step ends only with data of its own."""
    forced: bool = False
    """A person said promote: no verdict is waited for any more."""
    frozen_at: datetime | None = None
    """Since when `spec.paused` stops the progress deadline; None: it does not."""
    budget: Budget | None = None
    """Of an adaptive ramp."""
    weight: int = 0
    """What an adaptive ramp gives now, in parts of 10,000; 0 until the traffic before the rollout is known."""
    weighed: int = 0
    """Canary requests in closed strata when an adaptive ramp last changed the weight: it moves on new ones only."""
    holdback: Step | None = None
    """The weight that the canary keeps, and for how long, between its Pass and its promotion."""
    in_holdback: bool = False
    """Whether that has begun; `step` is past the ramp then."""
    blinded: bool = False
    """Its weight was taken away because there was no evidence for too long."""
    exposed_before: timedelta = timedelta()
    """Time with traffic until the exposure's clock last stopped."""
    exposed_since: datetime | None = None
    """None while it stands still."""

    @property
    def is_past_ramp(self) -> bool:
        """Whether all steps are done."""
        return self.step >= len(self.steps)

    def held(self, now: datetime) -> timedelta:
        """How long the current step has been in force."""
        # Never less than nothing: another operator's clock may have been ahead.
        running = max(now - self.clock_started_at, timedelta()) if self.clock_started_at else timedelta()
        return self.held_before + running

    def exposed(self, now: datetime) -> timedelta:
        """How long the canary has had traffic, pauses by `spec.paused` left out."""
        running = max(now - self.exposed_since, timedelta()) if self.exposed_since else timedelta()
        return self.exposed_before + running

    def with_exposure(self, now: datetime, *, running: bool) -> Trial:
        """The same trial with the exposure's clock running or stopped; itself if nothing changes."""
        if running == (self.exposed_since is not None):
            return self
        return replace(self, exposed_before=self.exposed(now), exposed_since=now if running else None)

    def entered_at(self) -> datetime:
        """When the current step became the current one."""
        return self.step_entered_at or self.started_at

    def with_clock(self, now: datetime, *, running: bool) -> Trial:
        """The same trial with its clock running or stopped; itself if nothing changes."""
        if running == (self.clock_started_at is not None):
            return self
        return replace(self, held_before=self.held(now), clock_started_at=now if running else None)

    def with_deadline(self, now: datetime, *, frozen: bool) -> Trial:
        """The same trial with its progress deadline stopped or running; time that it stood still does not count."""
        if frozen == (self.frozen_at is not None):
            return self
        if self.frozen_at is None:
            return replace(self, frozen_at=now)
        return replace(self, frozen_at=None, step_entered_at=self.entered_at() + max(now - self.frozen_at, timedelta()))

    def at_step(self, step: int, now: datetime, counted: int | None = None) -> Trial:
        """The same trial at another step, whose clock has not started; `counted` as far as it is known."""
        counted = self.counted if counted is None else counted
        return replace(
            self, step=step, step_entered_at=now, held_before=timedelta(), clock_started_at=None, counted=counted
        )

    def to_json(self) -> str:
        """One line of JSON; the inverse of `from_json`."""
        return json.dumps(
            {
                "attempt": self.attempt,
                "against": self.against,
                "steps": [_step_to_json(s) for s in self.steps],
                "startedAt": self.started_at.isoformat(),
                "step": self.step,
                "stepEnteredAt": _text(self.step_entered_at),
                "heldSeconds": self.held_before.total_seconds(),
                "clockStartedAt": _text(self.clock_started_at),
                "trafficSince": _text(self.traffic_since),
                "counted": self.counted,
                "forced": self.forced,
                "frozenAt": _text(self.frozen_at),
                "budget": [self.budget.blast, self.budget.max_weight] if self.budget else None,
                "weight": self.weight,
                "weighed": self.weighed,
                "holdback": _step_to_json(self.holdback) if self.holdback else None,
                "inHoldback": self.in_holdback,
                "blinded": self.blinded,
                "exposedSeconds": self.exposed_before.total_seconds(),
                "exposedSince": _text(self.exposed_since),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Read what `to_json` wrote.

        Raises:
            RecordError: the text is not a trial of this version.
        """
        try:
            data = load_json(text)
            return cls(
                attempt=int(data["attempt"]),
                against=str(data["against"]),
                steps=_steps(data["steps"]),
                started_at=datetime.fromisoformat(data["startedAt"]),
                step=int(data["step"]),
                step_entered_at=_time(data["stepEnteredAt"]),
                held_before=timedelta(seconds=data["heldSeconds"]),
                clock_started_at=_time(data["clockStartedAt"]),
                traffic_since=_time(data["trafficSince"]),
                # What came later must be read without, or an upgrade would lose the canaries on trial.
                counted=int(data.get("counted", 0)),
                forced=bool(data.get("forced", False)),
                frozen_at=_time(data.get("frozenAt")),
                budget=_budget(data.get("budget")),
                weight=int(data.get("weight", 0)),
                weighed=int(data.get("weighed", 0)),
                holdback=_step(data["holdback"]) if data.get("holdback") else None,
                in_holdback=bool(data.get("inHoldback", False)),
                blinded=bool(data.get("blinded", False)),
                exposed_before=timedelta(seconds=data.get("exposedSeconds", 0.0)),
                exposed_since=_time(data.get("exposedSince")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"The trial annotation is unreadable ({error}); remove it to start the trial anew."
            ) from error


def _steps(items: list[dict[str, Any]]) -> tuple[Step, ...]:
    if not items:
        raise ValueError("no steps")  # it would be promoted without having been tried
    return tuple(_step(item) for item in items)


def _step(item: dict[str, Any]) -> Step:
    hold = item["holdSeconds"]
    return Step(
        weight=item["weight"],
        hold=None if hold is None else timedelta(seconds=hold),
        adaptive=bool(item.get("adaptive", False)),
    )


def _step_to_json(step: Step) -> dict[str, Any]:
    written: dict[str, Any] = {"weight": step.weight, "holdSeconds": _seconds(step.hold)}
    return written | ({"adaptive": True} if step.adaptive else {})


def _budget(data: list[float] | None) -> Budget | None:
    return Budget(float(data[0]), int(data[1])) if data else None


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
