"""A `World` with single requests: they arrive at random, are routed, take time, and are counted and scraped.

Its pods count like the model server's middleware, and its Prometheus is `fakes.prometheus`, so the operator's own
code reads the counters. It simulates restarts, lost scrapes and new pods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from fakes.prometheus import FakePrometheus
from fakes.world import NAME, NAMESPACE, World
from serin.analysis.trial_state import TrialState
from serin.api.names import LABEL_DEPLOYMENT, LABEL_ENGINE_REVISION, LABEL_REVISION, PORT, child_name
from serin.cluster.port import CONTROLLER_REVISION, POD
from serin.evidence.slices import Totals
from serin.rollout.snapshot import NO_ROUTE
from serin.settings import Settings

SCRAPE_SECONDS = 15.0
BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0)
"""Upper bounds of the histogram of durations, in seconds, without infinity."""
_SLOTS = len(BOUNDS) + 1
_OUTCOMES = ("ok", "server_error", "excluded", "left")
_CODES = ("200", "500", "404", "499")
"""By outcome, the response code that the gateway counts."""
SILENT = (30, 60, 120, 300, 600)
"""The times of silence that the model server counts, in seconds; the requests of this world do not stream."""
_SILENT, _BUCKETS = tuple(map(str, SILENT)), (*map(str, BOUNDS), "+Inf")
EPOCHS = 32
Numbers = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]
Durations = Callable[[np.random.Generator, npt.NDArray[np.bool_]], Times]


def ordinary(random: np.random.Generator, bad: npt.NDArray[np.bool_]) -> Times:
    """Good and bad answers take about four seconds."""
    return random.lognormal(np.log(4.0), 0.6, len(bad))


def slow_successes(random: np.random.Generator, bad: npt.NDArray[np.bool_]) -> Times:
    """Bad answers take 0.3 seconds, good ones about 30."""
    return np.where(bad, 0.3, random.normal(30.0, 3.0, len(bad)).clip(1.0))


def time_outs(random: np.random.Generator, bad: npt.NDArray[np.bool_]) -> Times:
    """Bad answers take 60 seconds, good ones about four."""
    return np.where(bad, 60.0, ordinary(random, bad))


def stalls(share: float, seconds: float) -> Durations:
    """Ordinary answers, of which a share ends after so many seconds only, or never (infinity)."""

    def durations(random: np.random.Generator, bad: npt.NDArray[np.bool_]) -> Times:
        return np.where(random.random(len(bad)) < share, seconds, ordinary(random, bad))

    return durations


@dataclass(frozen=True)
class Load:
    """Parameters of the requests, of the answers and of the failures of pods and scrapes."""

    rps: float
    durations: Durations = ordinary
    bad_rate: Callable[[float], float] = lambda _seconds: 0.01
    """Bad rate of the stable, by seconds since the start."""
    canary_durations: Durations | None = None
    """Durations of the canary's answers; None: the same as the stable's."""
    worse: float = 1.0
    """Bad rate of the canary divided by that of the stable."""
    labelled_late: bool = False
    """Whether a request is counted in the epoch in which it ends, instead of the one in which it arrived; arrivals are
    not counted then."""
    restarts_per_hour: float = 0.5
    """Mean number of restarts of each pod."""
    lost_scrapes: float = 0.02
    """Share of scrapes that fail."""
    lost_on_the_way: float = 0.0
    """Share of the canary's requests that do not reach its pods."""
    uneven: float = 1.0
    """Bad rate of the stable's first pod divided by that of its other pods."""
    excluded: tuple[float, float] = (0.0, 0.0)
    """Share of excluded answers of stable and canary; they take a tenth of a second."""
    left: tuple[float, float] = (0.0, 0.0)
    """Share of requests whose clients leave after two seconds, at stable and canary."""
    gateway: bool = False
    """Whether the gateway counts response codes, a 503 for each request that is lost on the way."""
    failing: tuple[float, float] | None = None
    """Share of the good answers of stable and canary that fail the check `format`; None: the pods make no check."""
    skipped: tuple[float, float] = (0.0, 0.0)
    """Share of the good answers of stable and canary that the check cannot judge; they are not among those above."""
    old_pods: bool = False
    """Whether pods count like those of version 0.1, without silent requests."""


@dataclass
class Process:
    """A pod's engine: its requests, its counters, and the results of its scrapes."""

    labels: dict[str, str]
    revision: str
    offset: float
    """Seconds from a multiple of the scrape interval to its scrapes."""
    store: FakePrometheus
    started: float
    began: dict[int, float] | None = None
    """By epoch, its begin; if set, a request counts in the epoch in which it ends."""
    ready: bool = False
    down_until: float = 0.0
    life: int = 0
    counts: Numbers = field(default_factory=lambda: np.zeros((EPOCHS, len(_OUTCOMES), _SLOTS), np.int64))
    arrived: Numbers = field(default_factory=lambda: np.zeros(EPOCHS, np.int64))
    """Requests that arrived, by epoch."""
    coming: list[tuple[Times, int]] = field(default_factory=list)
    """Future arrivals: their times and their epoch."""
    pending: list[tuple[Times, Numbers, Numbers]] = field(default_factory=list)
    """Requests in flight: end times, epochs, and codes that combine outcome and histogram slot."""
    silent: list[tuple[Times, Times, int]] = field(default_factory=list)
    """Requests that will be silent for 30 s or longer: begins, ends and their epoch."""
    overdue: Numbers = field(default_factory=lambda: np.zeros((2, EPOCHS, len(SILENT)), np.int64))
    """Requests that were silent for so long, and those of them that have ended, by epoch and time of silence."""
    worked_until: float = 0.0
    counts_silence: bool = True
    failing: float | None = None
    """Share of the good answers that fail the check; None: there is none."""
    skipped: float = 0.0
    """Share of the good answers that the check cannot judge."""
    shown: list[tuple[int, int, Numbers]] = field(default_factory=list)
    """By scrape: milliseconds since 1970, number of restarts, requests by epoch and outcome."""
    _series: dict[tuple[str, int, str], Callable[[int, float], None]] = field(default_factory=dict)
    _by_le: dict[tuple[str, int], list[Callable[[int, float], None]]] = field(default_factory=dict)

    def restart(self, now: float, seconds: float) -> None:
        """Restart: requests in flight and counts since the last scrape are lost."""
        self.started, self.down_until, self.life = now + seconds, now + seconds, self.life + 1
        self.counts, self.arrived = np.zeros_like(self.counts), np.zeros_like(self.arrived)
        self.overdue = np.zeros_like(self.overdue)
        self.pending.clear()
        self.coming.clear()
        self.silent.clear()

    def scrape(self, at: float, *, lost: bool) -> None:
        """One scrape by Prometheus; `lost` makes it fail."""
        self._work_until(at)
        moment = round(at * 1000)
        up = self.ready and at >= self.down_until and not lost
        self._keep("up", 0, "", moment, float(up))
        if not up:
            return
        self._keep("process_start_time_seconds", 0, "", moment, self.started)
        requests = self.counts.sum(axis=2)
        self.shown.append((moment, self.life, requests))
        # A pod that learns the epoch of a request at its end has no arrivals by epoch to show.
        for epoch in np.flatnonzero(self.arrived).tolist() if self.began is None else ():
            self._keep("serin_requests_started_total", epoch, "", moment, int(self.arrived[epoch]))
        by_outcome: list[list[int]] = requests.tolist()
        late, ended_late = self.overdue.tolist()
        cumulative = self.counts[:, 0].cumsum(axis=1).tolist()
        for epoch in np.flatnonzero(requests.sum(axis=1) + self.overdue[0].sum(axis=1)).tolist():
            for outcome, count in zip(_OUTCOMES, by_outcome[epoch], strict=True):
                if count:  # the first request creates the series
                    self._keep("serin_requests_total", epoch, outcome, moment, count)
            if self.counts_silence:
                silent = zip(late[epoch], ended_late[epoch], strict=True)
                settled = [sum(by_outcome[epoch]) + overdue - ended for overdue, ended in silent]
                self._keep_all("serin_requests_overdue_total", epoch, _SILENT, moment, late[epoch])
                self._keep_all("serin_requests_settled_total", epoch, _SILENT, moment, settled)
            if by_outcome[epoch][0] and self.failing is not None:
                skipped = int(self.skipped * by_outcome[epoch][0])
                judged = by_outcome[epoch][0] - skipped
                failed = int(self.failing * judged)
                for result, count in (("fail", failed), ("pass", judged - failed), ("skipped", skipped)):
                    self._keep("serin_checks_total", epoch, result, moment, count)
            if by_outcome[epoch][0]:
                name = "serin_e2e_request_latency_seconds_bucket"
                self._keep_all(name, epoch, _BUCKETS, moment, cumulative[epoch])

    def _work_until(self, at: float) -> None:
        kept_silent, before = [], self.worked_until
        for begins, ends, epoch in self.silent:
            since, end = begins[:, np.newaxis] + SILENT, ends[:, np.newaxis]
            late = end > since
            self.overdue[0, epoch] += (late & (since > before) & (since <= at)).sum(axis=0)
            self.overdue[1, epoch] += (late & (end > before) & (end <= at)).sum(axis=0)
            if (ends > at).any():
                kept_silent.append((begins, ends, epoch))
        self.silent, self.worked_until = kept_silent, at
        for began, epoch in self.coming:
            self.arrived[epoch] += int((began <= at).sum())
        self.coming = [(began[began > at], epoch) for began, epoch in self.coming if (began > at).any()]
        kept = []
        for ends, epochs, codes in self.pending:
            done = ends <= at
            counted = epochs[done]
            if self.began is not None:
                numbers, beginnings = list(self.began), list(self.began.values())
                counted = np.array(numbers)[np.searchsorted(beginnings, ends[done], side="right") - 1]
            flat = counted * (len(_OUTCOMES) * _SLOTS) + codes[done]
            self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
            if not done.all():
                kept.append((ends[~done], epochs[~done], codes[~done]))
        self.pending = kept

    def _keep(self, name: str, epoch: int, what: str, moment: int, value: float) -> None:
        keep = self._series.get((name, epoch, what))
        if keep is None:
            keep = self._series[name, epoch, what] = self._handle(name, epoch, what)
        keep(moment, value)

    def _keep_all(self, name: str, epoch: int, values_of_le: tuple[str, ...], moment: int, counts: list[int]) -> None:
        """One sample for each value of `le`."""
        handles = self._by_le.get((name, epoch))
        if handles is None:
            handles = self._by_le[name, epoch] = [self._handle(name, epoch, le) for le in values_of_le]
        for keep, count in zip(handles, counts, strict=True):
            keep(moment, count)

    def _handle(self, name: str, epoch: int, what: str) -> Callable[[int, float], None]:
        labels = dict(self.labels)
        if name.startswith("serin_"):
            labels |= {"revision": self.revision, "epoch": str(epoch)}
        if what:
            by_le = name.endswith(("_bucket", "_overdue_total", "_settled_total"))
            by_result = {"check": "format", "result": what} if name == "serin_checks_total" else None
            labels |= by_result or {"le" if by_le else "outcome": what}
        return self.store.handle(name, labels)


@dataclass
class GatewayCounters:
    """The gateway's counters of answers by backend and response code, and their scrapes."""

    store: FakePrometheus
    ends: dict[tuple[str, str], list[Times]] = field(default_factory=dict)
    """By backend and code, the moments of answers that are not counted yet."""
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _series: dict[tuple[str, str], Callable[[int, float], None]] = field(default_factory=dict)

    def answered(self, engine: str, code: str, ends: Times) -> None:
        """Note when requests to the Service of an engine revision end, with which code."""
        if len(ends):
            self.ends.setdefault((engine, code), []).append(ends)

    def scrape(self, since: float, until: float) -> None:
        """The scrape in `(since, until]`, if there is one: at multiples of the scrape interval."""
        at = until - until % SCRAPE_SECONDS
        if at <= since:
            return
        target = {"instance": "gateway", "job": "gateway"}
        self.store.store("up", target, round(at * 1000), 1.0)
        self.store.store("process_start_time_seconds", target, round(at * 1000), 1.0)
        for key, batches in self.ends.items():
            done = sum(int((ends <= at).sum()) for ends in batches)
            self.ends[key] = [ends[ends > at] for ends in batches if (ends > at).any()]
            self.counts[key] = self.counts.get(key, 0) + done
            if not self.counts[key]:
                continue
            if key not in self._series:
                engine, code = key
                service = Settings(identity="test").requests_backend.format(
                    namespace=NAMESPACE, service=child_name(NAME, engine), port=PORT
                )
                labels = target | {"envoy_cluster_name": service, "envoy_response_code": code}
                self._series[key] = self.store.handle("envoy_cluster_upstream_rq", labels)
            self._series[key](round(at * 1000), self.counts[key])


class Busy(World):
    """A world with single requests. Times are in seconds since 1970."""

    def __init__(self, load: Load, seed: int) -> None:
        super().__init__()
        self.load = load
        self.random = np.random.default_rng(seed)
        self.prometheus = FakePrometheus(lambda: round(self.now.timestamp() * 1000))
        self.gateway = GatewayCounters(self.prometheus)
        self.lost = 0
        """Requests that were lost on the way."""
        self.processes: dict[str, Process] = {}
        self.processes_ever: list[Process] = []
        self._engines: dict[str, str] = {}
        self._route = NO_ROUTE
        self._looked_at: int | None = None
        self._epochs: dict[int, float] = {}
        """By epoch, its latest begin, in order; used with `labelled_late` only."""
        self.first: str | None = None
        """The stable's revision: the first one that got requests."""

    def pass_time(self, seconds: float) -> None:
        """See `World`; for speed, controllers run only if the cluster has changed."""
        still = self._looked_at == self.cluster.changes and all(process.ready for process in self.processes.values())
        if not still:
            self._see_pods(self.now.timestamp())
            self._route = self.split()
        self._serve(seconds)
        self.now += timedelta(seconds=seconds)
        if not still:
            self._looked_at = self.cluster.changes
            self._run_deployments()
            self._run_pods()
            self._run_gateway()

    def _serve(self, seconds: float) -> None:
        """Create the requests and scrapes of an interval in which the route does not change."""
        now, epoch = self.now.timestamp(), self._route.epoch
        if epoch is not None:
            if next(reversed(self._epochs), None) != epoch:
                self._epochs.pop(epoch, None)
                self._epochs[epoch] = now
            for revision, weight in self._route.weights.items():
                self._arrive(revision, weight / 10_000, epoch, now, seconds)
        if self.load.gateway:
            self.gateway.scrape(now, now + seconds)
        for process in self.processes.values():
            at = now - (now - process.offset) % SCRAPE_SECONDS + SCRAPE_SECONDS
            while at <= now + seconds:
                process.scrape(at, lost=self.random.random() < self.load.lost_scrapes)
                at += SCRAPE_SECONDS
            if process.ready and self.random.random() < self.load.restarts_per_hour * seconds / 3600:
                process.restart(now + seconds, self.random.uniform(10.0, 40.0))

    def _arrive(self, revision: str, share: float, epoch: int, now: float, seconds: float) -> None:
        serving = [p for p in self.processes.values() if p.revision == revision and p.ready and now >= p.down_until]
        self.first = self.first or revision
        number = self.random.poisson(self.load.rps * seconds * share)
        side = int(revision != self.first)
        lost = self.random.binomial(number, self.load.lost_on_the_way) if side else 0
        number -= lost
        engine = next((engine for engine, of in self._engines.items() if of == revision), revision)
        self.lost += int(lost)
        if self.load.gateway:
            self.gateway.answered(engine, "503", np.full(lost, now))
        if not number or not serving:
            return
        began = now + self.random.random(number) * seconds
        rate = self.load.bad_rate(now - self.started.timestamp()) * (self.load.worse if side else 1)
        chosen = self.random.integers(len(serving), size=number)
        ill = 1.0 if side else self.load.uneven
        bad = self.random.random(number) < rate * np.where(chosen == 0, ill, 1.0)
        own = self.load.canary_durations if side else None
        took = (own or self.load.durations)(self.random, bad)
        outcomes = bad.astype(np.int64)
        if any(self.load.excluded) or any(self.load.left):
            which = self.random.random(number)
            excluded = which < self.load.excluded[side]
            left = ~excluded & (which < self.load.excluded[side] + self.load.left[side])
            outcomes[excluded], outcomes[left] = 2, 3
            took[excluded], took[left] = 0.1, np.minimum(took[left], 2.0)
        codes = outcomes * _SLOTS + np.searchsorted(BOUNDS, took)
        if self.load.gateway:
            for outcome, code in enumerate(_CODES):
                self.gateway.answered(engine, code, (began + took)[outcomes == outcome])
        for index, process in enumerate(serving):
            mine = chosen == index
            process.coming.append((began[mine], epoch))
            process.pending.append(((began + took)[mine], np.full(mine.sum(), epoch), codes[mine]))
            if process.counts_silence and (slow := mine & (took > SILENT[0])).any():
                process.silent.append((began[slow], (began + took)[slow], epoch))

    def _see_pods(self, now: float) -> None:
        """Update the list of scraped pods: pods are scraped from their creation, and respond when they are Ready."""
        there: dict[str, Mapping[str, Any]] = {pod["metadata"]["name"]: pod for pod in self.cluster.all(POD)}
        self.processes = {name: process for name, process in self.processes.items() if name in there} | {
            name: self._process(name, pod, now) for name, pod in there.items() if name not in self.processes
        }
        for name, process in self.processes.items():
            conditions = there[name].get("status", {}).get("conditions", ())
            process.ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _process(self, name: str, pod: Mapping[str, Any], now: float) -> Process:
        engine = pod["metadata"]["labels"][LABEL_ENGINE_REVISION]
        if engine not in self._engines:
            records = (record["metadata"]["labels"] for record in self.cluster.all(CONTROLLER_REVISION))
            self._engines |= {labels[LABEL_ENGINE_REVISION]: labels[LABEL_REVISION] for labels in records}
        labels = {"instance": name, "job": "pods", "namespace": NAMESPACE, "engine_revision": engine}
        labels |= {"deployment": pod["metadata"]["labels"][LABEL_DEPLOYMENT]}
        offset = round(self.random.uniform(0, SCRAPE_SECONDS), 3)
        process = Process(labels, self._engines[engine], offset, self.prometheus, now)
        process.began = self._epochs if self.load.labelled_late else None
        if self.load.failing:
            canary = self.first not in {None, process.revision}
            process.failing, process.skipped = self.load.failing[canary], self.load.skipped[canary]
        process.counts_silence = not (self.load.old_pods or self.load.labelled_late)
        self.processes_ever.append(process)
        return process

    # True counts -----------------------------------------------------------------------------------------------

    def held(self, state: TrialState, canary: str) -> tuple[Totals, Totals]:
        """The scraped counts n1, x1, n0, x0 of the trial's epochs between `since` and `until`, and how many of them the
        counters do not show.

        The operator does not know when processes restart. If a counter was reset and has exceeded its former value
        before the next scrape, the former value cannot be read from it.
        """
        since, until = (round(moment.timestamp() * 1000) for moment in (state.since, state.until))
        epochs = [epoch for epoch, told in state.epochs.items() if told.weight]
        sums = {side: np.zeros((2, len(_OUTCOMES)), np.int64) for side in (True, False)}
        for process in self.processes_ever:
            value, life = np.zeros_like(process.counts[:, :, 0]), np.full_like(process.counts[:, :, 0], -1)
            for at, its_life, requests in process.shown:
                if at > until:
                    break
                shows = requests > 0
                anew = shows & (life != its_life)
                if at > since:
                    grown = np.where(anew, requests, requests - value) * shows
                    overtaken = np.where(anew & (requests >= value), value, 0)
                    sums[process.revision == canary] += np.stack([grown, overtaken])[:, epochs].sum(axis=1)
                value, life = np.where(shows, requests, value), np.where(shows, its_life, life)
        of_canary, of_stable = sums[True], sums[False]
        held, hidden = (
            Totals(*map(int, (of_canary[i].sum(), of_canary[i, 1], of_stable[i].sum(), of_stable[i, 1])))
            for i in (0, 1)
        )
        return held, hidden
