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
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.closed_form import ClosedForm
from serin.evidence.metric import MetricParameters
from serin.evidence.slices import Slice

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

ProcessCounts = tuple[int, int]
"""Requests of one process, and bad requests among them."""


@dataclass
class Dispersion:
    """Pearson's statistic over the processes, summed over stretches of time.

    A stretch ends when it is long enough and has enough good and bad requests.
    """

    open: dict[str, ProcessCounts] = field(default_factory=dict)
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

    def add(self, processes: Mapping[str, ProcessCounts], seconds: float) -> None:
        """Add requests of each process in `seconds`, and compare the processes if the stretch is long enough."""
        self.seconds += seconds
        for process, (n, x) in processes.items():
            had_n, had_x = self.open.get(process, (0, 0))
            self.open[process] = (had_n + n, had_x + x)
        counts = [(n, x) for n, x in self.open.values() if n]
        total, bad = sum(n for n, _ in counts), sum(x for _, x in counts)
        enough = len(counts) > 1 and min(bad, total - bad) >= EXPECTED * len(counts)
        if enough and self.seconds >= STRETCH_SECONDS:
            rarer = min(bad, total - bad) / total
            self._compare([(n, x) for n, x in counts if n * rarer >= EXPECTED])
            self.reset()

    def _compare(self, counts: Sequence[ProcessCounts]) -> None:
        total, bad = sum(n for n, _ in counts), sum(x for _, x in counts)
        if len(counts) < 2 or not 0 < bad < total:
            return
        rate, freedom = bad / total, len(counts) - 1
        spread = sum((x - n * rate) ** 2 / n for n, x in counts) / (rate * (1 - rate))
        # Given all margins, the mean of the statistic is (processes - 1) N / (N - 1).
        spread = min(spread * (total - 1) / total, MOST_BY_FREEDOM * freedom)
        self.statistic += spread
        self.freedom += freedom
        # The variance between the rates that explains this statistic (method of moments).
        requests = total - sum(n * n for n, _ in counts) / total
        self.between += (spread - freedom) * freedom / requests * (1 - rate) / rate

    def reset(self) -> None:
        """Discard the open stretch."""
        self.open.clear()
        self.seconds = 0.0


@dataclass
class Leaf:
    """The tests of one boundary."""

    one: ClosedForm
    """The test whether the first half is worse than the second."""
    other: ClosedForm
    """The test whether the second half is worse than the first."""
    dispersion: Dispersion = field(default_factory=Dispersion)


@dataclass
class Noise:
    """The running noise tests of one metric."""

    parameters: MetricParameters
    halves: dict[str, int] = field(default_factory=dict)
    """The half, 0 or 1, of each process; a new process joins the smaller half."""
    leaves: list[Leaf] = field(default_factory=list)
    """One per boundary; empty before the first request."""

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

    def add(self, processes: Mapping[str, Sequence[ProcessCounts]], seconds: float) -> None:
        """Add the counts of an interval of `seconds`: by process, and then by leaf."""
        self._assign_halves(processes)
        known = {process: pairs for process, pairs in processes.items() if process in self.halves}
        for index, leaf in enumerate(self.leaves):
            counts = {process: pairs[index] for process, pairs in known.items()}
            (n1, x1), (n0, x0) = (self._half(counts, half) for half in (1, 0))
            for form, s in ((leaf.one, Slice(n1, x1, n0, x0)), (leaf.other, Slice(n0, x0, n1, x1))):
                before = form.log_e
                form.add(s)
                excess = max(0.0, form.log_e - before - CAP * self._threshold)
                form.logs = [log - excess for log in form.logs]
            leaf.dispersion.add(counts, seconds)

    def _half(self, counts: Mapping[str, ProcessCounts], half: int) -> ProcessCounts:
        pairs = [pair for process, pair in counts.items() if self.halves[process] == half]
        return sum(n for n, _ in pairs), sum(x for _, x in pairs)

    def _assign_halves(self, processes: Mapping[str, Sequence[ProcessCounts]]) -> None:
        """Put each new process into the half with fewer running processes, so that replaced pods empty no half."""
        if not self.leaves:
            rho = self.parameters.margin
            self.leaves = [Leaf(ClosedForm(rho), ClosedForm(rho)) for _ in range(self.parameters.leaves)]
        for process in sorted(processes.keys() - self.halves.keys()):
            # A process that missed one scrape is not gone.
            recent = processes.keys() | self.leaves[0].dispersion.open.keys()
            gone = next((known for known in self.halves if known not in recent), None)
            if len(self.halves) >= MOST_PROCESSES:
                if gone is None:
                    return
                del self.halves[gone]
            there = [self.halves[known] for known in processes if known in self.halves]
            self.halves[process] = int(2 * sum(there) < len(there))
            for leaf in self.leaves:
                leaf.dispersion.reset()  # the counts of the others cover a different time

    def state(self) -> dict[str, Any]:
        """The state of the tests, for JSON; its size is bounded by leaves and MOST_PROCESSES."""
        return {
            "halves": dict(self.halves),
            "leaves": [
                {
                    "one": leaf.one.logs,
                    "other": leaf.other.logs,
                    "open": {process: list(pair) for process, pair in leaf.dispersion.open.items()},
                    "seconds": leaf.dispersion.seconds,
                    "statistic": leaf.dispersion.statistic,
                    "freedom": leaf.dispersion.freedom,
                    "between": leaf.dispersion.between,
                }
                for leaf in self.leaves
            ],
        }

    @classmethod
    def from_state(cls, parameters: MetricParameters, state: Mapping[str, Any]) -> Noise:
        """Tests that continue from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        try:
            halves = {str(process): int(half) & 1 for process, half in state["halves"].items()}
            leaves = [
                Leaf(
                    _closed_form(parameters, stored["one"]),
                    _closed_form(parameters, stored["other"]),
                    Dispersion(
                        {str(process): (int(n), int(x)) for process, (n, x) in stored["open"].items()},
                        float(stored["seconds"]),
                        float(stored["statistic"]),
                        int(stored["freedom"]),
                        float(stored["between"]),
                    ),
                )
                for stored in state["leaves"]
            ]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"The stored state of the noise test is damaged ({error}); start the trial anew."
            ) from error
        if len(leaves) not in {0, parameters.leaves}:
            raise ValueError(
                "The stored state of the noise test has a different number of boundaries; start the trial anew."
            )
        return cls(parameters, halves, leaves)


def _closed_form(parameters: MetricParameters, logs: Sequence[float]) -> ClosedForm:
    form = ClosedForm(parameters.margin)
    if len(logs) != len(form.logs):
        raise ValueError("different number of alternatives")
    form.logs = [float(log) for log in logs]
    return form
