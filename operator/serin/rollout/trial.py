"""The running trial of a canary: its pinned ramp, its current step, and clocks that can be stopped.

Stored as JSON in an annotation of the canary's ControllerRevision, so neither a lost status nor a crash loses it. The
step's clock runs while the step is in force, the exposure's clock while the canary has traffic. What the trial has
counted is stored elsewhere (`serin.analysis.trial_state`). Times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from serin.api.names import FULL_WEIGHT
from serin.errors import RecordError

_STORED = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True)
"""Newer versions add keys, which older ones ignore; a key that is absent has its default."""


def _from_seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number of seconds")  # noqa: TRY004 - pydantic reports only ValueError
    try:
        return timedelta(seconds=value)
    except OverflowError as error:
        raise ValueError("too many seconds") from error


Time = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat)]
Seconds = Annotated[timedelta, BeforeValidator(_from_seconds), PlainSerializer(timedelta.total_seconds)]
Weight = Annotated[int, Field(ge=0, le=FULL_WEIGHT)]
"""Parts of 10,000."""


@dataclass(frozen=True)
class Step:
    """One step of a pinned ramp: a weight with its hold, or a pause."""

    __pydantic_config__ = _STORED

    weight: Weight | None
    """None for a pause, which has the weight of the step before."""
    hold: Annotated[Seconds | None, Field(alias="holdSeconds")] = None
    """How long; None is a pause that only a person ends."""
    adaptive: Annotated[bool, Field(exclude_if=lambda adaptive: not adaptive)] = False
    """`Trial.weight` is the weight, until the canary is proven; `weight` and `hold` mean nothing."""


class Budget(NamedTuple):
    """What an adaptive ramp may cost; pinned."""

    blast: float | None
    """Bad answers beyond the stable's own that a slice may be expected to cost; None: by the traffic."""
    max_weight: int
    """Parts of 10,000."""
    later_weight: int | None = None
    """The highest weight once all evidence favours the canary, in parts of 10,000; None: `max_weight`."""


def _written_budget(budget: Budget | None) -> list[float | int | None] | None:
    """Version 0.1 reads pairs only, so a third number is written only if there is one."""
    return None if budget is None else list(budget if budget.later_weight is not None else budget[:2])


@dataclass(frozen=True)
class Trial:
    """State of one attempt at promoting a revision."""

    __pydantic_config__ = _STORED

    attempt: int
    against: str
    """Revision of the stable that it is compared with."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    """Never empty: such a canary would be promoted without a trial."""
    started_at: Time
    step: Annotated[int, Field(ge=0)] = 0
    """Index into `steps`; `len(steps)` means that all are done and promotion is due."""
    step_entered_at: Time | None = None
    """When the step became the current one, traffic or not; None: at the start."""
    held_before: Annotated[Seconds, Field(alias="heldSeconds")] = timedelta()
    """Time in force until the clock last stopped."""
    clock_started_at: Time | None = None
    """None while the clock is stopped."""
    traffic_since: Time | None = None
    """When the canary got its first weight above 0: the start of the evidence. None: not yet."""
    counted: int = 0
    """Finished requests of the canary when the step was entered; a step ends only with requests of its own."""
    forced: bool = False
    """A person commanded promote: no verdict is waited for any more."""
    frozen_at: Time | None = None
    """Since when `spec.paused` stops the progress deadline; None: it does not."""
    budget: Annotated[Budget | None, PlainSerializer(_written_budget)] = None
    """Of an adaptive ramp."""
    weight: Weight = 0
    """What an adaptive ramp gives now; 0 until the traffic before the rollout is known."""
    weight_based_on: Annotated[int, Field(alias="weighed")] = 0
    """Canary requests in closed strata when an adaptive ramp last changed the weight; it moves only on new ones."""
    holdback: Step | None = None
    """The weight that the canary has, and for how long, between its Pass and its promotion."""
    in_holdback: bool = False
    """Whether the holdback has begun; `step` is past the ramp then."""
    blinded: bool = False
    """The canary lost its weight because metrics were unavailable for longer than analysis.blindTimeout."""
    withdrawn_because: Annotated[str | None, Field(exclude_if=lambda because: because is None)] = None
    """Why the canary has no weight until a person commands resume: its requests were lost. None: it is not so."""
    exits_before: Annotated[Mapping[str, int] | None, Field(exclude_if=lambda exits: exits == {})] = field(
        default_factory=dict
    )
    """By pod, how often its engine had ended before the trial started; pods without an end are left out. None: pods
    could not be read yet."""
    was_ready: Annotated[bool, Field(exclude_if=lambda was_ready: not was_ready)] = False
    """Whether a pod of the canary was Ready in this attempt: then a missing pod does not reject the revision."""
    exposed_before: Annotated[Seconds, Field(alias="exposedSeconds")] = timedelta()
    """Time with traffic until the exposure's clock last stopped."""
    exposed_since: Time | None = None
    """None while that clock is stopped."""

    no_stable_since: Annotated[Time | None, Field(exclude_if=lambda since: since is None)] = None
    """Since when no pod of the stable has been Ready; None: one is, or that is not known."""

    @property
    def is_past_ramp(self) -> bool:
        """Whether all steps are done."""
        return self.step >= len(self.steps)

    def held(self, now: datetime) -> timedelta:
        """How long the current step has been in force."""
        # At least 0: the clock of another operator may have been ahead.
        running = max(now - self.clock_started_at, timedelta()) if self.clock_started_at else timedelta()
        return self.held_before + running

    def exposed(self, now: datetime) -> timedelta:
        """How long the canary has had traffic, pauses by `spec.paused` left out."""
        running = max(now - self.exposed_since, timedelta()) if self.exposed_since else timedelta()
        return self.exposed_before + running

    def with_exposure(self, now: datetime, *, running: bool) -> Trial:
        """The same trial with the exposure's clock running or stopped; unchanged if it is so already."""
        if running == (self.exposed_since is not None):
            return self
        return replace(self, exposed_before=self.exposed(now), exposed_since=now if running else None)

    def entered_at(self) -> datetime:
        """When the current step became the current one."""
        return self.step_entered_at or self.started_at

    def with_clock(self, now: datetime, *, running: bool) -> Trial:
        """The same trial with its clock running or stopped; unchanged if it is so already."""
        if running == (self.clock_started_at is not None):
            return self
        return replace(self, held_before=self.held(now), clock_started_at=now if running else None)

    def with_deadline(self, now: datetime, *, frozen: bool) -> Trial:
        """The same trial with its progress deadline stopped or running; stopped time does not count."""
        if frozen == (self.frozen_at is not None):
            return self
        if self.frozen_at is None:
            return replace(self, frozen_at=now)
        return replace(self, frozen_at=None, step_entered_at=self.entered_at() + max(now - self.frozen_at, timedelta()))

    def at_step(self, step: int, now: datetime, counted: int | None = None) -> Trial:
        """The same trial at another step, whose clock has not started; `counted` if it is known."""
        counted = self.counted if counted is None else counted
        return replace(
            self, step=step, step_entered_at=now, held_before=timedelta(), clock_started_at=None, counted=counted
        )

    def to_json(self) -> str:
        """One line of JSON; the inverse of `from_json`."""
        return _TRIALS.dump_json(self, by_alias=True).decode()

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Read what `to_json` of this or an earlier version wrote.

        Raises:
            RecordError: the text is not a trial.
        """
        try:
            return _TRIALS.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "text"
            raise RecordError(
                f"The trial annotation is unreadable ({where}: {first['msg']}); remove it to start a new trial."
            ) from error


_TRIALS = TypeAdapter(Trial)
