"""When the pods that count arrivals were last scraped, and what is left out because a pod of the stable has gone.

The proof of arrivals (`serin.analysis.arrivals_proof`) compares both sides at a moment that the samples of every pod of
the stable have reached. A pod whose scrapes fail keeps that moment back until it is scraped again; what it counted in
the meantime comes with its next sample. A pod that goes takes what it counted since its last sample with it, so the
comparison of the epoch begins again then. Called by `serin.analysis.update`. Pure; times are on the source's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.slices import NO_REQUESTS, RequestsBySide

QUIET_SCRAPES = 10
"""After so many scrapes without a sample a process counts as gone if nothing else is known of its pod, and a pod of
which there has never been a sample as one without requests."""


class Samples(NamedTuple):
    """The newest sample of each process of an interval that ends at `end`."""

    end: datetime
    canary: Mapping[str, datetime]
    """By process: its pod, or its instance where no label names the pod."""
    stable: Mapping[str, datetime]


@dataclass(frozen=True)
class StablePods:
    """The stable's pods that get requests, as the API server shows them."""

    at: datetime
    """When they were observed."""
    ready_since: Mapping[str, datetime | None]
    """The pods that are Ready, by name, and since when; None: unknown, so long ago."""


@dataclass(frozen=True)
class LeftOut:
    """Arrivals of one epoch that are not compared, because requests of the stable may be missing from them."""

    until: datetime
    """Those until then."""
    requests: RequestsBySide = NO_REQUESTS
    """The canary's are at least those until then, and the stable's at most."""


@dataclass(frozen=True)
class Scraped:
    """The newest sample of each process of both sides that was in the trial."""

    canary: FrozenMap[str, datetime] = field(default_factory=FrozenMap)
    stable: FrozenMap[str, datetime] = field(default_factory=FrozenMap)
    left_out: FrozenMap[int, LeftOut] = field(default_factory=FrozenMap)
    """By epoch."""

    def add(self, samples: Samples, pods: StablePods | None, slice_seconds: float) -> Scraped:
        """With the samples of an interval, and without the processes that are gone."""
        since = samples.end - _quiet(slice_seconds)
        ready = self._ready(samples.stable, pods)

        def stays(process: str, at: datetime) -> bool:
            return process in samples.stable or (process in ready if ready else at >= since)

        canary, stable = {**self.canary, **samples.canary}, {**self.stable, **samples.stable}
        return replace(
            self,
            canary=FrozenMap({process: at for process, at in canary.items() if at >= since}),
            stable=FrozenMap({process: at for process, at in stable.items() if stays(process, at)}),
        )

    def gone_since(self, after: Scraped) -> datetime | None:
        """The oldest of the last samples of the stable's processes that are in this state and not in the one after."""
        return min((at for process, at in self.stable.items() if process not in after.stable), default=None)

    def stable_until(
        self, since: datetime, end: datetime, pods: StablePods | None, slice_seconds: float
    ) -> datetime | None:
        """The moment that the samples of every pod of the stable have reached; None without a sample.

        Args:
            since: begin of the trial.
            end: of the newest interval.
            pods: the stable's pods; one that is new and was never sampled may have got requests since it is Ready.
            slice_seconds: time between two scrapes.
        """
        new = end - _quiet(slice_seconds)
        unseen = (
            max(since, at) if at else since
            for pod, at in self._ready(self.stable, pods).items()
            if pod not in self.stable
        )
        return min((*self.stable.values(), *(at for at in unseen if at > new))) if self.stable else None

    def _ready(self, processes: Mapping[str, datetime], pods: StablePods | None) -> Mapping[str, datetime | None]:
        """The Ready pods, if processes are named by their pods; else none."""
        ready = pods.ready_since if pods else {}
        return ready if any(process in ready for process in (*self.stable, *processes)) else {}

    def leave_out(self, epochs: Iterable[int], left: LeftOut) -> Scraped:
        """With these epochs beginning again, without what is left out."""
        return replace(self, left_out=FrozenMap({**self.left_out, **dict.fromkeys(epochs, left)}))

    def count_left_out(
        self, epoch: int, before: Scraped, samples: Samples, arrived: RequestsBySide, slice_seconds: float
    ) -> Scraped:
        """With the arrivals of an epoch that are not compared, once those of an interval are in `arrived`.

        Args:
            epoch: the newest.
            before: the processes before the interval.
            samples: of the interval.
            arrived: in the epoch, up to the end of the interval.
            slice_seconds: time between two scrapes.
        """
        if (left := self.left_out.get(epoch)) is None:
            return self
        at_canary, at_stable = left.requests.canary, left.requests.stable
        # A process of the canary whose first sample comes so soon may have counted before.
        soon = left.until + _quiet(slice_seconds)
        joined = any(process not in before.canary and at < soon for process, at in samples.canary.items())
        if joined or not before.canary_until(left.until):
            at_canary = arrived.canary
        if samples.stable and max(samples.stable.values()) <= left.until:
            at_stable = arrived.stable
        return replace(
            self, left_out=self.left_out.put(epoch, LeftOut(left.until, RequestsBySide(at_canary, at_stable)))
        )

    def canary_until(self, moment: datetime) -> bool:
        """Whether every process of the canary has been sampled at this moment or later."""
        return bool(self.canary) and min(self.canary.values()) >= moment

    def begin_epoch(self, epoch: int, ended: int | None, now: datetime) -> Scraped:
        """When another epoch begins; one whose comparison has not begun again by its end is left out as a whole."""
        left_out = {e: left for e, left in self.left_out.items() if e != epoch}
        left = left_out.get(ended) if ended is not None else None
        if ended is not None and left is not None and not self.canary_until(left.until):
            left_out[ended] = LeftOut(now)
        return replace(self, left_out=FrozenMap(left_out) if left_out else EMPTY)


def _quiet(slice_seconds: float) -> timedelta:
    return timedelta(seconds=QUIET_SCRAPES * slice_seconds)


NOTHING_SCRAPED = Scraped()
"""Before the first sample."""
