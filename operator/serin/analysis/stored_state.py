"""The trial state as JSON: what the ConfigMap of a trial holds (`serin.manifests.evidence_map`).

`StoredTrial` names and checks every key; the tests of `serin.evidence` bring their own `state` and `from_state`. Keys
keep their names and meanings: version 0.1 wrote most of them, and an upgrade or a downgrade of the operator continues a
running trial. New keys need a default, and unknown keys are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import astuple, fields, is_dataclass, replace
from datetime import datetime
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel

from serin.analysis.counts import EPOCHS, Tally
from serin.analysis.measurement import AtLoad, Generated, How, Measurement, Throughput
from serin.analysis.scraped import NOTHING_SCRAPED, LeftOut, Scraped
from serin.analysis.trial_state import MOST_NEWEST, Arrived, Epoch, MetricState, ThroughputState, TrialState, noise_of
from serin.errors import RecordError
from serin.evidence import stored
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.left import NOBODY_LEFT, LeftTest
from serin.evidence.lost import MANY_LOST, NOTHING_LOST, LostTest
from serin.evidence.metric import MarginOf, MetricParameters, MetricTests
from serin.evidence.noise import Noise
from serin.evidence.pods_at_load import PodsAtLoad
from serin.evidence.slices import NO_REQUESTS, PSI, RequestsBySide

VERSION = 1
MOST_METRICS = 64
"""Largest number of metrics; the API allows 16."""

Value = TypeVar("Value")


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return moment


def _epoch(value: Any) -> Epoch:
    began, weight = value
    return Epoch(_moment(began), stored.whole(weight))


def _arrived(value: Any) -> Arrived:
    end, requests = value
    return Arrived(_moment(end), stored.whole(requests))


def _written_arrived(arrived: Arrived) -> list[Any]:
    # Version 0.1 reads pairs only; the canary's part has its own key.
    return [arrived.end.isoformat(), arrived.requests]


def _scraped(value: Any) -> Scraped:
    def samples(side: str) -> FrozenMap[str, datetime]:
        return FrozenMap({str(process): _moment(at) for process, at in value[side].items()})

    def left_out(written: Any) -> LeftOut:
        until, requests = written
        return LeftOut(_moment(until), stored.by_side(requests))

    return Scraped(samples("canary"), samples("stable"), _by_epoch(left_out)(value["leftOut"]))


def _written_scraped(scraped: Scraped) -> dict[str, Any]:
    return {
        **{
            side: {process: at.isoformat() for process, at in sorted(samples.items())}
            for side, samples in (("canary", scraped.canary), ("stable", scraped.stable))
        },
        "leftOut": {
            str(epoch): [left.until.isoformat(), _written(left.requests)]
            for epoch, left in sorted(scraped.left_out.items())
        },
    }


def _lost(value: Any) -> LostTest:
    logs, since, arrived, expected, lost = value
    return LostTest(
        stored.logs(logs, like=MANY_LOST),
        stored.finite(since),
        stored.by_side(arrived),
        stored.finite(expected),
        stored.finite(lost),
    )


def _left(value: Any) -> LeftTest:
    more, fewer, totals, since, period = value
    begun = NOBODY_LEFT
    return LeftTest(
        replace(begun.more, logs=stored.logs(more, like=PSI)),
        replace(begun.fewer, logs=stored.logs(fewer, like=PSI)),
        stored.totals(totals),
        stored.finite(since),
        stored.totals(period),
    )


def _written_left(test: LeftTest) -> list[Any]:
    return [list(test.more.logs), list(test.fewer.logs), _written(test.totals), test.since, _written(test.period)]


def _by_epoch(read: Callable[[Any], Value]) -> Callable[[Any], FrozenMap[int, Value]]:
    def read_all(values: Any) -> FrozenMap[int, Value]:
        return FrozenMap({int(epoch): read(value) for epoch, value in stored.bounded(values, EPOCHS).items()})

    return read_all


def _written_by_epoch(values: Mapping[int, Any]) -> dict[str, list[Any]]:
    return {str(epoch): _written(value) for epoch, value in sorted(values.items())}


def _written(value: Any) -> list[Any]:
    """The fields of a small dataclass without their names."""
    kind: Any = type(value)
    return [_plain(getattr(value, name)) for name in _names(kind)]


def _plain(field: Any) -> Any:
    if isinstance(field, datetime):
        return field.isoformat()
    return astuple(field) if is_dataclass(field) and not isinstance(field, type) else field


Moment = Annotated[datetime, PlainValidator(_moment), PlainSerializer(datetime.isoformat)]
Number = Annotated[float, PlainValidator(stored.finite)]
Whole = Annotated[int, PlainValidator(stored.whole)]
Flag = Annotated[bool, PlainValidator(stored.flag)]
Epochs = Annotated[FrozenMap[int, Epoch], PlainValidator(_by_epoch(_epoch)), PlainSerializer(_written_by_epoch)]
BySide = Annotated[RequestsBySide, PlainValidator(stored.by_side), PlainSerializer(_written)]
BySideAndEpoch = Annotated[
    FrozenMap[int, RequestsBySide], PlainValidator(_by_epoch(stored.by_side)), PlainSerializer(_written_by_epoch)
]
ScrapedPods = Annotated[Scraped, PlainValidator(_scraped), PlainSerializer(_written_scraped)]
Arrivals = Annotated[Arrived, PlainValidator(_arrived), PlainSerializer(_written_arrived)]
Lost = Annotated[LostTest, PlainValidator(_lost), PlainSerializer(_written)]
Left = Annotated[LeftTest, PlainValidator(_left), PlainSerializer(_written_left)]
TestState = dict[str, Any]
"""What `state` of a test wrote."""


class _Stored(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class StoredMeasurement(_Stored):
    """A measurement, with the parameters of its tests beside its own fields."""

    name: str
    how: How
    total: Tally
    bad: Tally | None
    required: Flag
    unit: str
    alpha: Number
    margin: Number
    ratio: Number
    absolute: Number
    boundaries: Annotated[tuple[Number, ...], Field(max_length=MOST_METRICS)]
    ceiling: Number | None
    # States of earlier releases lack the fields below.
    margin_of: MarginOf = MarginOf.RATES
    at_load: AtLoad | None = None
    demoted: Flag = False
    # Version 0.1 wrote none of the fields below.
    all_answers: Flag = False
    rejects: Flag = True
    steers: Flag = True
    young_seconds: Number | None = None
    settle_seconds: Number | None = None
    stratum_seconds: Number = 0.0
    described: Annotated[str, Field(max_length=256)] = ""
    check: Annotated[str, Field(max_length=32_768)] = ""

    @classmethod
    def of(cls, measurement: Measurement) -> StoredMeasurement:
        """The JSON form of a measurement."""
        return cls.model_construct(**_fields(measurement, cls), **_fields(measurement.parameters, cls))

    def measurement(self) -> Measurement:
        """The measurement that was stored."""
        parameters = {name: getattr(self, name) for name in _names(MetricParameters)}
        own = {name: getattr(self, name) for name in _names(Measurement) if name != "parameters"}
        return Measurement(**own, parameters=MetricParameters(**parameters))


class StoredTrial(_Stored):
    """A trial state. `measurements`, `evidence` and `noise` are parallel, as are `throughputs` and `generated`."""

    trial: str
    since: Moment
    until: Moment
    measurements: Annotated[tuple[StoredMeasurement, ...], Field(max_length=MOST_METRICS)]
    evidence: tuple[TestState, ...]
    noise: tuple[TestState, ...] | None = None
    epochs: Epochs
    requests_per_second: Number
    settle_seconds: Number
    blank_seconds: Number
    # States of earlier releases lack the fields below. They are accepted, or an upgrade would restart every trial.
    against: str = ""
    young_seconds: Number = 0.0
    unseen: Number
    """`TrialState.expected_without_sample`."""
    seen_at: Moment | None
    """`TrialState.canary_sample_at`."""
    arrivals: Tally | None = None
    arrived: BySide = NO_REQUESTS
    lately: Annotated[tuple[Arrivals, ...], Field(max_length=MOST_NEWEST)] = ()
    """`TrialState.newest_arrivals`, without `Arrived.canary`."""
    lately_at_canary: Annotated[tuple[Whole, ...], Field(max_length=MOST_NEWEST)] = ()
    """`Arrived.canary` of each of them; empty if version 0.1 wrote the state."""
    lately_sampled: Annotated[tuple[tuple[Moment | None, Moment | None], ...], Field(max_length=MOST_NEWEST)] = ()
    """`Arrived.canary_sampled` and `stable_sampled` of each of them; empty if version 0.1 wrote the state."""
    arrived_before: BySideAndEpoch = EMPTY
    scraped: ScrapedPods = NOTHING_SCRAPED
    ended: Tally | None = None
    in_progress: BySideAndEpoch = EMPTY
    crowded_since: Moment | None = None
    slice_seconds: Number = 15.0
    lost: Lost = NOTHING_LOST
    expected_without_arrival: Number = 0.0
    canary_arrival_at: Moment | None = None
    left: Left = NOBODY_LEFT
    sticky: Flag = False
    loss_tolerance: Number = 0.1
    throughputs: Annotated[tuple[Throughput, ...], Field(max_length=MOST_METRICS)] = ()
    generated: tuple[tuple[Whole, Whole, Whole, Whole], ...] = ()
    """Milliseconds and tokens of the canary, and of the stable."""


def to_json(state: TrialState) -> dict[str, Any]:
    """The JSON form of a trial state; its size is bounded by the numbers of metrics, boundaries and epochs."""
    document = StoredTrial.model_construct(
        **_fields(state, StoredTrial, but={"throughputs"}),
        measurements=tuple(StoredMeasurement.of(metric.measurement) for metric in state.metrics),
        evidence=tuple(metric.tests.state() for metric in state.metrics),
        noise=tuple(metric.noise.state() for metric in state.metrics),
        unseen=state.expected_without_sample,
        seen_at=state.canary_sample_at,
        lately=state.newest_arrivals,
        lately_at_canary=tuple(each.canary for each in state.newest_arrivals),
        lately_sampled=tuple((each.canary_sampled, each.stable_sampled) for each in state.newest_arrivals),
        throughputs=tuple(each.throughput for each in state.throughputs),
        generated=tuple((*astuple(each.canary), *astuple(each.stable)) for each in state.throughputs),
    )
    return {"version": VERSION, **document.model_dump(mode="json", by_alias=True)}


def from_json(data: Mapping[str, Any]) -> TrialState:
    """The trial state that `to_json` wrote.

    Raises:
        RecordError: it is damaged, or has another version.
    """
    if data.get("version") != VERSION:
        raise RecordError("The stored trial state has another version. The trial starts again.")
    try:
        document = StoredTrial.model_validate(data)
        return TrialState(
            **_fields(document, TrialState, but={"throughputs"}),
            metrics=tuple(_metrics(document)),
            expected_without_sample=document.unseen,
            canary_sample_at=document.seen_at,
            newest_arrivals=tuple(_newest_arrivals(document)),
            throughputs=tuple(
                ThroughputState(throughput, Generated(ms1, tokens1), Generated(ms0, tokens0))
                for throughput, (ms1, tokens1, ms0, tokens0) in zip(
                    document.throughputs, document.generated, strict=True
                )
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"The stored trial state is damaged ({_cause(error)}). The trial starts again.") from error


def _newest_arrivals(document: StoredTrial) -> list[Arrived]:
    at_canary = document.lately_at_canary or (0,) * len(document.lately)
    sampled = document.lately_sampled or ((None, None),) * len(document.lately)
    return [
        replace(each, canary=canary, canary_sampled=of_canary, stable_sampled=of_stable)
        for each, canary, (of_canary, of_stable) in zip(document.lately, at_canary, sampled, strict=True)
    ]


def _metrics(document: StoredTrial) -> list[MetricState]:
    measurements = [each.measurement() for each in document.measurements]
    noise = document.noise
    return [
        MetricState(
            measurement,
            MetricTests.from_state(measurement.parameters, tests),
            _noise(measurement, pods),
        )
        for measurement, tests, pods in zip(
            measurements, document.evidence, (None,) * len(measurements) if noise is None else noise, strict=True
        )
    ]


def _noise(measurement: Measurement, state: TestState | None) -> Noise | PodsAtLoad:
    kind = noise_of(measurement)
    return kind.from_state(measurement.parameters, state) if state else kind(measurement.parameters)


def _cause(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error).removesuffix(".")
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"


def _fields(source: object, target: type, *, but: Collection[str] = ()) -> dict[str, Any]:
    """The values of `source` for the fields that both have."""
    kind: Any = type(source)
    return {name: getattr(source, name) for name in _common_names(kind, target) if name not in but}


@cache
def _common_names(one: Any, other: Any) -> tuple[str, ...]:
    return tuple(name for name in _names(one) if name in _names(other))


@cache
def _names(of: Any) -> tuple[str, ...]:
    return tuple(of.model_fields) if issubclass(of, BaseModel) else tuple(field.name for field in fields(of))
