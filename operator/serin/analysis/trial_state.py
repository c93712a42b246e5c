"""What a trial has shown so far: the running tests of every metric, and up to when they have been fed.

Begun by `serin.rollout.canary` when the canary gets its first request; `serin.analysis.update` feeds what was
counted since. In between it is JSON in a ConfigMap (`serin.manifests.evidence_map`): one write carries the tests and
the moment up to which Prometheus was read, so that a crash neither loses nor doubles a request. Judged by
`serin.analysis.verdict`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from serin.analysis.counts import EPOCHS, Tally
from serin.analysis.measurement import (
    Measurement,
    Throughput,
    measurement_from_json,
    measurement_to_json,
    tally_from_json,
    tally_to_json,
)
from serin.errors import RecordError
from serin.evidence.metric import MetricEvidence
from serin.evidence.noise import Noise
from serin.evidence.slices import Totals

VERSION = 1
LATEST = timedelta(hours=1)
"""So long after an epoch requests that arrived in it may still end."""
LATELY, MOST_LATELY = 4, 64
"""So many slices, in so many intervals at most, are told apart of the arrivals."""
AHEAD = 4
"""Epochs that may begin before the collector is told of them: a reconcile can fail between route and watch."""


@dataclass(frozen=True)
class Epoch:
    """A period of constant weight."""

    began: datetime
    weight: int
    """The canary's, in parts of 10,000; what is counted at 0 compares nobody and is left out."""


@dataclass(frozen=True)
class TrialState:
    """The evidence of one trial; a new one for every change, never changed in place."""

    trial: str
    """Which trial: `<revision>@<attempt>`."""
    since: datetime
    """When the canary got its first weight."""
    until: datetime
    """Everything that was counted up to here has been taken into account."""
    measurements: tuple[Measurement, ...]
    evidence: tuple[MetricEvidence, ...]
    """By measurement."""
    noise: tuple[Noise, ...]
    """By measurement, what the stable's own pods show among themselves; fed where that is told apart."""
    epochs: Mapping[int, Epoch]
    """By the value of the label, the last 32."""
    requests_per_second: float
    """Of all revisions before the rollout."""
    settle_seconds: float
    """How long an epoch lasts before its slices count for a proof."""
    blank_seconds: float
    """How long series without an epoch are not believed after a change of weight."""
    against: str = ""
    """The stable's revision; empty in what an earlier version kept."""
    young_seconds: float = 0.0
    """How long after the beginning of an epoch its counts are pooled, because slow answers may be missing."""
    unseen: float = 0.0
    """Canary requests that the stable's traffic made expect since the last one that was seen."""
    seen_at: datetime | None = None
    """End of the last interval in which the canary was seen to finish a request; None: never."""
    arrivals: Tally | None = None
    """Counts requests as they arrive; None: nobody does."""
    arrived: tuple[int, int] = (0, 0)
    """Requests that reached canary and stable in the newest epoch."""
    lately: tuple[tuple[datetime, int], ...] = ()
    """The last of them, of both sides, by the end of the interval."""
    arrived_before: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """The same of the epochs before it, by epoch."""
    ended: Tally | None = None
    """Counts requests as they end, whatever came of them; None: it is not compared with the arrivals."""
    in_progress: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Requests of canary and stable that have arrived and not ended, by epoch, as of `until`."""
    crowded_since: datetime | None = None
    """Since when the canary has too many of them (`serin.analysis.missing`); None: it does not."""
    slice_seconds: float = 15.0
    """Between two scrapes of a pod."""
    throughputs: tuple[Throughput, ...] = ()
    generated: tuple[Totals, ...] = ()
    """By throughput: milliseconds and tokens of the canary, and of the stable."""

    @property
    def silent_for(self) -> timedelta:
        """How long no request of the canary has been seen."""
        return self.until - (self.seen_at or self.since)

    @property
    def counted(self) -> int:
        """Requests of the canary that were counted, by the metric that counted most."""
        return max((n1 for e in self.evidence for n1, *_ in e.totals), default=0)

    @property
    def newest(self) -> int | None:
        """The epoch that began last; None: none yet."""
        return max(self.epochs, key=lambda epoch: self.epochs[epoch].began, default=None)

    @property
    def seen(self) -> tuple[bool, bool]:
        """Whether any request of the canary was counted, and any of the stable."""
        totals = [total for evidence in self.evidence for total in evidence.totals]
        return any(n1 for n1, *_ in totals), any(n0 for _, _, n0, _ in totals)

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What has to be read."""
        told = [tally for m in self.measurements for tally in m.tallies]
        told += [tally for shown in self.throughputs for tally in shown.tallies]
        return tuple(dict.fromkeys([*told, *(tally for tally in (self.arrivals, self.ended) if tally)]))

    @property
    def progress(self) -> tuple[Tally, Tally] | None:
        """From which of them it is known what is in progress."""
        return (self.arrivals, self.ended) if self.arrivals and self.ended else None

    @property
    def optional(self) -> tuple[Tally, ...]:
        """Which of them decide nothing."""
        needed = {tally for m in self.measurements if m.required for tally in m.tallies}
        return tuple(tally for tally in self.tallies if tally not in needed)

    @property
    def apart(self) -> tuple[Tally, ...]:
        """Which of them have to be read by process."""
        return tuple(dict.fromkeys(tally for m in self.measurements if m.compares_pods for tally in m.tallies))

    @property
    def live_epochs(self) -> tuple[int, ...]:
        """The epochs in which something may still end, and those that may begin before anybody is told of them."""
        begun = sorted(self.epochs, key=lambda epoch: self.epochs[epoch].began)
        ends = [self.epochs[epoch].began for epoch in begun[1:]]
        over = {epoch for epoch, end in zip(begun, ends, strict=False) if self.until - end > LATEST}
        ahead = {(begun[-1] + step) % EPOCHS for step in range(1, AHEAD + 1)} if begun else set(range(EPOCHS))
        return tuple(sorted((set(begun) - over) | ahead))


def name_of(revision: str, attempt: int) -> str:
    """How a trial is called in its evidence."""
    return f"{revision}@{attempt}"


def nothing_yet(measurement: Measurement) -> MetricEvidence:
    """The tests of a metric before its first request."""
    return MetricEvidence(measurement.parameters)


def no_noise_yet(measurement: Measurement) -> Noise:
    """The stable's pods among themselves before their first request."""
    return Noise(measurement.parameters)


def begin_epoch(state: TrialState, epoch: int, weight: int, now: datetime) -> TrialState:
    """Let the label's value `epoch` mean a new period from now on; what was open of the old one is closed first."""
    evidence = state.evidence
    if epoch in state.epochs:
        evidence = copy.deepcopy(evidence)
        for metric in evidence:
            metric.close_epoch(epoch)
    kept = {e: told for e, told in state.epochs.items() if e != epoch}
    before = dict(state.arrived_before) | ({state.newest: state.arrived} if state.newest is not None else {})
    before.pop(epoch, None)
    epochs = kept | {epoch: Epoch(now, weight)}
    return replace(state, evidence=evidence, epochs=epochs, arrived=(0, 0), lately=(), arrived_before=before)


# JSON ------------------------------------------------------------------------------------------------------------


def to_json(state: TrialState) -> dict[str, Any]:
    """The inverse of `from_json`; bounded by the number of metrics and boundaries."""
    return {
        "version": VERSION,
        "trial": state.trial,
        "against": state.against,
        "since": state.since.isoformat(),
        "until": state.until.isoformat(),
        "epochs": {str(e): [told.began.isoformat(), told.weight] for e, told in sorted(state.epochs.items())},
        "measurements": [measurement_to_json(m) for m in state.measurements],
        "evidence": [e.state() for e in state.evidence],
        "noise": [n.state() for n in state.noise],
        "requestsPerSecond": state.requests_per_second,
        "settleSeconds": state.settle_seconds,
        "blankSeconds": state.blank_seconds,
        "youngSeconds": state.young_seconds,
        "unseen": state.unseen,
        "seenAt": state.seen_at.isoformat() if state.seen_at else None,
        "arrivals": tally_to_json(state.arrivals) if state.arrivals else None,
        "arrived": list(state.arrived),
        "lately": [[end.isoformat(), came] for end, came in state.lately],
        "arrivedBefore": {str(epoch): list(sides) for epoch, sides in sorted(state.arrived_before.items())},
        "ended": tally_to_json(state.ended) if state.ended else None,
        "inProgress": {str(epoch): list(sides) for epoch, sides in sorted(state.in_progress.items())},
        "crowdedSince": state.crowded_since.isoformat() if state.crowded_since else None,
        "sliceSeconds": state.slice_seconds,
        "throughputs": [
            {"name": t.name, "tokens": tally_to_json(t.tokens), "milliseconds": tally_to_json(t.milliseconds)}
            for t in state.throughputs
        ],
        "generated": [list(sums) for sums in state.generated],
    }


def from_json(data: Mapping[str, Any]) -> TrialState:
    """Read what `to_json` wrote.

    Raises:
        RecordError: it is damaged, or of another version.
    """
    if data.get("version") != VERSION:
        raise RecordError("The state of the evidence is of another version; the trial is begun anew.")
    try:
        measurements = tuple(measurement_from_json(m) for m in data["measurements"])
        evidence = tuple(MetricEvidence(m.parameters) for m in measurements)
        for metric, kept in zip(evidence, data["evidence"], strict=True):
            metric.restore(kept)
        canary, stable = data.get("arrived", (0, 0))
        return TrialState(
            trial=str(data["trial"]),
            since=datetime.fromisoformat(data["since"]),
            until=datetime.fromisoformat(data["until"]),
            measurements=measurements,
            evidence=evidence,
            noise=_noise(measurements, data.get("noise")),
            epochs={
                int(e): Epoch(datetime.fromisoformat(began), int(weight))
                for e, (began, weight) in data["epochs"].items()
            },
            requests_per_second=float(data["requestsPerSecond"]),
            settle_seconds=float(data["settleSeconds"]),
            blank_seconds=float(data["blankSeconds"]),
            # What came later must be read without, or an upgrade would begin every trial anew.
            against=str(data.get("against", "")),
            young_seconds=float(data.get("youngSeconds", 0.0)),
            unseen=float(data["unseen"]),
            seen_at=datetime.fromisoformat(data["seenAt"]) if data["seenAt"] else None,
            arrivals=tally_from_json(data["arrivals"]) if data.get("arrivals") else None,
            arrived=(int(canary), int(stable)),
            lately=tuple((datetime.fromisoformat(end), int(came)) for end, came in data.get("lately", ())),
            arrived_before=_by_epoch(data.get("arrivedBefore", {})),
            ended=tally_from_json(data["ended"]) if data.get("ended") else None,
            in_progress=_by_epoch(data.get("inProgress", {})),
            crowded_since=datetime.fromisoformat(data["crowdedSince"]) if data.get("crowdedSince") else None,
            slice_seconds=float(data.get("sliceSeconds", 15.0)),
            throughputs=tuple(
                Throughput(str(t["name"]), tally_from_json(t["tokens"]), tally_from_json(t["milliseconds"]))
                for t in data.get("throughputs", ())
            ),
            generated=tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in data.get("generated", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"The state of the evidence cannot be read ({error}); the trial is begun anew.") from error


def _by_epoch(kept: Mapping[str, Sequence[int]]) -> dict[int, tuple[int, int]]:
    return {int(epoch): (int(canary), int(stable)) for epoch, (canary, stable) in kept.items()}


def _noise(measurements: Sequence[Measurement], kept: Sequence[Mapping[str, Any]] | None) -> tuple[Noise, ...]:
    if kept is None:
        return tuple(map(no_noise_yet, measurements))
    return tuple(Noise.from_state(m.parameters, each) for m, each in zip(measurements, kept, strict=True))
