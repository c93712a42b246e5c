"""Measurements and intervals for the tests of what is read and of what it is counted as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serin.analysis.counts import Baseline, Interval, Names, Point, Tally
from serin.analysis.measurement import Measurement
from serin.analysis.presets import (
    DEFAULT_SERIES,
    measurements,
    throughputs,
)
from serin.api.analysis import Analysis
from tests.unit.rollout.cases import NOON

OUTCOMES = Tally("serin_requests_total", by="outcome")
CODES = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)
RATIO = {"ratio": {"bad": "my_bad_total", "total": "my_total"}}
TTFT = Tally("serin_time_to_first_token_seconds_bucket", by="le")
ANSWERS = Tally("serin_e2e_request_latency_seconds_bucket", by="le")
NOTHING = Baseline(NOON, 0.0)
SPEED = {"name": "speed", "preset": "Throughput", "mode": "Advisory"}
SEEN = Baseline(NOON, 10.0, {TTFT: {"0.1": 40, "0.5": 80, "1.0": 99, "2.0": 100, "+Inf": 100}})


def made(
    *metrics: Mapping[str, Any],
    baseline: Baseline = NOTHING,
    measured: bool = True,
    at_load: bool = False,
    same_pods: bool = False,
) -> tuple[Measurement, ...]:
    analysis = Analysis.model_validate({"metrics": list(metrics)} if metrics else {})
    return measurements(analysis, DEFAULT_SERIES, baseline, measured=measured, at_load=at_load, same_pods=same_pods)


def throughput_tallies() -> tuple[Tally, ...]:
    analysis = Analysis.model_validate({"metrics": [{"name": "e", "preset": "ErrorRate"}, SPEED]})
    (speed,) = throughputs(analysis, DEFAULT_SERIES)
    return speed.tallies


def one(metric: Mapping[str, Any], **facts: Any) -> Measurement:
    return made({"name": "m"} | metric, **facts)[0]


def interval(tally: Tally, points: Mapping[Point, int], **more: Any) -> Interval:
    return Interval(NOON, NOON, {tally: points} | more)
