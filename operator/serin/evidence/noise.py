"""Detects a metric that is noisy on the stable alone: the stable's processes differ by more than chance.

Then a difference between canary and stable may be a difference between any two pods. A noisy metric cannot prove a
promotion, but can still cause a rollback. Two methods compare the stable's processes with each other. An A/A comparison
of two halves of them, in both directions, finds halves that differ permanently. The dispersion finds bad requests that
gather in single processes, permanently or at times. With one process there is nothing to compare.

The A/A comparison uses the closed form instead of the exact test: the halves are about equally large, so the exact law
would have a large support and take long, and this result is not urgent. Called by `serin.analysis.update`.
Specification: docs/reference/decision-engine.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serin.evidence import stored
from serin.evidence.closed_form import ClosedForm
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.metric import MetricParameters
from serin.evidence.slices import LOG_PRIOR, Counts, Totals

ALPHA = 0.1
"""Upper limit on the probability that the A/A comparison reports a difference between equal pods."""
OVERDISPERSED = 1.3
"""Smallest dispersion, Pearson's statistic per degree of freedom, that counts as noise; chance gives 1."""
SURE = 3.0
"""Number of standard errors by which the dispersion must exceed 1 as well."""
EXPECTED = 5
"""Bad requests, and good requests, per process that a comparison needs; with fewer the statistic is not reliable."""
MOST_BY_FREEDOM = 4.0
"""The most that a stretch adds per degree of freedom, so that one restart of a pod, which loses slow answers, is not
reported as noise."""
CAP = 0.5
"""The most that one interval adds to the A/A comparison, as a share of its threshold; for the same reason."""
STRETCH_SECONDS = 150.0
"""Shortest duration of a stretch of time that is compared. Processes are scraped at different times, so short
stretches would not cover the same requests."""
MOST_PROCESSES = 64
"""Largest number of processes that are compared; further ones are ignored."""


@dataclass(frozen=True)
class Dispersion:
    """Pearson's statistic over the processes, summed over stretches of time.

    A stretch ends when it is long enough and has enough good and bad requests.
    """

    open: FrozenMap[str, Counts] = EMPTY
    """By process, the counts of the open stretch."""
    seconds: float = 0.0
    """Duration of the open stretch."""
    statistic: float = 0.0
    """Sum of Pearson's statistic over the finished stretches."""
    freedom: int = 0
    """Sum of the degrees of freedom."""
    between: float = 0.0
    """Sum of the variance between the processes' rates beyond chance, relative to the squared rate, weighted by degrees
    of freedom."""

    def excess(self, margin: float) -> float | None:
        """The dispersion if it is significant and large, else None; 1 is what chance gives.

        It is large if the processes' rates differ by more than the margin that the canary has: with enough requests any
        difference is significant.
        """
        if not self.freedom:
            return None
        phi = self.statistic / self.freedom
        sure = phi > max(OVERDISPERSED, 1 + SURE * (2 / self.freedom) ** 0.5)
        return phi if sure and self.between / self.freedom > (margin - 1) ** 2 else None

    def add(self, processes: Mapping[str, Counts], seconds: float) -> Dispersion:
        """With the requests of each process in `seconds`; compares the processes if the stretch is long enough."""
        grown = dict(self.open)
        for process, more in processes.items():
            grown[process] = grown.get(process, Counts()) + more
        stretch = replace(self, open=FrozenMap(grown), seconds=self.seconds + seconds)
        counts = [each for each in grown.values() if each.requests]
        total = sum(counts, Counts())
        rarer = min(total.bad, total.requests - total.bad)
        if stretch.seconds < STRETCH_SECONDS or len(counts) < 2 or rarer < EXPECTED * len(counts):
            return stretch
        rate = rarer / total.requests
        return stretch.compare([each for each in counts if each.requests * rate >= EXPECTED]).reset()

    def compare(self, counts: Sequence[Counts]) -> Dispersion:
        """With the statistic of a finished stretch, by process."""
        total = sum(counts, Counts())
        n, bad = total.requests, total.bad
        if len(counts) < 2 or not 0 < bad < n:
            return self
        rate, freedom = bad / n, len(counts) - 1
        spread = sum((c.bad - c.requests * rate) ** 2 / c.requests for c in counts) / (rate * (1 - rate))
        # Given all margins, the mean of the statistic is (processes - 1) N / (N - 1).
        spread = min(spread * (n - 1) / n, MOST_BY_FREEDOM * freedom)
        # The variance between the rates that explains this statistic (method of moments).
        requests = n - sum(c.requests * c.requests for c in counts) / n
        return replace(
            self,
            statistic=self.statistic + spread,
            freedom=self.freedom + freedom,
            between=self.between + (spread - freedom) * freedom / requests * (1 - rate) / rate,
        )

    def reset(self) -> Dispersion:
        """Without the open stretch."""
        return replace(self, open=EMPTY, seconds=0.0)

    def state(self) -> dict[str, Any]:
        """The state of the dispersion, for JSON."""
        return {
            "open": {process: [c.requests, c.bad] for process, c in self.open.items()},
            "seconds": self.seconds,
            "statistic": self.statistic,
            "freedom": self.freedom,
            "between": self.between,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Dispersion:
        """A dispersion that continues from `state`."""
        processes = stored.bounded(state["open"], 2 * MOST_PROCESSES)
        return cls(
            open=FrozenMap({process: stored.counts(counts) for process, counts in processes.items()}),
            seconds=stored.finite(state["seconds"]),
            statistic=stored.finite(state["statistic"]),
            freedom=stored.whole(state["freedom"]),
            between=stored.finite(state["between"]),
        )


@dataclass(frozen=True)
class Leaf:
    """The tests of one boundary."""

    one: ClosedForm
    """The test whether the first half is worse than the second."""
    other: ClosedForm
    """The test whether the second half is worse than the first."""
    dispersion: Dispersion = Dispersion()

    def add(self, processes: Mapping[str, Counts], halves: Totals, seconds: float, most: float) -> Leaf:
        """With the counts of an interval; each A/A comparison gains at most `most`.

        Args:
            processes: counts by process.
            halves: counts of the first half in the place of the canary, and of the second in that of the stable.
            seconds: duration of the interval.
            most: upper limit on what one interval adds to the logarithm of an e-value.
        """
        swapped = Totals(halves.n0, halves.x0, halves.n1, halves.x1)
        return Leaf(
            _limited(self.one, halves, most),
            _limited(self.other, swapped, most),
            self.dispersion.add(processes, seconds),
        )


def _limited(form: ClosedForm, totals: Totals, most: float) -> ClosedForm:
    grown = form.add(totals)
    excess = max(0.0, grown.log_e - form.log_e - most)
    return replace(grown, logs=tuple([log - excess for log in grown.logs]))


@dataclass(frozen=True)
class Noise:
    """The running noise tests of one metric."""

    parameters: MetricParameters
    halves: FrozenMap[str, int] = EMPTY
    """The half, 0 or 1, of each process; a new process joins the smaller half."""
    leaves: tuple[Leaf, ...] = ()
    """One per boundary; empty before the first request."""
    pool: FrozenMap[str, tuple[Counts, ...]] = EMPTY
    """By process, the counts by leaf that no comparison has yet."""
    pool_seconds: float = 0.0
    """The time that they cover."""

    @property
    def _threshold(self) -> float:
        return math.log(2 * self.parameters.leaves / ALPHA)

    @property
    def halves_differ(self) -> bool:
        """Whether one half of the processes is worse than the other by more than the canary's margin."""
        return any(max(leaf.one.log_e, leaf.other.log_e) >= self._threshold for leaf in self.leaves)

    @property
    def dispersion(self) -> float | None:
        """The largest `Dispersion.excess` over the leaves; None if the processes differ by chance only."""
        margin = self.parameters.margin
        return max((excess for leaf in self.leaves if (excess := leaf.dispersion.excess(margin))), default=None)

    @property
    def noisy(self) -> bool:
        """Whether the processes differ by more than chance."""
        return self.halves_differ or self.dispersion is not None

    def add(self, processes: Mapping[str, Sequence[Counts]], seconds: float, *, pooled: float = 0.0) -> Noise:
        """The tests with the counts of an interval.

        Args:
            processes: counts by process, and then by leaf.
            seconds: duration of the interval.
            pooled: seconds that are compared at once, at least: a scrape interval. In a shorter time only some of the
                processes are scraped, and two halves that are never counted in the same time are never compared.
        """
        pool = dict(self.pool)
        for process, more in processes.items():
            known = pool.get(process, (Counts(),) * len(more))
            if process in pool or len(pool) < 2 * MOST_PROCESSES:
                pool[process] = tuple(a + b for a, b in zip(known, more, strict=True))
        covered = self.pool_seconds + seconds
        if not pool:
            return replace(self, pool_seconds=0.0) if self.pool_seconds else self
        if covered < pooled:
            return replace(self, pool=FrozenMap(pool), pool_seconds=covered)
        return self._compare(pool, covered)

    def _compare(self, processes: Mapping[str, Sequence[Counts]], seconds: float) -> Noise:
        """The tests with these counts, which were pooled, and an empty pool."""
        noise = replace(self._with_halves_of(processes), pool=EMPTY, pool_seconds=0.0)
        known = {process: counts for process, counts in processes.items() if process in noise.halves}
        leaves = []
        for index, leaf in enumerate(noise.leaves):
            counts = {process: by_leaf[index] for process, by_leaf in known.items()}
            one, other = (
                sum([c for process, c in counts.items() if noise.halves[process] == half], Counts()) for half in (1, 0)
            )
            halves = Totals(one.requests, one.bad, other.requests, other.bad)
            leaves.append(leaf.add(counts, halves, seconds, CAP * self._threshold))
        return replace(noise, leaves=tuple(leaves))

    def _with_halves_of(self, processes: Mapping[str, Sequence[Counts]]) -> Noise:
        """Puts each new process into the half with fewer running processes, so that replaced pods empty no half."""
        form = ClosedForm(self.parameters.margin)
        leaves, halves = self.leaves or (Leaf(form, form),) * self.parameters.leaves, self.halves
        for process in sorted(processes.keys() - halves.keys()):
            # A process that missed one scrape is not gone.
            recent = processes.keys() | leaves[0].dispersion.open.keys()
            if len(halves) >= MOST_PROCESSES:
                gone = next((known for known in halves if known not in recent), None)
                if gone is None:
                    break
                halves = halves.without(gone)
            running = [halves[known] for known in processes if known in halves]
            halves = halves.put(process, int(2 * sum(running) < len(running)))
            # The counts of the others cover a different time.
            leaves = tuple(replace(leaf, dispersion=leaf.dispersion.reset()) for leaf in leaves)
        return replace(self, halves=halves, leaves=leaves)

    def state(self) -> dict[str, Any]:
        """The state of the tests, for JSON; its size is bounded by leaves and MOST_PROCESSES."""
        return {
            "halves": dict(self.halves),
            "pool": {process: [[c.requests, c.bad] for c in leaves] for process, leaves in self.pool.items()},
            "poolSeconds": self.pool_seconds,
            "leaves": [
                {"one": list(leaf.one.logs), "other": list(leaf.other.logs), **leaf.dispersion.state()}
                for leaf in self.leaves
            ],
        }

    @classmethod
    def from_state(cls, parameters: MetricParameters, state: Mapping[str, Any]) -> Noise:
        """Tests that continue from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        form = ClosedForm(parameters.margin)
        try:
            halves = stored.bounded(state["halves"], MOST_PROCESSES)
            leaves = tuple(
                Leaf(
                    replace(form, logs=stored.logs(written["one"], like=LOG_PRIOR)),
                    replace(form, logs=stored.logs(written["other"], like=LOG_PRIOR)),
                    Dispersion.from_state(written),
                )
                for written in state["leaves"]
            )
            # Version 0.1 stored no pool.
            pool = {
                process: tuple(map(stored.counts, counts))
                for process, counts in stored.bounded(state.get("pool", {}), 2 * MOST_PROCESSES).items()
            }
            noise = cls(
                parameters,
                FrozenMap({name: stored.whole(half) & 1 for name, half in halves.items()}),
                leaves,
                FrozenMap(pool),
                stored.finite(state.get("poolSeconds", 0.0)),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The stored state of the noise test is damaged: {error}.") from error
        if len(leaves) not in {0, parameters.leaves} or any(len(each) != parameters.leaves for each in pool.values()):
            raise ValueError("The stored state of the noise test has a different number of boundaries.")
        return noise
