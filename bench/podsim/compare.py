"""Tests of one trial's series: the plain histograms, or by load bucket with the margin as times. Called by `tables`.

The arithmetic is the benchmark's compiled form of `serin.evidence` (`bench.decision.kernel`), because thousands of
trials are played; `tests/unit/bench/test_podsim.py` compares it with `ConditionalTest` on the same series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bench.decision.kernel import (
    Floats,
    Ints,
    add,
    compiled,
    log_e,
    log_sum,
    new_open,
    new_test,
    parameters,
    proof,
    take_in,
)
from bench.podsim.trial import BUCKETS, LOADS, SCRAPE, Series
from serin.evidence import conditional
from serin.evidence.boundaries import boundaries
from serin.evidence.metric import MarginOf, MetricParameters
from serin.evidence.noise import Noise
from serin.evidence.pods_at_load import PodsAtLoad
from serin.evidence.slices import Counts

MARGIN = 1.25
DELTA = 0.005
"""Absolute tolerance of the proof."""
SETTLE_AT_LEAST = 30.0
LOG_ODDS = np.log(np.array([0.2, 0.4, 0.6, 0.8, 0.9]))
"""Alternatives of the proof by load that compares odds: the canary's as shares of the tolerated ones."""
LARGEST_SUPPORT = 2_000


@dataclass(frozen=True)
class Verdict:
    """What the comparison says at the end of the trial."""

    rolled_back: float | None
    """Seconds after the beginning; None: it was not."""
    proven: bool
    """Whether the canary was shown to be no worse, at every boundary, at the end."""
    noisy: bool
    """Whether the stable's pods were found to differ among themselves."""
    overlap: float
    """Share of the canary's requests that had a counterpart of the stable in their stratum, 0 to 1."""


@dataclass(frozen=True)
class _Cells:
    """Both sides' requests by slice and stratum, in the order of the slices; one number per cell."""

    slice: Ints
    stratum: Ints
    """0 and up; `epoch_of` gives its epoch."""
    epoch_of: Ints
    n1: Ints
    n0: Ints
    group: Ints
    """By row of the series, its cell."""

    def canary(self, series: Series, bad: Ints) -> Ints:
        """The canary's part of a number per row."""
        return np.bincount(self.group, bad * series.canary, len(self.n1)).astype(np.int64)

    def stable(self, series: Series, bad: Ints) -> Ints:
        """The stable's part of a number per row."""
        return np.bincount(self.group, bad * (1 - series.canary), len(self.n0)).astype(np.int64)


def plain(series: Series, alpha: float = 0.01) -> Verdict:
    """Loads mixed, each boundary a bucket of the histogram, the margin as odds."""
    bounds = BUCKETS[series.scenario.metric]
    cuts = boundaries(dict(zip((*bounds, math.inf), series.baseline, strict=True)))
    above = np.stack([series.requests - series.within[:, bounds.index(cut)] for cut in cuts], axis=1)
    test = parameters(alpha / len(cuts), MARGIN, 0.5)
    cells = _cells(series, series.epoch)
    judged = _judge(series, cells, above, above, test, rho=1.25, at_load=False)
    return replace(judged, noisy=_noise(series, above, MetricParameters(alpha, MARGIN, 1.25, DELTA, cuts)))


def by_load(series: Series, alpha: float = 0.01) -> Verdict:
    """Strata by epoch, cached and load; a canary request is bad above MARGIN times b, a stable one above b."""
    test = parameters(alpha / len(series.boundaries), 1.0, 0.5)
    at = 1 + series.scenario.times.index(MARGIN)
    cells = _cells(series, series.stratum)
    judged = _judge(series, cells, series.above[:, at], series.above[:, 0], test, rho=1.0, at_load=True)
    return replace(judged, noisy=noisy_by_load(series, alpha))


def _cells(series: Series, stratum: Ints) -> _Cells:
    values, numbered = np.unique(stratum, return_inverse=True)
    epochs = np.zeros(len(values), dtype=np.int64)
    epochs[numbered] = series.epoch
    keys, group = np.unique(series.slice * len(values) + numbered, return_inverse=True)
    n1 = np.bincount(group, series.requests * series.canary, len(keys)).astype(np.int64)
    n0 = np.bincount(group, series.requests * (1 - series.canary), len(keys)).astype(np.int64)
    return _Cells(keys // len(values), keys % len(values), epochs, n1, n0, group)


def _judge(
    series: Series, cells: _Cells, canary: Ints, stable: Ints, test: Floats, *, rho: float, at_load: bool
) -> Verdict:
    """One test and one proof per boundary; `canary` and `stable` are what is bad there, by row and boundary.

    `at_load`: the proof is the mean of two (decision-engine.md, section 3), and leaves out requests of the canary
    without a counterpart: no request of the stable met that load.
    """
    began = np.array([begin for begin, _ in series.scenario.steps], dtype=float)[cells.epoch_of]
    young = conditional.young_seconds(series.answer_q90, SCRAPE)
    settle = max(SETTLE_AT_LEAST, series.answer_q999)
    rolled, proven = [], True
    for bound in range(canary.shape[1]):
        x1, x0 = cells.canary(series, canary[:, bound]), cells.stable(series, stable[:, bound])
        at, log_proof, _ = run(
            cells.slice, cells.stratum, began, cells.n1, x1, cells.n0, x0, test, young, settle, rho, DELTA, at_load
        )
        if at >= 0:
            rolled.append((at + 1) * SCRAPE)
        proven &= log_proof >= math.log(20)
    both = np.bincount(cells.stratum, cells.n0, len(cells.epoch_of)) > 0
    total = max(1, int(cells.n1.sum()))
    return Verdict(
        min(rolled, default=None), proven, noisy=False, overlap=float(cells.n1[both[cells.stratum]].sum()) / total
    )


@compiled
def run(
    slices: Ints,
    stratum: Ints,
    began: Floats,
    n1: Ints,
    x1: Ints,
    n0: Ints,
    x0: Ints,
    par: Floats,
    young: float,
    settle: float,
    rho: float,
    delta: float,
    at_load: bool,
) -> tuple[int, float, float]:
    """The slice of the rollback (-1: none), ln of the proof's e-value at the end, and log E then.

    `began` are the seconds at which the epoch of each stratum began; for `at_load` see `_judge`.
    """
    test, strata, closed = new_test(), new_open(len(began)), np.zeros(4, dtype=np.int64)
    logs, pools = np.full(8, -math.log(8.0)), np.zeros((len(began), 4), dtype=np.int64)
    odds = np.full(len(LOG_ODDS), -math.log(len(LOG_ODDS)))
    rolled, cell, nothing = -1, 0, np.zeros(4, dtype=np.int64)
    touched, more = np.full(len(began), -1, dtype=np.int64), np.zeros(4, dtype=np.int64)
    while cell < len(slices):
        now = slices[cell]
        end = (now + 1) * SCRAPE
        while cell < len(slices) and slices[cell] == now:
            k = stratum[cell]
            still_young = end - SCRAPE - began[k] < young
            add(test, par, strata, closed, n1[cell], x1[cell], n0[cell], x0[cell], end, k, still_young)
            if end - began[k] >= settle:
                more[0], more[1], more[2], more[3] = n1[cell], x1[cell], n0[cell], x0[cell]
                _pool(logs, odds, pools[k], more, par[3], rho, delta)
                touched[k] = now
            cell += 1
        for k in range(len(began)):
            if touched[k] != now:
                _pool(logs, odds, pools[k], nothing, par[3], rho, delta)
        if test[8] > 0 and rolled < 0:
            rolled = now
    if at_load:
        shown = math.log(0.5) + log_sum(np.array([log_sum(logs), log_sum(odds)]))
    else:
        shown = proof(logs, pools, par[3], delta)
    return rolled, shown, log_e(test)


@compiled
def _pool(logs: Floats, odds: Floats, pool: Ints, more: Ints, least: float, rho: float, delta: float) -> None:
    """Add counts to a pool; a full one joins both proofs one slice later, as `bench.decision.kernel.prove` has it."""
    full, stays = min(pool[0], pool[2]) >= least, min(more[0], more[2]) >= least
    if full and not stays:
        pool += more
    if full:
        _odds(odds, pool)
        take_in(logs, pool, rho, delta)
    if stays or not full:
        pool += more


@compiled
def _odds(odds: Floats, pool: Ints) -> None:
    """Add a pool to the exact proof: the canary's odds as shares of the stable's, given the sum of bad requests."""
    n1, x1, n0, bad = pool[0], pool[1], pool[2], pool[1] + pool[3]
    low, high = max(0, bad - n0), min(n1, bad)
    if low == high or high - low >= LARGEST_SUPPORT:
        return
    law = np.zeros(high - low + 1)
    for i in range(1, len(law)):
        j = low + i
        law[i] = law[i - 1] + math.log((n1 - j + 1.0) * (bad - j + 1.0) / (j * (n0 - bad + j * 1.0)))
    total = log_sum(law)
    for k in range(len(odds)):
        odds[k] += x1 * LOG_ODDS[k] - (log_sum(law + np.arange(low, high + 1) * LOG_ODDS[k]) - total)


def _noise(series: Series, above: Ints, pinned: MetricParameters) -> bool:
    """Today's rule: `serin.evidence.noise` over the stable's pods, loads mixed."""
    noise = Noise(pinned)
    stable = np.flatnonzero(series.canary == 0)
    begins = np.flatnonzero(np.diff(series.slice[stable], prepend=-1))
    for chosen in np.split(stable, begins[1:]):
        by_pod: dict[str, list[Counts]] = {}
        for pod in np.unique(series.pod[chosen]):
            rows = chosen[series.pod[chosen] == pod]
            n = int(series.requests[rows].sum())
            by_pod[str(pod)] = [Counts(n, int(bad)) for bad in above[rows].sum(axis=0)]
        noise = noise.add(by_pod, SCRAPE)
    return noise.noisy


def noisy_by_load(series: Series, alpha: float = 0.01) -> bool:
    """The operator's rule at equal load: whether a pod of the stable differs for long from what its load explains."""
    bounds = tuple(series.boundaries.tolist())
    pods = PodsAtLoad(MetricParameters(alpha, MARGIN, MARGIN, DELTA, bounds, margin_of=MarginOf.TIMES))
    stable = np.flatnonzero(series.canary == 0)
    begins = np.flatnonzero(np.diff(series.slice[stable], prepend=-1))
    for chosen in np.split(stable, begins[1:]):
        by_pod: dict[str, dict[int, list[Counts]]] = {}
        for row in chosen:
            cells, cell = (
                by_pod.setdefault(str(series.pod[row]), {}),
                int(series.cached[row]) * LOADS + int(series.load[row]),
            )
            n = int(series.requests[row])
            more = [Counts(n, int(bad)) for bad in series.above[row, 0]]
            cells[cell] = [had + one for had, one in zip(cells[cell], more, strict=True)] if cell in cells else more
        pods = pods.add(by_pod, SCRAPE)
    return pods.noisy
