"""Is a metric noisy on the stable alone? Then a difference between the two sides may be one between any two pods.

Looks at one revision's processes among themselves, in two ways. An A/A comparison of one half of them with the other,
in both directions, finds halves that differ for good; the dispersion finds bad requests that gather in single
processes, be it always or now and then. Whoever is noisy cannot prove a promotion, and keeps its right to roll back
(docs/reference/decision-engine.md, section 5). Fed by `serin.analysis.update`. With one process nothing can be seen.

The A/A comparison is the closed form and not the exact test: halves are about equally large, so that the support of the
exact law is, too, and nobody waits for this answer.
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
"""Probability of calling the halves of a stable whose pods are alike different, at the most."""
OVERDISPERSED = 1.3
"""Pearson's statistic by its degrees of freedom; 1 is what chance gives."""
SURE = 3.0
"""Standard errors that the dispersion must lie above 1, too."""
EXPECTED = 5
"""Bad requests, and good ones, by process before they are compared: below, the statistic follows no law."""
MOST_BY_FREEDOM = 4.0
"""The most that a stretch adds by degree of freedom: one pod that restarts, and loses its slow answers, is no noise."""
CAP = 0.5
"""The most that one interval adds to the A/A comparison, as a share of what makes it noisy; for the same reason."""
STRETCH_SECONDS = 150.0
"""A stretch lasts at least so long: processes are not scraped at one moment, so its ends differ between them."""
MOST_PROCESSES = 64
"""So many are told apart; of more, the first ones."""

Pair = tuple[int, int]
"""Requests, and bad ones among them."""


@dataclass
class Dispersion:
    """Pearson's statistic over the processes, summed over stretches of time that are long enough."""

    open: dict[str, Pair] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the open stretch has lasted."""
    statistic: float = 0.0
    freedom: int = 0
    between: float = 0.0
    """Sum of what the processes' rates vary by beyond chance: squared, relative to the rate, by degree of freedom."""

    def excess(self, margin: float) -> float | None:
        """How many times more the processes differ than by chance; None where that is not sure, or not large.

        It is large where the rates of processes lie further from each other than a canary may from the stable: with
        enough requests any difference is sure.
        """
        if not self.freedom:
            return None
        phi = self.statistic / self.freedom
        sure = phi > max(OVERDISPERSED, 1 + SURE * (2 / self.freedom) ** 0.5)
        return phi if sure and self.between / self.freedom > (margin - 1) ** 2 else None

    def add(self, processes: Mapping[str, Pair], seconds: float) -> None:
        """Take some requests of each process into account, and compare the processes if enough has come together."""
        self.seconds += seconds
        for process, (n, x) in processes.items():
            had_n, had_x = self.open.get(process, (0, 0))
            self.open[process] = (had_n + n, had_x + x)
        shown = [(n, x) for n, x in self.open.values() if n]
        total, bad = sum(n for n, _ in shown), sum(x for _, x in shown)
        enough = len(shown) > 1 and min(bad, total - bad) >= EXPECTED * len(shown)
        if enough and self.seconds >= STRETCH_SECONDS:
            rarer = min(bad, total - bad) / total
            self._compare([(n, x) for n, x in shown if n * rarer >= EXPECTED])
            self.begin_anew()

    def _compare(self, shown: Sequence[Pair]) -> None:
        total, bad = sum(n for n, _ in shown), sum(x for _, x in shown)
        if len(shown) < 2 or not 0 < bad < total:
            return
        rate, freedom = bad / total, len(shown) - 1
        spread = sum((x - n * rate) ** 2 / n for n, x in shown) / (rate * (1 - rate))
        # Given all margins, its mean is (processes - 1) N / (N - 1).
        spread = min(spread * (total - 1) / total, MOST_BY_FREEDOM * freedom)
        self.statistic += spread
        self.freedom += freedom
        # What a variance between the rates adds to the mean of the statistic, solved for it (method of moments).
        requests = total - sum(n * n for n, _ in shown) / total
        self.between += (spread - freedom) * freedom / requests * (1 - rate) / rate

    def begin_anew(self) -> None:
        """Forget the open stretch."""
        self.open.clear()
        self.seconds = 0.0


@dataclass
class Leaf:
    """What is remembered of one boundary."""

    one: ClosedForm
    """Whether the first half is worse than the second."""
    other: ClosedForm
    """The other way round."""
    dispersion: Dispersion = field(default_factory=Dispersion)


@dataclass
class Noise:
    """One metric's noise; JSON in between, as `serin.evidence.metric`."""

    parameters: MetricParameters
    halves: dict[str, int] = field(default_factory=dict)
    """Which half a process is in; a new one joins the smaller."""
    leaves: list[Leaf] = field(default_factory=list)
    """Empty before the first request."""

    @property
    def _threshold(self) -> float:
        return math.log(2 * self.parameters.leaves / ALPHA)

    @property
    def halves_differ(self) -> bool:
        """Whether one half of the processes is worse than the other, beyond the margin that the canary has as well."""
        return any(max(leaf.one.log_e, leaf.other.log_e) >= self._threshold for leaf in self.leaves)

    @property
    def dispersion(self) -> float | None:
        """The largest excess over the leaves; None where the processes differ by chance only."""
        margin = self.parameters.margin
        return max((excess for leaf in self.leaves if (excess := leaf.dispersion.excess(margin))), default=None)

    @property
    def noisy(self) -> bool:
        """Whether the processes differ by more than chance."""
        return self.halves_differ or self.dispersion is not None

    def add(self, processes: Mapping[str, Sequence[Pair]], seconds: float) -> None:
        """Take into account what the processes showed in an interval of so many seconds, by leaf."""
        self._take_in(processes)
        known = {process: pairs for process, pairs in processes.items() if process in self.halves}
        for index, leaf in enumerate(self.leaves):
            shown = {process: pairs[index] for process, pairs in known.items()}
            (n1, x1), (n0, x0) = (self._half(shown, half) for half in (1, 0))
            for form, s in ((leaf.one, Slice(n1, x1, n0, x0)), (leaf.other, Slice(n0, x0, n1, x1))):
                before = form.log_e
                form.add(s)
                excess = max(0.0, form.log_e - before - CAP * self._threshold)
                form.logs = [log - excess for log in form.logs]
            leaf.dispersion.add(shown, seconds)

    def _half(self, shown: Mapping[str, Pair], half: int) -> Pair:
        pairs = [pair for process, pair in shown.items() if self.halves[process] == half]
        return sum(n for n, _ in pairs), sum(x for _, x in pairs)

    def _take_in(self, processes: Mapping[str, Sequence[Pair]]) -> None:
        """Give each new process a half: the smaller one of those that are there, or a replaced pod would empty one."""
        if not self.leaves:
            rho = self.parameters.margin
            self.leaves = [Leaf(ClosedForm(rho), ClosedForm(rho)) for _ in range(self.parameters.leaves)]
        for process in sorted(processes.keys() - self.halves.keys()):
            # Who missed one scrape is not gone.
            recent = processes.keys() | self.leaves[0].dispersion.open.keys()
            gone = next((known for known in self.halves if known not in recent), None)
            if len(self.halves) >= MOST_PROCESSES:
                if gone is None:
                    return
                del self.halves[gone]
            there = [self.halves[known] for known in processes if known in self.halves]
            self.halves[process] = int(2 * sum(there) < len(there))
            for leaf in self.leaves:
                leaf.dispersion.begin_anew()  # what the others showed before was another time

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON; bounded by leaves and MOST_PROCESSES."""
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
        """Go on where `state` was taken, under the same parameters.

        Raises:
            ValueError: it is of another version, or damaged.
        """
        try:
            halves = {str(process): int(half) & 1 for process, half in state["halves"].items()}
            leaves = [
                Leaf(
                    _closed_form(parameters, kept["one"]),
                    _closed_form(parameters, kept["other"]),
                    Dispersion(
                        {str(process): (int(n), int(x)) for process, (n, x) in kept["open"].items()},
                        float(kept["seconds"]),
                        float(kept["statistic"]),
                        int(kept["freedom"]),
                        float(kept["between"]),
                    ),
                )
                for kept in state["leaves"]
            ]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The state of the noise is damaged ({error}); start the trial anew.") from error
        if len(leaves) not in {0, parameters.leaves}:
            raise ValueError("The state of the noise has another number of boundaries; start the trial anew.")
        return cls(parameters, halves, leaves)


def _closed_form(parameters: MetricParameters, logs: Sequence[float]) -> ClosedForm:
    form = ClosedForm(parameters.margin)
    if len(logs) != len(form.logs):
        raise ValueError("another number of alternatives")
    form.logs = [float(log) for log in logs]
    return form
