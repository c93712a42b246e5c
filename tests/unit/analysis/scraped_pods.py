"""Trials of which only the arrivals are played: requests, pods, their scrapes, and the reads of the collector."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from serin.analysis.counts import Interval, Point
from serin.analysis.presets import DEFAULT_SERIES, arrivals
from serin.analysis.scraped import StablePods
from serin.analysis.trial_state import Epoch, TrialState
from serin.analysis.update import advance
from serin.api.names import FULL_WEIGHT
from serin.evidence.slices import RequestsBySide
from tests.unit.rollout.cases import GOOD, NOON, A, B, make_evidence

Floats = npt.NDArray[np.floating]
STARTED = arrivals(DEFAULT_SERIES, measured=True)
READ_SECONDS = 5.0
RESTART_SECONDS = 20.0


@dataclass(frozen=True)
class Traffic:
    """What happens in one epoch."""

    rps: float = 200.0
    weight: float = 0.5
    scrape: float = 15.0
    scrapes: int = 20
    kept: float = 1.0
    """The share of the canary's requests that arrives."""
    pods: tuple[int, int] = (1, 2)
    """Of the canary and of the stable."""
    scrape_fails: float = 0.0
    """The share of scrapes that fail."""
    bursts: bool = False
    """Whether the traffic is 20 times as much for half a minute now and then."""
    restart: float | None = None
    """When a pod of the canary restarts."""
    joins: float | None = None
    """When one more pod of the stable begins to serve."""
    leaves: float | None = None
    """When a pod of the stable is deleted; what it got since its last sample is in no sample."""
    lists_pods: bool = True
    """Whether the stable's pods are known, and not only their samples."""


@dataclass
class Pod:
    """One pod, with what its samples show."""

    side: str
    name: str
    samples: list[float]
    """Times of its samples."""
    shown: npt.NDArray[np.int64]
    """Its arrivals until each of them."""
    ready: tuple[float, float] = (-math.inf, math.inf)
    """From when until when it serves."""
    counted: int = field(default=0)


def states(traffic: Traffic, gen: np.random.Generator) -> Iterator[TrialState]:
    """The state after each read."""
    pods = list(_pods(traffic, gen))
    state = make_evidence(
        GOOD, arrivals=STARTED, since=NOON, until=NOON, epochs={1: Epoch(NOON, round(traffic.weight * FULL_WEIGHT))},
        arrived=RequestsBySide(), metrics=(), slice_seconds=traffic.scrape,
    )  # fmt: skip
    begin, now = 0, READ_SECONDS * gen.random()
    while now < traffic.scrapes * traffic.scrape:
        now += READ_SECONDS
        end = _until(pods, now, traffic.scrape)
        if end > begin:
            intervals = [_interval(pods, begin, end, traffic.scrape)]
            state = advance(
                state, intervals, canary=B, stable=A, pods=_listed(pods, now) if traffic.lists_pods else None
            )
            begin = end
            yield state


def _pods(traffic: Traffic, gen: np.random.Generator) -> Iterator[Pod]:
    whole = traffic.scrapes * traffic.scrape
    at = np.sort(gen.random(gen.poisson(traffic.rps * whole)) * whole)
    if traffic.bursts:
        at = at[_in_bursts(at, whole, gen)]
    to_canary = gen.random(len(at)) < traffic.weight
    arrived = to_canary & (gen.random(len(at)) < traffic.kept)
    for side, times, count in ((B, at[arrived], traffic.pods[0]), (A, at[~to_canary], traffic.pods[1])):
        joins = traffic.joins if side == A else None
        pod_of = gen.integers(0, count, len(times))
        if joins is not None:
            pod_of = np.where(times >= joins, gen.integers(0, count + 1, len(times)), pod_of)
        if side == A and traffic.leaves is not None:
            pod_of = np.where((times >= traffic.leaves) & (pod_of == 0), 1, pod_of)
        for number in range(count + (joins is not None)):
            samples = gen.random() * traffic.scrape + traffic.scrape * np.arange(traffic.scrapes + 1)
            samples = samples[gen.random(len(samples)) >= traffic.scrape_fails]
            own = times[pod_of == number]
            ready = (-math.inf, math.inf)
            if joins is not None and number == count:
                samples, ready = samples[samples >= joins], (joins, math.inf)
            if side == A and number == 0 and traffic.leaves is not None:
                samples, ready = samples[samples < traffic.leaves], (-math.inf, traffic.leaves)
            if side == B and number == 0 and traffic.restart is not None:
                samples, own = _restarted(samples, own, traffic.restart)
            yield Pod(side, f"{side}-{number}", samples.tolist(), np.searchsorted(own, samples, side="right"), ready)


def _in_bursts(at: Floats, whole: float, gen: np.random.Generator) -> npt.NDArray[np.bool_]:
    changes = np.cumsum(gen.exponential(30.0, round(whole)))
    found: npt.NDArray[np.bool_] = (np.searchsorted(changes, at) % 2 == 0) | (gen.random(len(at)) < 0.05)
    return found


def _restarted(samples: Floats, own: Floats, down: float) -> tuple[Floats, Floats]:
    """Without the samples while the pod is down, and without the arrivals that no sample shows."""
    up = down + RESTART_SECONDS
    samples = samples[(samples < down) | (samples >= up)]
    last = samples[samples < down].max(initial=0.0)
    return samples, own[(own <= last) | (own >= up)]


def _listed(pods: list[Pod], now: float) -> StablePods:
    since = {
        pod.name: None if math.isinf(pod.ready[0]) else NOON + timedelta(seconds=pod.ready[0])
        for pod in pods
        if pod.side == A and pod.ready[0] <= now < pod.ready[1]
    }
    return StablePods(NOON + timedelta(seconds=now), since)


def _newest(pod: Pod, until: float) -> int:
    """Which sample of the pod is its newest; -1 if it has none."""
    return bisect_right(pod.samples, until) - 1


def _until(pods: list[Pod], now: float, scrape: float) -> int:
    """Where a read ends: one scrape ago, and at most one scrape after the newest sample of a pod that is not silent."""
    newest = [pod.samples[at] for pod in pods if (at := _newest(pod, now)) >= 0]
    return math.floor(min([now - scrape, *(at + scrape for at in newest if at > now - 3 * scrape)]))


def _interval(pods: list[Pod], begin: int, end: int, scrape: float) -> Interval:
    counts: dict[Point, int] = {}
    times: dict[str, dict[str, float]] = {A: {}, B: {}}
    window = max(60.0, end - begin + 2 * scrape + 5)
    for pod in pods:
        at = _newest(pod, end)
        if at < 0 or not (shown := int(pod.shown[at])):
            continue
        counts[pod.side, 1, ""] = counts.get((pod.side, 1, ""), 0) + shown - pod.counted
        pod.counted = shown
        if pod.samples[at] > end - window:
            times[pod.side][pod.name] = float(pod.samples[at])
    sampled = {
        side: {name: NOON + timedelta(seconds=each) for name, each in found.items()} for side, found in times.items()
    }
    grown = {point: count for point, count in counts.items() if count}
    assert STARTED
    return Interval(
        NOON + timedelta(seconds=begin), NOON + timedelta(seconds=end), {STARTED: grown} if grown else {},
        sampled=sampled,
    )  # fmt: skip
