"""The trial state cannot be changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest

from serin.analysis.counts import Baseline
from serin.analysis.presets import DEFAULT_SERIES, measurements, throughputs
from serin.analysis.stored_state import to_json
from serin.analysis.trial_state import MetricState, ThroughputState, begin_epoch
from serin.api.analysis import Analysis
from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import ConditionalTest
from serin.evidence.frozen_map import FrozenMap
from serin.evidence.metric import Comparison
from serin.evidence.noise import Dispersion
from tests.unit.analysis.trial_states import (
    BOTH,
    ERRORS,
    LIMIT,
    SLICE,
    THROUGHPUT,
    after,
    fresh,
    grown,
)
from tests.unit.rollout.cases import MINUTE, NOON, A
from tests.unit.rollout.worlds import REQUESTS


def test_state_is_the_same_after_advance_and_begin_epoch() -> None:
    state = after(fresh(), grown(BOTH))
    before, written = hash(state), to_json(state)
    processes = {REQUESTS: {"a": {(A, 1, "ok"): 90}, "b": {(A, 1, "ok"): 100}}}
    changed = after(state, replace(grown(BOTH, begin=NOON + SLICE), by_process=processes))
    reused = begin_epoch(state, 1, 900, NOON + MINUTE)
    assert len({state, changed, reused}) == 3
    assert (hash(state), to_json(state)) == (before, written)


def parts_of(value: Any) -> Iterator[Any]:
    """A value and everything in it."""
    yield value
    inside: Iterable[Any] = value if isinstance(value, tuple) else ()
    if is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inside = value.values()
    for part in inside:
        yield from parts_of(part)


def test_no_part_of_the_state_can_be_changed() -> None:
    analysis = Analysis.model_validate({"metrics": [ERRORS, LIMIT, THROUGHPUT]})
    pinned = measurements(analysis, DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True)
    processes = {REQUESTS: {"a": {(A, 1, "ok"): 90}, "b": {(A, 1, "ok"): 100}}}
    state = after(
        fresh(
            metrics=tuple(map(MetricState.begin, pinned)),
            throughputs=tuple(map(ThroughputState, throughputs(analysis, DEFAULT_SERIES))),
        ),
        replace(grown(BOTH), by_process=processes),
    )
    parts = list(parts_of(state))
    assert {Comparison, CeilingTest, Dispersion, ConditionalTest, FrozenMap} <= set(map(type, parts))
    for part in parts:
        assert not isinstance(part, list | dict | set)
        for field in fields(part) if is_dataclass(part) else ():
            with pytest.raises(FrozenInstanceError):
                setattr(part, field.name, getattr(part, field.name))
        if isinstance(part, FrozenMap):
            with pytest.raises(TypeError):
                part["key"] = 1  # type: ignore[index]
