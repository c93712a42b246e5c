"""The series of one trial on simulated pods: by scrape, pod and epoch. Called by `compare` and `tables`.

The canary has fewer pods than the stable, which keeps all of its own, so the load per pod differs. Each request goes to
a random pod of its side. Each pod is scraped every 15 s at a moment of its own. Series as the model server has them:
`serin_latency_requests_total` and `serin_latency_above_total` by cached, load and boundary; and the plain histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bench.decision.kernel import Floats, Ints
from bench.podsim.engine import Requests, Served, draw, mean_load, serve
from model_server.serin_model_server.metrics import LATENCY_BUCKETS, PER_TOKEN_BUCKETS, TTFT_BUCKETS

SCRAPE = 15.0
"""Seconds between two scrapes of a pod."""
BASELINE_SECONDS = 1200.0
"""How long the stable serves alone before the trial; its boundaries come from this time."""
COLD_REQUESTS = 20
"""Requests of a canary pod whose times are not counted: its caches are cold."""
LOADS = 20
"""Load buckets."""
LOW, HIGH = 0, 1
"""Of `cached`: less than half of the prompt's tokens came from the prefix cache, or at least half."""
BUCKETS = {"ttft": TTFT_BUCKETS, "tpot": PER_TOKEN_BUCKETS, "e2e": LATENCY_BUCKETS, "queue": LATENCY_BUCKETS}
QUANTILES = (0.5, 0.75, 0.9, 0.97, 0.995)
"""Of the stable's times before the trial: the boundaries by load."""
STEPS = ((0, 500), (600, 2500), (1200, 5000))
"""Seconds since the beginning, and the canary's weight in parts of 10,000."""


@dataclass(frozen=True)
class Scenario:
    """One trial: traffic, pods, and how the canary differs."""

    metric: str
    """`ttft`, `tpot`, `e2e` or `queue`."""
    per_pod: float
    """Requests per second and pod of the stable before the trial."""
    replicas: int
    steps: tuple[tuple[int, int], ...] = STEPS
    seconds: float = 3600.0
    slow: float = 1.0
    """How many times as long the canary's steps take."""
    hit: float = 0.0
    """Share of the requests whose prompt is cached (nine tenths of it)."""
    cold_seconds: float = 0.0
    """How long the canary's prefix cache takes to be as full as the stable's."""
    pods: str = "least"
    """How many pods each side has; see `pods_by_epoch`."""
    times: tuple[float, ...] = (1.25,)
    """Requests are counted above each boundary itself, and above each of these times its value."""
    loads_from: float = 1.0
    loads_ratio: float = 1.3

    @property
    def weights(self) -> Floats:
        """By epoch, the canary's share of the requests."""
        return np.array([weight for _, weight in self.steps]) / 10_000

    def pods_by_epoch(self) -> tuple[Ints, Ints]:
        """By epoch, the pods of the canary and of the stable.

        `least`: the stable keeps all of its pods, and the canary has as many as its weight needs. `sized`: the canary
        has the whole number that comes nearest to the stable's load per pod, as the operator does. `shared`: both
        together have twice the replicas, in proportion to the weight.
        """
        if self.pods == "shared":
            canary = np.maximum(1, np.round(2 * self.replicas * self.weights)).astype(np.int64)
            return canary, np.maximum(1, 2 * self.replicas - canary)
        canary = np.maximum(1, np.ceil(self.replicas * self.weights - 1e-9)).astype(np.int64)
        if self.pods == "sized":
            equal = self.replicas * self.weights / (1 - self.weights)
            below = np.clip(equal.astype(np.int64), canary, self.replicas)
            above = np.minimum(self.replicas, below + 1)
            canary = np.where(above * below < equal * equal, above, below)
        return canary, np.full(len(canary), self.replicas)


@dataclass(frozen=True)
class Series:
    """What the pods' series grew by; one number, or one line, per row. Rows are in the order of their slice.

    A row is a scrape of a pod, an epoch, and a value of `cached` and `load`. The plain histogram is the sum over these.
    """

    scenario: Scenario
    boundaries: Floats
    """Seconds, ascending: `above[:, 0]` are requests above these, `above[:, k]` above `times[k-1]` times these."""
    slice: Ints
    """Number of the scrape; it ends within `SCRAPE` seconds after (slice + 1) * SCRAPE."""
    pod: Ints
    """The canary's pods first."""
    canary: Ints
    """1: a pod of the canary; 0: of the stable."""
    epoch: Ints
    cached: Ints
    load: Ints
    requests: Ints
    above: Ints
    """By row, times and boundary: requests above it."""
    within: Ints
    """By row and bucket of the plain histogram: requests at or below its bound; the last one is +Inf."""
    baseline: Floats
    """The plain histogram of the stable before the trial, cumulative, by bucket."""
    answer_q90: float
    answer_q999: float
    """Of the durations of the stable's answers before the trial, in seconds."""

    @cached_property
    def stratum(self) -> Ints:
        """One number per epoch, cached and load."""
        return (self.epoch * 2 + self.cached) * LOADS + self.load


def load_bucket(load: Floats, start: float, ratio: float) -> Ints:
    """The bucket of each mean number of requests: 0 below `start`, then one per `ratio`."""
    steps = 1 + np.floor(np.log(np.maximum(load, start) / start) / math.log(ratio) + 1e-12)
    return np.where(load < start, 0, np.minimum(LOADS - 1, steps)).astype(np.int64)


Choice = Callable[[Floats], tuple[Sequence[float], tuple[float, ...]]]
"""From the stable's cumulative histogram before the trial: the boundaries, and the times."""


def play(scenario: Scenario, seed: int, choose: Choice | None = None) -> Series:
    """Simulate one trial; the result depends on scenario and seed only.

    Args:
        scenario: the trial.
        seed: of its randomness.
        choose: chooses the boundaries by load instead of `QUANTILES`, and the times instead of the scenario's.
    """
    s = scenario
    random = np.random.default_rng([seed, round(s.per_pod * 100), s.replicas])
    baseline, answers = _baseline(s, random)
    cumulative = _cumulative(baseline, s.metric)
    boundaries = np.unique(np.quantile(baseline, QUANTILES))
    if choose:
        chosen_boundaries, times = choose(cumulative)
        s, boundaries = replace(s, times=times), np.array(chosen_boundaries)
    requests = draw(random, s.per_pod * s.replicas, s.seconds)
    n = len(requests)
    hits = random.random(n) < s.hit
    epoch = np.searchsorted([begin for begin, _ in s.steps], requests.arrived, side="right") - 1
    to_canary = random.random(n) < s.weights[epoch]
    if s.cold_seconds:
        # The chance that the canary has seen the prompt's beginning grows until its cache is full.
        hits &= ~to_canary | (random.random(n) < requests.arrived / s.cold_seconds)
    requests = Requests(requests.arrived, requests.prompt, requests.output, np.where(hits, 0.9, 0.0))
    canary_pods, stable_pods = s.pods_by_epoch()
    rows, most = [], int(canary_pods.max())
    for canary, by_epoch, offset in ((True, canary_pods, 0), (False, stable_pods, most)):
        mine = np.flatnonzero(to_canary == canary)
        place = (random.random(len(mine)) * by_epoch[epoch[mine]]).astype(np.int64)
        for pod in range(int(by_epoch.max())):
            chosen = mine[place == pod]
            if len(chosen):
                of = _Pod(offset + pod, canary, random.random() * SCRAPE)
                rows.append(_of_pod(s, of, requests[chosen], epoch[chosen], boundaries))
    data = np.concatenate(rows)
    data = data[np.lexsort(data[:, 1::-1].T)]
    bins = len(BUCKETS[s.metric]) + 1
    return Series(
        s,
        boundaries,
        slice=data[:, 0],
        pod=data[:, 1],
        canary=data[:, 2],
        epoch=data[:, 3],
        cached=data[:, 4],
        load=data[:, 5],
        requests=data[:, 6],
        above=data[:, 7 + bins :].reshape(len(data), 1 + len(s.times), len(boundaries)),
        within=data[:, 7 : 7 + bins],
        baseline=cumulative,
        answer_q90=float(np.quantile(answers, 0.9)),
        answer_q999=float(np.quantile(answers, 0.999)),
    )


def _baseline(s: Scenario, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The stable's times of the metric and durations of answers, before the trial, over all pods."""
    times, answers = [], []
    for _ in range(s.replicas):
        requests = draw(random, s.per_pod, BASELINE_SECONDS)
        cached = np.where(random.random(len(requests)) < s.hit, 0.9, 0.0)
        requests = Requests(requests.arrived, requests.prompt, requests.output, cached)
        served = serve(requests)
        value, begin, end = _timed(s.metric, requests, served)
        times.append(value[end > begin])
        answers.append(served.ended - requests.arrived)
    return np.concatenate(times), np.concatenate(answers)


def _timed(metric: str, requests: Requests, served: Served) -> tuple[Floats, Floats, Floats]:
    """The metric of each request, and the time over which its load is taken; end = begin: the request has no value."""
    arrived, first, ended = requests.arrived, served.first, served.ended
    if metric == "ttft":
        return first - arrived, arrived, first
    if metric == "tpot":
        return (ended - first) / np.maximum(1, requests.output - 1), first, ended
    if metric == "queue":
        return served.admitted - arrived, arrived, first
    return ended - arrived, arrived, ended


def _cumulative(values: Floats, metric: str) -> Floats:
    return np.append(np.searchsorted(np.sort(values), BUCKETS[metric], side="right"), len(values)).astype(float)


@dataclass(frozen=True)
class _Pod:
    number: int
    canary: bool
    phase: float
    """Seconds after each multiple of SCRAPE at which it is scraped."""


def _of_pod(s: Scenario, pod: _Pod, requests: Requests, epoch: Ints, boundaries: Floats) -> Ints:
    """The rows of one pod, as numbers: slice, pod, canary, epoch, cached, load, requests, buckets, above."""
    canary, phase = pod.canary, pod.phase
    served = serve(requests, s.slow if canary else 1.0)
    value, begin, end = _timed(s.metric, requests, served)
    load = mean_load(requests.arrived, served.ended, begin, end)
    bucket = load_bucket(load, s.loads_from, s.loads_ratio)
    cached = (requests.cached >= 0.5).astype(np.int64)
    at = np.maximum(0, np.ceil((served.ended - phase) / SCRAPE)).astype(np.int64)
    counted = (end > begin) & (at * SCRAPE + phase <= s.seconds)
    if canary:
        counted[np.argsort(served.ended)[:COLD_REQUESTS]] = False
    value, at, epoch, cached, bucket = value[counted], at[counted], epoch[counted], cached[counted], bucket[counted]
    cuts = np.concatenate([boundaries, *(boundaries * times for times in s.times)])
    above = value[:, None] > cuts
    within = value[:, None] <= np.append(BUCKETS[s.metric], np.inf)
    key = ((at * len(s.steps) + epoch) * 2 + cached) * LOADS + bucket
    keys, group = np.unique(key, return_inverse=True)
    sums = np.zeros((len(keys), 1 + within.shape[1] + above.shape[1]), dtype=np.int64)
    np.add.at(sums, group, np.concatenate([np.ones((len(value), 1), dtype=bool), within, above], axis=1))
    load_of, rest = keys % LOADS, keys // LOADS
    cached_of, rest = rest % 2, rest // 2
    ones = np.ones(len(keys), dtype=np.int64)
    columns = (rest // len(s.steps), pod.number * ones, int(canary) * ones, rest % len(s.steps), cached_of, load_of)
    return np.concatenate([np.stack(columns, axis=1), sums], axis=1)
